"""Methods of `ndarray` that are functions of this package: attached to the native class once, at import."""

from __future__ import annotations

from typing import Any

from mxpipe._native import Array

from . import _elementwise, _indexing, _linear, _reduction, _shape

_METHODS = {
    "all": _reduction.all,
    "any": _reduction.any,
    "argmax": _reduction.argmax,
    "argmin": _reduction.argmin,
    "clip": _elementwise.clip,
    "dot": _linear.dot,
    "expand_dims": _shape.expand_dims,
    "max": _reduction.max,
    "mean": _reduction.mean,
    "min": _reduction.min,
    "prod": _reduction.prod,
    "ravel": _shape.ravel,
    "repeat": _shape.repeat,
    "round": _elementwise.round,
    "split": _shape.split,
    "squeeze": _shape.squeeze,
    "std": _reduction.std,
    "sum": _reduction.sum,
    "swapaxes": _shape.swapaxes,
    "take": _indexing.take,
    "tile": _shape.tile,
    "var": _reduction.var,
}


def _flatten(self: Array) -> Array:
    """A copy with all numbers along one axis."""
    return _shape.ravel(self.copy())


def _operator(function: Any, reflected: bool = False) -> Any:
    """The function as an operator that leaves operands it does not know, and symbols, to the other side."""

    def call(self: Array, other: Any) -> Any:
        if hasattr(type(other), "__mxpipe_symbol__") or not hasattr(other, "shape"):
            return NotImplemented
        return function(other, self) if reflected else function(self, other)

    return call


def _and(self: Array, other: Any) -> Any:
    """Logical "and" of two bool arrays."""
    return _logic("&", _elementwise.logical_and, self, other)


def _or(self: Array, other: Any) -> Any:
    """Logical "or" of two bool arrays."""
    return _logic("|", _elementwise.logical_or, self, other)


def _xor(self: Array, other: Any) -> Any:
    """True where two bool arrays differ."""
    return _logic("^", _elementwise.logical_xor, self, other)


def _logic(sign: str, function: Any, a: Array, b: Any) -> Any:
    if hasattr(type(b), "__mxpipe_symbol__"):
        return NotImplemented
    for operand in (a, b):
        if str(getattr(operand, "dtype", type(operand).__name__)) != "bool":
            raise TypeError(
                f"[ndarray] both sides of {sign} must be bool; got {getattr(b, 'dtype', type(b))}."
            )
    return function(a, b)


def attach() -> None:
    """Give the native class its methods."""
    for name, function in _METHODS.items():
        setattr(Array, name, _method(name, function))
    Array.flatten = _flatten
    Array.__matmul__ = _operator(_linear.matmul)
    Array.__rmatmul__ = _operator(_linear.matmul, reflected=True)
    Array.__and__ = Array.__rand__ = _and
    Array.__or__ = Array.__ror__ = _or
    Array.__xor__ = Array.__rxor__ = _xor
    Array.__array_namespace__ = _array_namespace
    # An array is iterated by rows; without this Python would count indices up until one fails.
    Array.__iter__ = lambda self: (self[i] for i in range(len(self)))


def _array_namespace(self: Array, /, *, api_version: str | None = None) -> Any:
    """The package with the functions of the array API standard."""
    from mxpipe import np

    return np


def _method(name: str, function: Any) -> Any:
    def method(self: Array, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    method.__name__, method.__qualname__, method.__doc__ = name, f"ndarray.{name}", function.__doc__
    return method
