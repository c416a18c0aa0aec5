"""Inference sessions: a network frozen for prediction, called from any number of threads with any batch.

What enters: the graph of a block or of a loaded model, and its parameters. What leaves: results for arrays
with any number of rows. Who calls: `HybridBlock.compile` and `mxpipe.model`.

A plan is made for each of a few batch sizes, when it is first needed. Other batches are padded up to the next
size, or split where padding would more than double the work, so that no request waits for a plan of its own.
All plans and threads read the same parameters. Parameters of a loaded model are mapped from its file:
processes that serve the same model share its pages (kernels that want weights in a format of their own keep
copies). Scales and shifts of channels, such as batch norm's, are folded into the weights before them, so the
last bits may differ from the block's.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from mxpipe import _native, amp, np
from mxpipe._native import Array
from mxpipe.errors import BlockError, MxpipeError

__all__ = ["BATCH_SIZES", "Session"]

BATCH_SIZES = (1, 8, 64, 512, 4096)


class Session:
    """A frozen computation over rows. All methods may be called from several threads at once.

    Args:
        graph: Its inputs are first those of a call, then the parameters. The first axis of each of a call's
            inputs and of each output counts rows, which must not depend on each other.
        parameters: Values of the other inputs, in order. They must not change any more.
        sizes: Batch sizes that get a plan.
        precision: "float32" or "bfloat16"; None takes what `amp.init` chose.

    Raises:
        BlockError: The outputs have not one row for each of the inputs.

    Example:
        >>> import mxpipe as mx
        >>> net = mx.gluon.nn.Dense(2, in_units=3)
        >>> net.initialize()
        >>> session = net.compile(mx.np.ones((1, 3)))
        >>> session(mx.np.ones((5, 3))).shape
        (5, 2)
    """

    def __init__(
        self,
        graph: Any,
        parameters: Sequence[Array],
        sizes: Sequence[int] = BATCH_SIZES,
        precision: Any = None,
    ) -> None:
        self.sizes = tuple(sorted(set(sizes)))
        if not self.sizes or self.sizes[0] < 1:
            raise BlockError(f"[session] sizes must be at least one positive number; got {tuple(sizes)}.")
        self.precision = amp.precision(precision)
        self._graph = graph
        self._count = len(graph.inputs) - len(parameters)
        self._parameters: Mapping[int, Array] = dict(enumerate(parameters, self._count))
        self._kinds = [(shape[1:], dtype) for _, shape, dtype in graph.inputs[: self._count]]
        self._plans: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._check_rows()

    def _check_rows(self) -> None:
        rows = max(self.sizes) + 1  # of no other axis, most likely
        shapes = [shape for _, shape, _ in self.graph_for(rows).outputs]
        if any(not shape or shape[0] != rows for shape in shapes):
            raise BlockError(
                f"[session] for {rows} rows each output must have {rows} rows; got shapes {shapes}."
            )

    def graph_for(self, rows: int) -> Any:
        """The graph with the types of a batch of so many rows."""
        types = [((rows, *rest), dtype) for rest, dtype in self._kinds]
        types += [(shape, dtype) for _, shape, dtype in self._graph.inputs[self._count :]]
        return self._graph.retype(types)

    def plan(self, size: int) -> Any:
        """The compiled function for exactly so many rows."""
        plan = self._plans.get(size)
        if plan is None:
            with self._lock:
                plan = self._plans.get(size)
                if plan is None:
                    graph = self.graph_for(size)
                    plan = self._plans[size] = graph.compile(
                        self._parameters, precision=self.precision, fold=True
                    )
        return plan

    def __call__(self, *inputs: Any) -> Any:
        """Compute the rows of a batch.

        Args:
            inputs: Arrays or NumPy arrays (n, ...), as the graph takes them.

        Returns:
            An array (n, ...), or a tuple of them; NumPy arrays where the first input is one.

        Raises:
            BlockError: The number of inputs, a shape or a dtype is wrong.
        """
        arrays = [x if type(x) is Array else _native.array(x, copy=False) for x in inputs]
        results = self._run_planned(arrays) or self._run(arrays)
        if isinstance(inputs[0], numpy.ndarray):
            results = [result.asnumpy() for result in results]
        return results[0] if len(results) == 1 else tuple(results)

    def _run_planned(self, arrays: list[Array]) -> Sequence[Any]:
        """Of a size that has its plan, which refuses other types itself: half a microsecond less to check."""
        plan = self._plans.get(arrays[0].shape[0]) if arrays and arrays[0].ndim else None
        try:
            return plan(*arrays) if plan else ()
        except MxpipeError:
            return ()

    def _run(self, arrays: list[Array]) -> Sequence[Any]:
        rows = self._rows_of(arrays)
        if rows in self.sizes:
            results: tuple[Any, ...] = self.plan(rows)(*arrays)
            return results
        parts, first = [], 0
        for size in self.split(rows):
            taken = min(size, rows - first)
            padded = self.plan(size)(*[_rows(array, first, taken, size) for array in arrays])
            parts.append([output[:taken] for output in padded])
            first += taken
        if len(parts) == 1:
            return tuple(parts[0])
        return tuple(np.concatenate(list(outputs)) for outputs in zip(*parts, strict=True))

    def _rows_of(self, arrays: list[Array]) -> int:
        if len(arrays) != self._count:
            raise BlockError(f"[session] there must be {self._count} inputs; got {len(arrays)}.")
        rows = arrays[0].shape[0] if arrays[0].ndim else -1
        for array, (rest, dtype) in zip(arrays, self._kinds, strict=True):
            if array.shape != (rows, *rest) or array.dtype != dtype:
                wanted = [(("rows", *rest), str(dtype)) for rest, dtype in self._kinds]
                given = [(array.shape, str(array.dtype)) for array in arrays]
                raise BlockError(f"[session] inputs must be {wanted}; got {given}.")
        return int(rows)

    def split(self, rows: int) -> list[int]:
        """The planned sizes that a batch of so many rows is run as; only the last may be padded.

        Example:
            >>> import mxpipe as mx
            >>> net = mx.gluon.nn.Dense(2, in_units=3)
            >>> net.initialize()
            >>> net.compile(mx.np.ones((1, 3))).split(100)
            [64, 64]
        """
        parts: list[int] = []
        while True:
            enough = next((size for size in self.sizes if size >= rows), None)
            fitting = max((size for size in self.sizes if size <= rows), default=None)
            if fitting is None or (enough is not None and enough <= 2 * rows):
                return [*parts, enough or self.sizes[0]]
            parts.append(fitting)
            rows -= fitting
            if rows == 0:
                return parts


def _rows(array: Array, first: int, taken: int, size: int) -> Array:
    """Rows of an array, followed by zeros up to `size`."""
    part = array if taken == array.shape[0] else array[first : first + taken]
    if taken == size:
        return part
    padding = np.zeros((size - taken, *array.shape[1:]), dtype=array.dtype)
    return np.concatenate([part, padding])
