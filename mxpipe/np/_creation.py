"""Making arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy

from mxpipe import _native
from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError

from ._common import ArrayLike, DType, ShapeLike, as_array, as_shape, cast, public


@public
def array(object: ArrayLike, dtype: DType | None = None, device: Any = None) -> Array:
    """A new array with the numbers of `object`.

    Args:
        object: Array, NumPy array, number, or nested lists of numbers.
        dtype: Dtype of the result. None keeps the dtype of an array; Python floats become float32, Python
            integers int64.
        device: Where the array lives: None or `mx.cpu()`.

    Returns:
        Array that shares no memory with `object`.

    Raises:
        OperatorError: The numbers have a dtype that arrays do not have, the lists are uneven, or the device
            is not the CPU.

    Example:
        >>> np.array([[1.0, 2.0], [3.0, 4.0]])
        array([[1., 2.],
               [3., 4.]])
        >>> np.array([1, 2]).dtype
        dtype('int64')
    """
    require_cpu("array", device)
    if isinstance(object, Array):
        return object.copy() if dtype is None or object.dtype == dtype else cast(object, dtype)
    try:
        if dtype is None and not hasattr(object, "dtype"):
            return as_array(object)  # of Python numbers: fresh already
        return _native.array(object, dtype=dtype)
    except OperatorError:
        raise
    except ValueError as error:  # NumPy's
        raise OperatorError(f"[array] object must hold numbers in even lists; got: {error}") from error


@public
def copy(a: ArrayLike) -> Array:
    """A new array with the same numbers, which gradients pass.

    Args:
        a: Array.

    Returns:
        Array of a's shape and dtype.

    Example:
        >>> np.copy(np.ones(2))
        array([1., 1.])
    """
    return as_array(a).copy()


@public
def asarray(object: ArrayLike, dtype: DType | None = None, device: Any = None) -> Array:
    """`object` as an array; an array that has the dtype already is returned as it is.

    Args:
        object: As for `array`. The memory of a contiguous NumPy array is shared.
        dtype: As for `array`.
        device: None or `mx.cpu()`.

    Returns:
        Array.

    Raises:
        OperatorError: As for `array`.

    Example:
        >>> x = np.ones(2)
        >>> np.asarray(x) is x
        True
    """
    require_cpu("asarray", device)
    return cast(as_array(object), dtype)


def require_cpu(op: str, device: Any) -> None:
    """Refuse devices that this build does not compute on."""
    if device is not None and getattr(device, "device_type", device) != "cpu":
        raise OperatorError(f"[{op}] device must be the CPU; got {device}.")


@public
def full(shape: ShapeLike, fill_value: ArrayLike, dtype: DType | None = None, device: Any = None) -> Array:
    """An array that holds one number everywhere.

    Args:
        shape: Shape of the result.
        fill_value: The number, or an array that broadcasts to the shape.
        dtype: Dtype of the result; None takes float32 for a float, int64 for an int, bool for a bool.
        device: None or `mx.cpu()`.

    Returns:
        Array of the shape.

    Raises:
        OperatorError: The shape is negative somewhere, or the value does not broadcast to it.

    Example:
        >>> np.full((2,), 3.0)
        array([3., 3.])
    """
    require_cpu("full", device)
    if not isinstance(fill_value, (bool, int, float)):
        value = cast(as_array(fill_value), dtype)
        return invoke("broadcast_to", (value,), {"shape": as_shape(shape)})
    if dtype is None:
        dtype = {bool: "bool", int: "int64"}.get(type(fill_value), "float32")
    if isinstance(fill_value, int) and not -(2**53) <= fill_value <= 2**53:
        return full(shape, numpy.asarray(fill_value), dtype)  # a double does not hold it
    return invoke("full", (), {"shape": as_shape(shape), "value": float(fill_value), "dtype": dtype})


@public
def zeros(shape: ShapeLike, dtype: DType | None = None, device: Any = None) -> Array:
    """An array of zeros.

    Args:
        shape: Shape of the result.
        dtype: Dtype of the result; None for float32.
        device: None or `mx.cpu()`.

    Returns:
        Array of the shape.

    Raises:
        OperatorError: The shape is negative somewhere.

    Example:
        >>> np.zeros((2,))
        array([0., 0.])
    """
    require_cpu("zeros", device)
    return invoke("full", (), {"shape": as_shape(shape), "value": 0.0, "dtype": dtype})


@public
def ones(shape: ShapeLike, dtype: DType | None = None, device: Any = None) -> Array:
    """An array of ones.

    Args:
        shape: Shape of the result.
        dtype: Dtype of the result; None for float32.
        device: None or `mx.cpu()`.

    Returns:
        Array of the shape.

    Raises:
        OperatorError: The shape is negative somewhere.

    Example:
        >>> np.ones((2,), dtype="int32")
        array([1, 1], dtype=int32)
    """
    require_cpu("ones", device)
    return invoke("full", (), {"shape": as_shape(shape), "value": 1.0, "dtype": dtype})


@public
def empty(shape: ShapeLike, dtype: DType | None = None, device: Any = None) -> Array:
    """An array to be filled: zeros, so that no program depends on chance.

    Args:
        shape: Shape of the result.
        dtype: Dtype of the result; None for float32.
        device: None or `mx.cpu()`.

    Returns:
        Array of the shape.

    Example:
        >>> np.empty((2, 3)).shape
        (2, 3)
    """
    return zeros(shape, dtype, device)


@public
def full_like(a: ArrayLike, fill_value: ArrayLike, dtype: DType | None = None) -> Array:
    """An array of the shape of `a` that holds one number everywhere.

    Args:
        a: Array.
        fill_value: The number.
        dtype: Dtype of the result; None for that of a.

    Returns:
        Array of a's shape.

    Example:
        >>> np.full_like(np.ones(2), 3)
        array([3., 3.])
    """
    a = as_array(a)
    return full(a.shape, fill_value, a.dtype if dtype is None else dtype)


@public
def zeros_like(a: ArrayLike, dtype: DType | None = None) -> Array:
    """Zeros of the shape of `a`.

    Args:
        a: Array.
        dtype: Dtype of the result; None for that of a.

    Returns:
        Array of a's shape.

    Example:
        >>> np.zeros_like(np.ones(2))
        array([0., 0.])
    """
    return full_like(a, 0.0, dtype)


@public
def ones_like(a: ArrayLike, dtype: DType | None = None) -> Array:
    """Ones of the shape of `a`.

    Args:
        a: Array.
        dtype: Dtype of the result; None for that of a.

    Returns:
        Array of a's shape.

    Example:
        >>> np.ones_like(np.zeros(2))
        array([1., 1.])
    """
    return full_like(a, 1.0, dtype)


@public
def arange(
    start: float, stop: float | None = None, step: float = 1, dtype: DType | None = None, device: Any = None
) -> Array:
    """Numbers from start to before stop, step apart.

    Args:
        start: First number; the end, if `stop` is not given, and then 0 is the first.
        stop: End, which is not reached.
        step: Distance, not 0.
        dtype: Dtype of the result; None takes int64 if all are integers, else float32.
        device: None or `mx.cpu()`.

    Returns:
        Array (n,).

    Raises:
        OperatorError: The step is 0.

    Example:
        >>> np.arange(3)
        array([0, 1, 2], dtype=int64)
        >>> np.arange(0.0, 1.0, 0.5)
        array([0. , 0.5])
    """
    require_cpu("arange", device)
    if step == 0:
        raise OperatorError("[arange] step must not be 0; got 0.")
    if stop is None:
        start, stop = 0, start
    values = numpy.arange(start, stop, step)
    if dtype is None:
        dtype = "int64" if values.dtype.kind in "iu" else "float32"
    return _native.array(values, dtype=dtype)


@public
def linspace(
    start: float, stop: float, num: int = 50, endpoint: bool = True, dtype: DType | None = None
) -> Array:
    """Numbers evenly spread from start to stop.

    Args:
        start: First number.
        stop: Last number, or the one behind it without `endpoint`.
        num: How many numbers.
        endpoint: Whether `stop` is the last number.
        dtype: Dtype of the result; None for float32.

    Returns:
        Array (num,).

    Raises:
        OperatorError: `num` is negative.

    Example:
        >>> np.linspace(0.0, 1.0, 3)
        array([0. , 0.5, 1. ])
    """
    if num < 0:
        raise OperatorError(f"[linspace] num must be at least 0; got {num}.")
    values = numpy.linspace(start, stop, num, endpoint=endpoint)
    return _native.array(values, dtype="float32" if dtype is None else dtype)


@public
def eye(N: int, M: int | None = None, k: int = 0, dtype: DType | None = None) -> Array:  # noqa: N803
    """A matrix of zeros with ones on a diagonal.

    Args:
        N: Rows.
        M: Columns; None for N.
        k: The diagonal: 0 the main one, above it positive, below it negative.
        dtype: Dtype of the result; None for float32.

    Returns:
        Array (N, M).

    Example:
        >>> np.eye(2)
        array([[1., 0.],
               [0., 1.]])
    """
    return _native.array(numpy.eye(N, M, k, dtype="uint8"), dtype="float32" if dtype is None else dtype)


@public
def identity(n: int, dtype: DType | None = None) -> Array:
    """The identity matrix.

    Args:
        n: Rows and columns.
        dtype: Dtype of the result; None for float32.

    Returns:
        Array (n, n).

    Example:
        >>> np.identity(2)
        array([[1., 0.],
               [0., 1.]])
    """
    return eye(n, dtype=dtype)


@public
def tril(m: ArrayLike, k: int = 0) -> Array:
    """The last two axes' lower triangle; zeros above diagonal k.

    Args:
        m: Array of at least 2 axes.
        k: The diagonal, as of `eye`.

    Returns:
        Array of m's shape and dtype.

    Raises:
        OperatorError: m has fewer than 2 axes.

    Example:
        >>> np.tril(np.ones((2, 2)))
        array([[1., 0.],
               [1., 1.]])
    """
    return _triangle("tril", as_array(m), k, lower=True)


@public
def triu(m: ArrayLike, k: int = 0) -> Array:
    """The last two axes' upper triangle; zeros below diagonal k.

    Args:
        m: Array of at least 2 axes.
        k: The diagonal, as of `eye`.

    Returns:
        Array of m's shape and dtype.

    Raises:
        OperatorError: m has fewer than 2 axes.

    Example:
        >>> np.triu(np.ones((2, 2)))
        array([[1., 1.],
               [0., 1.]])
    """
    return _triangle("triu", as_array(m), k, lower=False)


def _triangle(op: str, m: Array, k: int, lower: bool) -> Array:
    if m.ndim < 2:
        raise OperatorError(f"[{op}] m must have at least 2 axes; got shape {m.shape}.")
    rows, columns = m.shape[-2:]
    keep = numpy.tri(rows, columns, k, dtype=bool) if lower else ~numpy.tri(rows, columns, k - 1, dtype=bool)
    return invoke("where", (_native.array(keep), m, 0 if str(m.dtype) != "bool" else False), {})


pi, e, inf, nan = math.pi, math.e, math.inf, math.nan
newaxis = None
