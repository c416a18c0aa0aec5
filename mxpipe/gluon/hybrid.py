"""HybridBlock: the same `forward`, op by op or as one compiled plan.

Op by op, every op runs when it is called. After `hybridize()` the first call for each signature (shapes and
types of the inputs, train or predict mode) traces `forward` into a graph and compiles it; later calls run
the plan. Parameters are captured by identity, so training and loading are seen by plans that exist.
"""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mxpipe import _native, amp, autograd, np
from mxpipe._native import Array
from mxpipe.errors import BlockError

from .block import Block
from .files import write_arrays
from .plans import Plan, PlanCache
from .session import BATCH_SIZES, Session
from .tree import flatten, unflatten

if TYPE_CHECKING:
    from mxpipe.inspection import PlanView

__all__ = ["BlockTrace", "HybridBlock"]


@dataclass(frozen=True)
class BlockTrace:
    """A block's computation for one signature, as a graph and the arrays that it captured.

    Attributes:
        graph: Its inputs are first those of the block, then the captured arrays.
        inputs: Names of the block's inputs: "data", or "data0", "data1" and so on.
        parameters: Captured arrays in the order of the graph's inputs, under their structural names.
        structure: Nesting of the results, for `unflatten`.
    """

    graph: Any
    inputs: list[str]
    parameters: dict[str, Array]
    structure: Hashable


class _Mode(threading.local):
    """Whether blocks of this thread run op by op although they are hybridized."""

    op_by_op = False


_mode = _Mode()


@contextmanager
def op_by_op() -> Iterator[None]:
    """Scope in which hybridized blocks run `forward` itself."""
    previous, _mode.op_by_op = _mode.op_by_op, True
    try:
        yield
    finally:
        _mode.op_by_op = previous


