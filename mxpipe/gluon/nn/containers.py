"""Containers, and functions as layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mxpipe import np, npx
from mxpipe._native import Array
from mxpipe.errors import BlockError
from mxpipe.gluon.block import Block
from mxpipe.gluon.hybrid import HybridBlock

__all__ = [
    "Concatenate",
    "HybridConcatenate",
    "HybridLambda",
    "HybridSequential",
    "Identity",
    "Lambda",
    "Sequential",
]


class _Stack(Block):
    """What ordered containers share: adding, counting and slicing of children."""

    def add(self, *blocks: Block) -> None:
        """Append blocks."""
        for block in blocks:
            self.register_child(block)

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Block]:
        return iter(self._children.values())

    def __getitem__(self, key: int | slice) -> Any:
        chosen = list(self._children.values())[key]
        if isinstance(chosen, Block):
            return chosen
        part = type(self)()
        part.add(*chosen)
        return part

    def _in_sequence(self, x: Any, *args: Any) -> Any:
        """Feed each block with the result of the one before; a tuple is spread over the arguments."""
        for block in self._children.values():
            x = block(x, *args)
            x, args = (x[0], tuple(x[1:])) if isinstance(x, tuple | list) else (x, ())
        return (x, *args) if args else x


class Sequential(_Stack):
    """Runs blocks one after the other.

    Example:
        >>> net = Sequential()
        >>> net.add(Identity(), Identity())
        >>> len(net)
        2
    """

    def forward(self, x: Any, *args: Any) -> Any:
        """The result of the last block."""
        return self._in_sequence(x, *args)


class HybridSequential(_Stack, HybridBlock):
    """Runs hybrid blocks one after the other; can be compiled as a whole."""

    def forward(self, x: Any, *args: Any) -> Any:
        """The result of the last block."""
        return self._in_sequence(x, *args)


class Concatenate(_Stack):
    """Feeds the same input to every block and joins the results.

    Args:
        axis: Axis along which to join.
    """

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Any) -> Array:
        """The joined results."""
        return np.concatenate([block(x) for block in self._children.values()], axis=self.axis)


class HybridConcatenate(_Stack, HybridBlock):
    """Feeds the same input to every hybrid block and joins the results; can be compiled as a whole.

    Args:
        axis: Axis along which to join.
    """

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Any) -> Array:
        """The joined results."""
        return np.concatenate([block(x) for block in self._children.values()], axis=self.axis)


class Identity(HybridBlock):
    """Gives its input back."""

    def forward(self, x: Any) -> Any:
        """The input."""
        return x


def _resolve(function: str | Callable[..., Any]) -> tuple[Callable[..., Any], str]:
    if not isinstance(function, str):
        return function, getattr(function, "__name__", "function")
    for module in (np, npx):
        if function in module.__all__:
            return getattr(module, function), function
    raise BlockError(f"[Lambda] a function's name must be one of mx.np or mx.npx; got {function!r}.")


class Lambda(Block):
    """A function, or the name of one in `mx.np` or `mx.npx`, as a block.

    Args:
        function: Called with the inputs of the block.
    """

    def __init__(self, function: str | Callable[..., Any]) -> None:
        super().__init__()
        self._function, self._name = _resolve(function)

    def forward(self, *args: Any) -> Any:
        """The function's result."""
        return self._function(*args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name})"


class HybridLambda(HybridBlock):
    """A function of ops, or the name of one in `mx.np` or `mx.npx`, as a hybrid block.

    Args:
        function: Called with the inputs of the block.

    Example:
        >>> import mxpipe as mx
        >>> HybridLambda("tanh")(mx.np.zeros((2,))).asnumpy().tolist()
        [0.0, 0.0]
    """

    def __init__(self, function: str | Callable[..., Any]) -> None:
        super().__init__()
        self._function, self._name = _resolve(function)

    def forward(self, *args: Any) -> Any:
        """The function's result."""
        return self._function(*args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name})"
