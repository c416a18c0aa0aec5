"""Reductions over axes. An axis may be an int, a tuple of ints, or None for all axes."""

from __future__ import annotations

import math

from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError

from ._common import (
    ArrayLike,
    Axis,
    DType,
    as_array,
    cast,
    cast_floating,
    normalize_axes,
    normalize_axis,
    public,
    reshape,
)
from ._elementwise import equal, greater, not_equal, sqrt, square


def _reduce(op: str, x: Array, axis: Axis, keepdims: bool) -> Array:
    result: Array = invoke(op, (x,), {"axis": normalize_axes(op, axis, x.ndim), "keepdims": keepdims})
    return result


@public
def sum(a: ArrayLike, axis: Axis = None, dtype: DType | None = None, keepdims: bool = False) -> Array:
    """Sum over axes. The result does not depend on the number of threads.

    Args:
        a: Array.
        axis: Axes to sum over.
        dtype: Dtype to sum in; None takes that of a, and 64 bits for integers and bool.
        keepdims: Keep the axes, as 1.

    Returns:
        Array without the axes.

    Raises:
        OperatorError: There is no such axis.

    Example:
        >>> np.sum(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        array([4., 6.])
    """
    return cast(_reduce("sum", cast(as_array(a), dtype), axis, keepdims), dtype)


@public
def prod(a: ArrayLike, axis: Axis = None, dtype: DType | None = None, keepdims: bool = False) -> Array:
    """Product over axes.

    Args:
        a: Array.
        axis: Axes to multiply over.
        dtype: Dtype to multiply in; None takes that of a, and 64 bits for integers and bool.
        keepdims: Keep the axes, as 1.

    Returns:
        Array without the axes.

    Raises:
        OperatorError: There is no such axis.

    Example:
        >>> np.prod(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        array([3., 8.])
    """
    return cast(_reduce("prod", cast(as_array(a), dtype), axis, keepdims), dtype)


@public
def mean(a: ArrayLike, axis: Axis = None, dtype: DType | None = None, keepdims: bool = False) -> Array:
    """Mean over axes; NaN of no numbers.

    Args:
        a: Array; integers and bool are taken as float32.
        axis: Axes to average over.
        dtype: Floating dtype of the result; None for that of a.
        keepdims: Keep the axes, as 1.

    Returns:
        Array without the axes.

    Raises:
        OperatorError: There is no such axis.

    Example:
        >>> np.mean(np.array([[1, 2], [3, 4]]), axis=0)
        array([2., 3.])
    """
    return _reduce("mean", cast_floating(cast(as_array(a), dtype)), axis, keepdims)


average = mean


