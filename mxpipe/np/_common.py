"""What the files of `np` and `npx` share: arguments, axes, and the mark of a public function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy
import numpy.typing

from mxpipe import _native
from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError

ArrayLike: TypeAlias = Array | numpy.typing.ArrayLike
"""An array, a NumPy array, a Python number, or nested lists of numbers."""
DType: TypeAlias = numpy.typing.DTypeLike
"""A NumPy dtype, its name, or "bfloat16"."""
Axis: TypeAlias = int | Sequence[int] | None
ShapeLike: TypeAlias = int | Sequence[int]

P = ParamSpec("P")
R = TypeVar("R")

TO_THE_END = 2**63 - 1
"""End of a slice that takes an axis to its end, whatever its length: so a graph fits other batch sizes."""


# ----------------------------------------------------------------------------------------- public functions


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function as part of the package's interface.

    It then also takes symbols: a call that cannot be carried out because an argument is a symbol becomes a
    symbol itself. Arrays pay nothing for this, because the arguments are looked at only after a failure.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception:
            result: R = as_symbol(call, args, kwargs)
            return result

    call.__module__ = public_module(function.__module__)
    return call


def public_module(module: str) -> str:
    """The package that shows what a private module defines."""
    package, _, name = module.rpartition(".")
    return package if name.startswith("_") else module


def as_symbol(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A call that failed, as a symbol; if no argument is one, the failure goes on."""
    symbol = find_symbol((*args, *kwargs.values()))
    if symbol is None:
        raise
    return symbol.__mxpipe_symbol__(function, args, kwargs)


def find_symbol(arguments: Iterable[Any]) -> Any:
    """The class of the first symbol among arguments and lists of arguments, or None."""
    for argument in arguments:
        if hasattr(type(argument), "__mxpipe_symbol__"):
            return type(argument)
        if isinstance(argument, (list, tuple)):
            found = find_symbol(argument)
            if found is not None:
                return found
    return None


# ------------------------------------------------------------------------------------------------ arguments


def as_array(x: ArrayLike) -> Array:
    """X itself, or x as an array: integers stay integers, Python floats become float32.

    Raises:
        TypeError: x is a symbol, which has no value yet.
    """
    if type(x) is Array:
        return x
    if hasattr(type(x), "__mxpipe_symbol__"):
        raise TypeError("a symbol has no value; got one where an array is needed.")
    if not hasattr(x, "dtype"):
        x = numpy.asarray(x)
        if x.dtype == numpy.float64:
            x = x.astype(numpy.float32)
    return _native.array(x, copy=False)


def as_arrays(arrays: Sequence[ArrayLike]) -> list[Array]:
    """The arrays in one dtype, that to which they all promote."""
    converted = [as_array(x) for x in arrays]
    if all(x.dtype == converted[0].dtype for x in converted):
        return converted
    common = functools.reduce(_native.promote_types, [x.dtype for x in converted])
    return [cast(x, common) for x in converted]


def cast(x: Array, dtype: DType | None) -> Array:
    """X in another dtype; x itself when it has it, or when None is asked for."""
    if dtype is None or x.dtype == dtype:
        return x
    return invoke("cast", (x,), {"dtype": dtype})


def cast_floating(x: Array) -> Array:
    """X itself if its numbers are floats, else x as float32."""
    return x if is_floating(x) else invoke("cast", (x,), {"dtype": "float32"})


def is_floating(x: Array) -> bool:
    """Whether x holds floats (bfloat16, which NumPy lacks, is a name instead of a dtype)."""
    dtype = x.dtype
    return isinstance(dtype, str) or dtype.kind == "f"


def as_shape(shape: ShapeLike) -> tuple[int, ...]:
    """A shape as a tuple; a number is the shape of one axis."""
    return (int(shape),) if hasattr(shape, "__index__") else tuple(shape)


# ----------------------------------------------------------------------------------------------------- axes

_ALL_AXES = [tuple(range(ndim)) for ndim in range(9)]


def normalize_axis(op: str, axis: int, ndim: int) -> int:
    """The axis counted from the front.

    Raises:
        OperatorError: There is no such axis.
    """
    if -ndim <= axis < ndim:
        return axis % ndim
    raise OperatorError(f"[{op}] axis must lie in [{-ndim}, {ndim}); got {axis}.")


def normalize_axes(op: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes in ascending order; all of them for None.

    Raises:
        OperatorError: There is no such axis, or one is named twice.
    """
    if axis is None:
        return _ALL_AXES[ndim]
    if isinstance(axis, int):
        return (normalize_axis(op, axis, ndim),)
    axes = tuple(sorted(normalize_axis(op, one, ndim) for one in axis))
    if len(set(axes)) < len(axes):
        raise OperatorError(f"[{op}] axis must name each axis once; got {tuple(axis)}.")
    return axes


# -------------------------------------------------------------------------------------- ops used everywhere


def reshape(x: Array, shape: Sequence[int]) -> Array:
    """X under another shape; -1 takes what is left, -2 copies the size of x at that place."""
    return invoke("reshape", (x,), {"shape": tuple(shape)})


def slice_axis(x: Array, axis: int, begin: int, end: int, step: int = 1) -> Array:
    """The positions begin, begin + step, ... before end along one axis, all of the others."""
    begins, ends, steps = [0] * x.ndim, [TO_THE_END] * x.ndim, [1] * x.ndim
    begins[axis], ends[axis], steps[axis] = begin, end, step
    return invoke("slice", (x,), {"begin": begins, "end": ends, "step": steps})
