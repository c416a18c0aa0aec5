"""Compiled plans as data: steps with bytes and operations, memory over time, seconds of a profile.

Enters: what `_native.plan_report` and `_native.PlanProfile` say. Leaves: `PlanView`, which prints and draws.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mxpipe import _native

from .counts import count_bytes, count_flops

__all__ = ["ArenaBlock", "Kind", "Operand", "PlanView", "Profile", "Step", "profile", "view"]


@dataclass(frozen=True)
class Operand:
    """An array that a step reads or writes.

    Attributes:
        shape: Its dimensions.
        dtype: Its type's name.
        bytes: Its size.
        place: input, constant, arena, output or update (written into an input's memory).
        index: The offset in the arena; else which input, output or constant it is.
        packed_bytes: Size in the kernel's own format; 0 where the kernel reads it as it is.
        packed_once: A constant: packed when the plan was made.
    """

    shape: tuple[int, ...]
    dtype: str
    bytes: int
    place: str
    index: int
    packed_bytes: int = 0
    packed_once: bool = False

    def __str__(self) -> str:
        packed = f" packed {self.packed_bytes:,} B" if self.packed_bytes else ""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]@{self.place}:{self.index}{packed}"


@dataclass(frozen=True)
class Step:
    """One kernel call of a plan.

    Attributes:
        number: Its position.
        op: Name of the op; "elementwise" for a fused program.
        kernel: What the kernel says about itself.
        attributes: Of the op.
        inputs: What it reads.
        outputs: What it writes.
        flops: Operations counted from the shapes.
        bytes: Of all operands, each once; of a gathered table what is read.
        scratch_bytes: What it needs beside its operands.
        sources: Numbers of the steps whose results it reads.
        seconds: Shortest time of a profile; None where there was none.
    """

    number: int
    op: str
    kernel: str
    attributes: dict[str, Any]
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    flops: int
    bytes: int
    scratch_bytes: int
    sources: tuple[int, ...]
    seconds: float | None = None


@dataclass(frozen=True)
class ArenaBlock:
    """Bytes of the arena that hold a step's result.

    Attributes:
        offset: Where it begins.
        bytes: Its size.
        first: The step that writes it.
        last: The last step that reads it.
    """

    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Kind:
    """All steps of one op that run the same kernel.

    Attributes:
        op: Name of the op.
        kernel: What the kernel says about itself.
        steps: How many.
        seconds: Sum of their shortest times; 0 where there was no profile.
        flops: Sum of their operations.
        bytes: Sum of their bytes.
    """

    op: str
    kernel: str
    steps: int
    seconds: float
    flops: int
    bytes: int


@dataclass(frozen=True)
class PlanView:
    """A plan as data. `print(view)` gives the table of its steps.

    Attributes:
        steps: In running order.
        inputs: (name, type and bytes) of what the plan is called with, captured parameters among them.
        arena: Blocks of the arena over the steps.
        arena_bytes: Size of the arena, scratch included.
        scratch_bytes: The part of it that all steps share as scratch.
        input_bytes: Arguments, parameters and optimizer states.
        output_bytes: Fresh results of a run.
        constant_bytes: Constants of the graph.
        packed_bytes: Parameters that are kept a second time, in the kernels' own formats.
        copies: Bytes copied after the last step.
        runs: How often a profile ran it.
        run_seconds: Mean time of a run.
        copies_seconds: Mean time of the copies.
    """

    steps: tuple[Step, ...]
    inputs: tuple[tuple[str, str, int], ...]
    arena: tuple[ArenaBlock, ...]
    arena_bytes: int
    scratch_bytes: int
    input_bytes: int
    output_bytes: int
    constant_bytes: int
    packed_bytes: int
    copies: int
    runs: int = 0
    run_seconds: float | None = None
    copies_seconds: float = 0.0

    @property
    def peak_bytes(self) -> int:
        """What a run holds at once: known before the first one."""
        return (
            self.input_bytes + self.output_bytes + self.constant_bytes + self.packed_bytes + self.arena_bytes
        )

    @property
    def flops(self) -> int:
        """Operations of all steps."""
        return sum(step.flops for step in self.steps)

    @property
    def bytes(self) -> int:
        """Operands of all steps, each step's once."""
        return sum(step.bytes for step in self.steps)

    @property
    def seconds(self) -> float | None:
        """Sum of the steps' shortest times."""
        if not self.runs:
            return None
        return sum(step.seconds or 0.0 for step in self.steps)

    def table(self, *, by_time: bool = False, limit: int | None = None) -> str:
        """The steps as text.

        Args:
            by_time: The slowest first.
            limit: How many at most.
        """
        from .text import step_table

        return step_table(self, by_time=by_time, limit=limit)

    def by_kind(self) -> list[Kind]:
        """The steps summed up by op and kernel, the slowest kind first, without a profile the largest."""
        groups: dict[tuple[str, str], list[Step]] = {}
        for step in self.steps:
            groups.setdefault((step.op, step.kernel), []).append(step)
        kinds = [
            Kind(
                op,
                kernel,
                len(steps),
                sum(step.seconds or 0.0 for step in steps),
                sum(step.flops for step in steps),
                sum(step.bytes for step in steps),
            )
            for (op, kernel), steps in groups.items()
        ]
        return sorted(kinds, key=lambda kind: (kind.seconds, kind.bytes), reverse=True)

    def kinds(self) -> str:
        """The steps summed up by kernel, the slowest (or largest) kind first."""
        from .text import kind_table

        return kind_table(self)

    def draw(self, path: str | os.PathLike[str], title: str = "plan") -> None:
        """Write a drawing of the graph and of the arena over time.

        Args:
            path: A file `.svg`, or `.html` with the table of steps below it.
            title: Stands above it.
        """
        from .draw import to_html, to_svg

        target = Path(path)
        text = to_html(self, title) if target.suffix == ".html" else to_svg(self, title)
        target.write_text(text, encoding="utf-8")

    def __str__(self) -> str:
        from .text import summary

        return f"{summary(self)}\n{self.table()}"


@dataclass
class Profile:
    """Plans that ran within `profile()`, filled when it ends.

    Attributes:
        plans: In the order of their first run.
    """

    plans: list[PlanView] = field(default_factory=list)


@contextmanager
def profile() -> Iterator[Profile]:
    """Time every step of the plans that this thread runs in the scope.

    Example:
        >>> import mxpipe as mx
        >>> net = mx.gluon.nn.Dense(2, in_units=3)
        >>> net.initialize()
        >>> net.hybridize()
        >>> with mx.inspection.profile() as seen:
        ...     outputs = [net(mx.np.ones((4, 3))) for _ in range(3)]
        >>> seen.plans[0].runs, seen.plans[0].steps[0].flops
        (3, 48)
    """
    result = Profile()
    recorder = _native.PlanProfile()
    try:
        with recorder:
            yield result
    finally:
        result.plans = [_view(report) for report in recorder.plans()]


def view(compiled: Any) -> PlanView:
    """The plan of a compiled function, made if it was not; nothing runs."""
    return _view(_native.plan_report(compiled))


def _view(report: dict[str, Any]) -> PlanView:
    runs = report.get("runs", 0)
    producers = _Tenants()
    steps = []
    for number, raw in enumerate(report["steps"]):
        inputs, outputs = _operands(raw["inputs"]), _operands(raw["outputs"])
        sources = tuple(sorted({source for operand in inputs for source in producers.read(operand, number)}))
        for operand in outputs:
            producers.write(operand, number)
        steps.append(
            Step(
                number,
                raw["op"],
                raw["kernel"],
                raw["attributes"],
                inputs,
                outputs,
                count_flops(raw),
                count_bytes(raw),
                raw["scratch_bytes"],
                sources,
                report["best_seconds"][number] if runs else None,
            )
        )
    for copy in report["copies"]:
        place, index = copy["from"]
        producers.read(Operand(copy["shape"], copy["dtype"], copy["bytes"], place, index), len(steps))
    return PlanView(
        steps=tuple(steps),
        inputs=tuple((one["name"], _kind(one), one["bytes"]) for one in report["inputs"]),
        arena=tuple(producers.blocks()),
        arena_bytes=report["arena_bytes"],
        scratch_bytes=report["scratch_bytes"],
        input_bytes=sum(one["bytes"] for one in report["inputs"]),
        output_bytes=sum(one["bytes"] for one in report["outputs"]),
        constant_bytes=report["constant_bytes"],
        packed_bytes=_kept_packs(steps),
        copies=sum(copy["bytes"] for copy in report["copies"]),
        runs=runs,
        run_seconds=report["run_seconds"] / runs if runs else None,
        copies_seconds=report["copies_seconds"] / runs if runs else 0.0,
    )


def _kind(entry: dict[str, Any]) -> str:
    return f"{entry['dtype']}[{','.join(map(str, entry['shape']))}]"


def _operands(entries: list[dict[str, Any]]) -> tuple[Operand, ...]:
    operands = []
    for entry in entries:
        place, index = entry["home"]
        if place == "none":
            continue
        packing = entry["packed_bytes"], entry["packed_once"]
        operands.append(
            Operand(tuple(entry["shape"]), entry["dtype"], entry["bytes"], place, index, *packing)
        )
    return tuple(operands)


def _kept_packs(steps: list[Step]) -> int:
    """Packs of constants, and those of parameters where no step updates them."""
    updates = any(operand.place == "update" for step in steps for operand in step.outputs)
    kept = 0
    for step in steps:
        for operand in step.inputs:
            if operand.packed_once or (operand.place == "input" and not updates):
                kept += operand.packed_bytes
    return kept


class _Tenants:
    """Who wrote what a step reads: blocks of the arena by offset, other places by index."""

    def __init__(self) -> None:
        self._elsewhere: dict[tuple[str, int], int] = {}
        self._living: list[list[int]] = []  # offset, end, first, last
        self._gone: list[list[int]] = []

    def read(self, operand: Operand, step: int) -> list[int]:
        if operand.place != "arena":
            key = "input" if operand.place == "update" else operand.place, operand.index
            return [self._elsewhere[key]] if key in self._elsewhere else []
        writers = []
        for block in self._living:
            if block[0] < operand.index + max(operand.bytes, 1) and operand.index < block[1]:
                block[3] = step
                writers.append(block[2])
        return writers

    def write(self, operand: Operand, step: int) -> None:
        if operand.place != "arena":
            key = "input" if operand.place == "update" else operand.place, operand.index
            self._elsewhere[key] = step
            return
        end = operand.index + operand.bytes
        over = [block for block in self._living if block[0] < end and operand.index < block[1]]
        for block in over:
            self._living.remove(block)
            self._gone.append(block)
        self._living.append([operand.index, end, step, step])

    def blocks(self) -> list[ArenaBlock]:
        every = sorted([*self._gone, *self._living], key=lambda block: block[2])
        return [ArenaBlock(start, end - start, first, last) for start, end, first, last in every]