@public
def max(a: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Array:
    """Largest number over axes; NaN if there is one. Equal ones share the gradient.

    Args:
        a: Array.
        axis: Axes to search.
        keepdims: Keep the axes, as 1.

    Returns:
        Array without the axes.

    Raises:
        OperatorError: There is no such axis, or there are no numbers to choose from.

    Example:
        >>> np.max(np.array([[1.0, 2.0], [3.0, 0.0]]), axis=0)
        array([3., 2.])
    """
    return _reduce("max", as_array(a), axis, keepdims)


amax = max


@public
def min(a: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Array:
    """Smallest number over axes; NaN if there is one. Equal ones share the gradient.

    Args:
        a: Array.
        axis: Axes to search.
        keepdims: Keep the axes, as 1.

    Returns:
        Array without the axes.

    Raises:
        OperatorError: There is no such axis, or there are no numbers to choose from.

    Example:
        >>> np.min(np.array([[1.0, 2.0], [3.0, 0.0]]), axis=0)
        array([1., 0.])
    """
    return _reduce("min", as_array(a), axis, keepdims)


amin = min


@public
def ptp(a: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Array:
    """Largest minus smallest number over axes.

    Args:
        a: Array of numbers.
        axis: Axes to search.
        keepdims: Keep the axes, as 1.

    Returns:
        Array without the axes.

    Raises:
        OperatorError: There is no such axis, or there are no numbers to choose from.

    Example:
        >>> np.ptp(np.array([1.0, 5.0]))
        array(4.)
    """
    a = as_array(a)
    return max(a, axis, keepdims) - min(a, axis, keepdims)


def _position(op: str, a: Array, axis: int | None, keepdims: bool) -> Array:
    found: Array
    if axis is not None:
        found = invoke(op, (a,), {"axis": normalize_axis(op, axis, a.ndim), "keepdims": keepdims})
        return found
    found = invoke(op, (reshape(a, (-1,)),), {"axis": 0, "keepdims": False})
    return reshape(found, (1,) * a.ndim) if keepdims else found


@public
def argmax(a: ArrayLike, axis: int | None = None, keepdims: bool = False) -> Array:
    """Position of the first largest number (of the first NaN, if any).

    Args:
        a: Array.
        axis: Axis to search; None searches the flat array.
        keepdims: Keep the axis, as 1.

    Returns:
        int64 array without the axis.

    Raises:
        OperatorError: There is no such axis, or there are no numbers to choose from.

    Example:
        >>> np.argmax(np.array([[1.0, 2.0], [3.0, 0.0]]), axis=1)
        array([1, 0], dtype=int64)
    """
    return _position("argmax", as_array(a), axis, keepdims)


@public
def argmin(a: ArrayLike, axis: int | None = None, keepdims: bool = False) -> Array:
    """Position of the first smallest number (of the first NaN, if any).

    Args:
        a: Array.
        axis: Axis to search; None searches the flat array.
        keepdims: Keep the axis, as 1.

    Returns:
        int64 array without the axis.

    Raises:
        OperatorError: There is no such axis, or there are no numbers to choose from.

    Example:
        >>> np.argmin(np.array([[1.0, 2.0], [3.0, 0.0]]), axis=1)
        array([0, 1], dtype=int64)
    """
    return _position("argmin", as_array(a), axis, keepdims)


@public
def var(a: ArrayLike, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Array:
    """Variance over axes: the mean squared distance from the mean.

    Args:
        a: Array; integers are taken as float32.
        axis: Axes to average over.
        ddof: Subtracted from the number of numbers that the squares are divided by.
        keepdims: Keep the axes, as 1.

    Returns:
        Array without the axes, of a floating dtype.

    Raises:
        OperatorError: There is no such axis, or no more than `ddof` numbers.

    Example:
        >>> np.var(np.array([1.0, 3.0]))
        array(1.)
    """
    a = cast_floating(as_array(a))
    squares = square(a - mean(a, axis, keepdims=True))
    if ddof == 0:
        return mean(squares, axis, keepdims=keepdims)
    count = math.prod(a.shape[i] for i in normalize_axes("var", axis, a.ndim))
    if count <= ddof:
        raise OperatorError(f"[var] there must be more than ddof={ddof} numbers; got {count}.")
    return sum(squares, axis, keepdims=keepdims) / (count - ddof)


@public
def std(a: ArrayLike, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Array:
    """Standard deviation over axes: the square root of the variance.

    Args:
        a: Array; integers are taken as float32.
        axis: Axes to average over.
        ddof: As of `var`.
        keepdims: Keep the axes, as 1.

    Returns:
        Array without the axes, of a floating dtype.

    Raises:
        OperatorError: As of `var`.

    Example:
        >>> np.std(np.array([1.0, 5.0]))
        array(2.)
    """
    return sqrt(var(a, axis, ddof, keepdims))


@public
def any(a: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether one of the numbers is true, that is, not 0. Of none: False.

    Args:
        a: Array of any dtype.
        axis: Axes to look along.
        keepdims: Keep the axes, as 1.

    Returns:
        bool array without the axes.

    Raises:
        OperatorError: There is no such axis.

    Example:
        >>> np.any(np.array([0, 1]))
        array(True, dtype=bool)
    """
    return greater(sum(not_equal(a, 0), axis, keepdims=keepdims), 0)


@public
def all(a: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether all numbers are true, that is, not 0. Of none: True.

    Args:
        a: Array of any dtype.
        axis: Axes to look along.
        keepdims: Keep the axes, as 1.

    Returns:
        bool array without the axes.

    Raises:
        OperatorError: There is no such axis.

    Example:
        >>> np.all(np.array([0, 1]))
        array(False, dtype=bool)
    """
    return equal(sum(equal(a, 0), axis, keepdims=keepdims), 0)


@public
def count_nonzero(a: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Array:
    """How many numbers are not 0.

    Args:
        a: Array of any dtype.
        axis: Axes to count along.
        keepdims: Keep the axes, as 1.

    Returns:
        int64 array without the axes.

    Raises:
        OperatorError: There is no such axis.

    Example:
        >>> np.count_nonzero(np.array([0, 1, 2]))
        array(2, dtype=int64)
    """
    return sum(not_equal(a, 0), axis, keepdims=keepdims)
