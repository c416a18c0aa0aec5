"""Methods of `ndarray` that are functions of this package: attached to the native class once, at import."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mxpipe._native import Array
from mxpipe.device import cpu
from mxpipe.errors import OperatorError

from . import _elementwise, _indexing, _joining, _linear, _reduction, _shape
from ._creation import require_cpu


def _flatten(self: Array) -> Array:
    """A copy with all numbers along one axis."""
    return _shape.ravel(self.copy())


def _rows(self: Array) -> Iterator[Array]:
    """The rows; without it Python would count indices up until one fails."""
    return (self[i] for i in range(len(self)))


def _array_namespace(self: Array, /, *, api_version: str | None = None) -> Any:
    """The package with the functions of the array API standard."""
    from mxpipe import np

    return np


def _operator(function: Any, reflected: bool = False) -> Any:
    """The function as an operator that leaves symbols, and what is no array, to the other side."""

    def call(self: Array, other: Any) -> Any:
        if hasattr(type(other), "__mxpipe_symbol__") or not hasattr(other, "shape"):
            return NotImplemented
        return function(other, self) if reflected else function(self, other)

    return call


def _logic(sign: str, function: Any) -> Any:
    """The function as an operator of two bool operands."""

    def call(self: Array, other: Any) -> Any:
        if hasattr(type(other), "__mxpipe_symbol__"):
            return NotImplemented
        for operand in (self, other):
            kind = str(getattr(operand, "dtype", type(operand).__name__))
            if kind != "bool":
                raise OperatorError(f"[ndarray] both sides of {sign} must be bool; got {kind}.")
        return function(self, other)

    return call


def _to_device(self: Array, device: Any, *_: Any) -> Array:
    """The array itself, if the device is the CPU."""
    require_cpu("to_device", device)
    return self


def _wait_to_read(self: Array) -> None:
    """Wait until the array is computed. It is: calls return when their result is there."""


_AND = _logic("&", _elementwise.logical_and)
_OR = _logic("|", _elementwise.logical_or)
_XOR = _logic("^", _elementwise.logical_xor)

_METHODS = {
    "all": _reduction.all,
    "any": _reduction.any,
    "argmax": _reduction.argmax,
    "argmin": _reduction.argmin,
    "clip": _elementwise.clip,
    "dot": _linear.dot,
    "expand_dims": _shape.expand_dims,
    "flatten": _flatten,
    "max": _reduction.max,
    "mean": _reduction.mean,
    "min": _reduction.min,
    "prod": _reduction.prod,
    "ravel": _shape.ravel,
    "repeat": _joining.repeat,
    "round": _elementwise.round,
    "split": _joining.split,
    "squeeze": _shape.squeeze,
    "std": _reduction.std,
    "sum": _reduction.sum,
    "swapaxes": _shape.swapaxes,
    "take": _indexing.take,
    "tile": _joining.tile,
    "to_device": _to_device,
    "var": _reduction.var,
    "wait_to_read": _wait_to_read,
    "device": property(lambda _: cpu(), doc="Where the array lives."),
    "__iter__": _rows,
    "__matmul__": _operator(_linear.matmul),
    "__rmatmul__": _operator(_linear.matmul, reflected=True),
    "__and__": _AND,
    "__rand__": _AND,
    "__or__": _OR,
    "__ror__": _OR,
    "__xor__": _XOR,
    "__rxor__": _XOR,
    "__array_namespace__": _array_namespace,
}


def attach() -> None:
    """Give the native class its methods."""
    for name, function in _METHODS.items():
        setattr(Array, name, function)