class HybridBlock(Block):
    """A block whose `forward` can be compiled: it uses ops on its inputs and never reads their values.

    Shapes and types may be read and branched on: a plan is made for each.

    Example:
        >>> import mxpipe as mx
        >>> net = mx.gluon.nn.HybridSequential()
        >>> net.add(mx.gluon.nn.Dense(8, activation="relu"), mx.gluon.nn.Dense(1))
        >>> net.initialize()
        >>> x = mx.np.ones((4, 3))
        >>> before = net(x).asnumpy()
        >>> net.hybridize()
        >>> bool((net(x).asnumpy() == before).all())
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self._active = False
        self._plans = PlanCache()
        self._precision: str | None = None
        self._remat = False
        self._fold = False

    def register_child(self, block: Block, name: str | None = None) -> None:
        """Make a hybrid block a child; plans made before are dropped."""
        if not isinstance(block, HybridBlock):
            raise BlockError(
                f"[{type(self).__name__}] children of a HybridBlock must be HybridBlocks; "
                f"got {type(block).__name__}."
            )
        super().register_child(block, name)
        self._plans.clear()

    def hybridize(
        self,
        active: bool = True,
        *,
        precision: Any = None,
        remat: bool = False,
        fold: bool = False,
        **options: Any,
    ) -> None:
        """Run this block as compiled plans, or op by op again.

        Args:
            active: Whether to compile.
            precision: "bfloat16" does matrix work in bfloat16 and keeps the activations between in it. By
                default what `amp.init` chose: float32.
            remat: In training, let backward make again what is cheap to make (activations, normalisation)
                instead of keeping it: the same numbers from less memory, a little slower.
            fold: In prediction, make scales and shifts of channels (batch normalization) part of the weights
                before them, once for each change of a parameter: faster, with other last bits.
            options: `static_alloc`, `static_shape` and the like of MXNet are accepted: plans always are both.

        Hooks of blocks inside do not run when a plan does.
        """
        unknown = set(options) - _MXNET_OPTIONS
        if unknown:
            raise BlockError(
                f"[hybridize] options must be among {sorted(_MXNET_OPTIONS)}; got {sorted(unknown)}."
            )
        self._active = active
        self._precision = None if precision is None else amp.precision(precision)
        self._remat = remat
        self._fold = fold
        self._plans.clear()
        super().hybridize(active, precision=precision, remat=remat, fold=fold, **options)
        inner: list[Block] = []
        self.apply(lambda block: inner.append(block) if block is not self else None)
        if active and any(block._forward_hooks or block._forward_pre_hooks for block in inner):
            warnings.warn(
                f"{type(self).__name__}: hooks of blocks inside it do not run in a plan.", stacklevel=2
            )

    def cast(self, dtype: Any) -> None:
        """Convert all parameters to another type; plans are made anew."""
        self._plans.clear()
        super().cast(dtype)

    def _run(self, *args: Any) -> Any:
        if not self._active or _mode.op_by_op or _native.is_tracing():
            return super()._run(*args)
        arrays, structure = flatten(args, type(self).__name__)
        plan = self._plan(arrays, structure, autograd.is_training())
        return unflatten(plan.structure, plan.compiled(*arrays))

    def _plan(self, arrays: list[Array], structure: Hashable, training: bool) -> Plan:
        key = (structure, training, tuple([(array.shape, array.dtype) for array in arrays]))
        return self._plans.get(key, lambda: self._compile(arrays, structure, training))

    def inspect(self, *args: Any, training: bool = False) -> PlanView:
        """The plan of this block for inputs like these: kernels, bytes, operations, predicted peak memory.

        It is made, but not run. For times, call the hybridized block within `mx.inspection.profile()`.

        Args:
            args: Example inputs; their values do not matter.
            training: Of the training mode's forward instead of the predict mode.

        Example:
            >>> import mxpipe as mx
            >>> net = mx.gluon.nn.Dense(2, in_units=3)
            >>> net.initialize()
            >>> [step.op for step in net.inspect(mx.np.ones((4, 3))).steps]
            ['fully_connected']
        """
        from mxpipe.inspection import view

        arrays, structure = flatten(args, type(self).__name__)
        return view(self._plan(arrays, structure, training).compiled)

    def _compile(self, arrays: list[Array], structure: Hashable, training: bool) -> Plan:
        traced, result = self._trace(arrays, structure, training)
        unique = {id(parameter): parameter for parameter in self.collect_params().values()}
        captured = tuple((parameter, parameter.data()) for parameter in unique.values())
        compiled = traced.compile(
            amp.precision(self._precision), fold=self._fold and not training, recompute=self._remat
        )
        return Plan(compiled, result, captured)

    def _trace(self, arrays: list[Array], structure: Hashable, training: bool) -> tuple[Any, Hashable]:
        self.finish_deferred(*unflatten(structure, arrays))
        results: list[Hashable] = []

        def run(*stand_ins: Array) -> tuple[Array, ...]:
            outputs, nesting = flatten(self(*unflatten(structure, stand_ins)), type(self).__name__)
            results.append(nesting)
            return tuple(outputs)

        with autograd.pause(train_mode=training):
            traced = _native.trace(run, arrays, training)
        return traced, results[-1]

    def finish_deferred(self, *args: Any) -> None:
        """Initialize parameters that wait for their shapes, by one forward pass in predict mode."""
        if any(parameter.is_deferred for parameter in self.collect_params().values()):
            with autograd.pause(), op_by_op():
                self(*args)

    def trace(self, *args: Any, training: bool = False) -> BlockTrace:
        """The graph of this block for inputs like these, with the parameters that it uses.

        Args:
            args: Example inputs; their values do not matter.
            training: Trace the training mode instead of the predict mode.

        Example:
            >>> import mxpipe as mx
            >>> net = mx.gluon.nn.Dense(2, in_units=3)
            >>> net.initialize()
            >>> trace = net.trace(mx.np.ones((1, 3)))
            >>> trace.inputs, list(trace.parameters)
            (['data'], ['weight', 'bias'])
        """
        arrays, structure = flatten(args, type(self).__name__)
        traced, result = self._trace(arrays, structure, training)
        names = {
            parameter.data().address: name for name, parameter in reversed(self.collect_params().items())
        }
        inputs = ["data"] if len(arrays) == 1 else [f"data{number}" for number in range(len(arrays))]
        parameters = {
            names.get(array.address, f"constant{number}"): array
            for number, array in enumerate(traced.captures)
        }
        return BlockTrace(traced.graph, inputs, parameters, result)

    def compile(self, *args: Any, sizes: Sequence[int] = BATCH_SIZES, precision: Any = None) -> Session:
        """This block as it is now, for prediction from many threads and with any number of rows.

        Parameters are copied: training that goes on does not change the session.

        Args:
            args: Example inputs; their first axis counts rows, and their values do not matter.
            sizes: Batch sizes that get a plan; others are padded or split.
            precision: "float32" or "bfloat16"; None takes what `amp.init` chose.

        Raises:
            BlockError: The block does not give one row for each of its inputs.

        Example:
            >>> import mxpipe as mx
            >>> net = mx.gluon.nn.Dense(2, in_units=3)
            >>> net.initialize()
            >>> session = net.compile(mx.np.ones((1, 3)), sizes=(1, 32))
            >>> session(mx.np.ones((5, 3))).shape
            (5, 2)
        """
        trace = self.trace(*args)
        return Session(trace.graph, [array.copy() for array in trace.parameters.values()], sizes, precision)

    def export(self, path: str | os.PathLike[str], epoch: int = 0) -> tuple[str, str]:
        """Write the graph of the predict mode and the parameters, for `SymbolBlock.imports`.

        Args:
            path: Files are `path-symbol.json` and `path-0000.safetensors`, 0000 being the epoch.
            epoch: A number for the name.

        Returns:
            Names of the two files.

        Raises:
            BlockError: The block was not hybridized and called before: its signature is not known.
        """
        newest = next(self._plans.newest(), None)
        if newest is None:
            raise BlockError(
                f"[{type(self).__name__}] a block must be hybridized and called once before export."
            )
        key: Any = newest[0]
        structure, _, kinds = key
        examples = [np.zeros(shape, dtype=dtype) for shape, dtype in kinds]
        trace = self.trace(*unflatten(structure, examples))
        symbol_file, parameter_file = f"{path}-symbol.json", f"{path}-{epoch:04d}.safetensors"
        content = {
            "format": "mxpipe-graph",
            "version": 1,
            "inputs": trace.inputs,
            "parameters": list(trace.parameters),
            "graph": json.loads(trace.graph.to_json()),
        }
        with open(symbol_file, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
        write_arrays(parameter_file, trace.parameters)
        return symbol_file, parameter_file


_MXNET_OPTIONS = {
    "static_alloc",
    "static_shape",
    "inline_limit",
    "forward_bulk_size",
    "backward_bulk_size",
    "partition_if_dynamic",
}
