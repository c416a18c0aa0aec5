"""Plans as tables of text."""

from __future__ import annotations

from .plan import PlanView, Step

__all__ = ["kind_table", "megabytes", "step_table", "summary"]


def megabytes(count: float) -> str:
    """Bytes for people."""
    if count < 1 << 20:
        return f"{count / 1024:.1f} KiB"
    return f"{count / (1 << 20):.1f} MiB"


def summary(plan: PlanView) -> str:
    """Sizes, operations and, where it was profiled, the time of a run."""
    moves = [step for step in plan.steps if step.op == "transpose"]
    packs = sum(1 for step in plan.steps for operand in step.inputs if operand.packed_bytes)
    every_run = sum(
        operand.packed_bytes for step in plan.steps for operand in step.inputs if not operand.packed_once
    )
    lines = [
        f"{len(plan.steps)} steps, {plan.flops / 1e9:.3f} GFLOP, {megabytes(plan.bytes)} of operands",
        f"predicted peak {megabytes(plan.peak_bytes)}: inputs {megabytes(plan.input_bytes)}, arena"
        f" {megabytes(plan.arena_bytes)} (scratch {megabytes(plan.scratch_bytes)}), outputs"
        f" {megabytes(plan.output_bytes)}, constants {megabytes(plan.constant_bytes)}, kept packs"
        f" {megabytes(plan.packed_bytes)}",
        f"{packs} inputs in formats of the kernels' own ({megabytes(every_run)} packed where they change);"
        f" {len(moves)} transposes ({megabytes(sum(step.bytes for step in moves))}),"
        f" {megabytes(plan.copies)} copied at the end",
    ]
    if plan.run_seconds is not None and plan.seconds is not None:
        rate = plan.flops / plan.seconds / 1e9 if plan.seconds else 0.0
        lines.append(
            f"a run takes {plan.run_seconds * 1e3:.3f} ms (mean of {plan.runs}); the steps' best times sum to"
            f" {plan.seconds * 1e3:.3f} ms, {rate:.1f} GFLOP/s"
        )
    return "\n".join(lines)


def step_table(plan: PlanView, *, by_time: bool = False, limit: int | None = None) -> str:
    """One line a step: time and share where profiled, operations, bytes, rates, kernel, operands."""
    steps = list(plan.steps)
    if by_time:
        steps.sort(key=lambda step: -(step.seconds or 0.0))
    shown = steps[:limit]
    whole = plan.seconds or 0.0
    header = "   step        ms  share     MFLOP       MiB  GFLOP/s    GB/s  kernel"
    lines = [header if plan.runs else "   step     MFLOP       MiB  kernel"]
    lines += [_step_line(step, whole, bool(plan.runs)) for step in shown]
    if len(shown) < len(steps):
        lines.append(f"   ... and {len(steps) - len(shown)} more")
    return "\n".join(lines)


def _step_line(step: Step, whole: float, timed: bool) -> str:
    operands = " ".join(map(str, step.inputs)) + " -> " + " ".join(map(str, step.outputs))
    size = f"{step.flops / 1e6:9.2f} {step.bytes / (1 << 20):9.2f}"
    if not timed:
        return f"{step.number:7d} {size}  {step.kernel}  {operands}"
    seconds = step.seconds or 0.0
    share = seconds / whole if whole else 0.0
    return (
        f"{step.number:7d} {seconds * 1e3:9.4f} {share:6.1%} {size} {_rates(step.flops, step.bytes, seconds)}"
        f"  {step.kernel}  {operands}"
    )


def _rates(flops: int, size: int, seconds: float) -> str:
    if not seconds:
        return f"{'-':>8} {'-':>7}"
    return f"{flops / seconds / 1e9:8.1f} {size / seconds / 1e9:7.1f}"


def kind_table(plan: PlanView) -> str:
    """Steps summed up by op and kernel."""
    whole = plan.seconds or 0.0
    lines = ["  steps        ms  share     MFLOP       MiB  GFLOP/s    GB/s  op: kernel"]
    for kind in plan.by_kind():
        share = kind.seconds / whole if whole else 0.0
        lines.append(
            f"{kind.steps:7d} {kind.seconds * 1e3:9.4f} {share:6.1%} {kind.flops / 1e6:9.2f}"
            f" {kind.bytes / (1 << 20):9.2f} {_rates(kind.flops, kind.bytes, kind.seconds)}"
            f"  {kind.op}: {kind.kernel}"
        )
    return "\n".join(lines)
