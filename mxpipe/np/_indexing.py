"""Reading by position, and comparing whole arrays."""

from __future__ import annotations

from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError

from ._common import ArrayLike, as_array, cast, is_floating, normalize_axis, public, reshape
from ._elementwise import abs, clip, equal, isfinite, isnan, less_equal, logical_and, logical_or, mod
from ._reduction import all


def as_indices(op: str, indices: ArrayLike) -> Array:
    """Integers as int32 or int64.

    Raises:
        OperatorError: The indices are no integers.
    """
    indices = as_array(indices)
    if is_floating(indices) or indices.dtype.kind == "b":
        raise OperatorError(f"[{op}] indices must be of an integer dtype; got {indices.dtype}.")
    return indices if indices.dtype in ("int32", "int64") else cast(indices, "int64")


@public
def take(a: ArrayLike, indices: ArrayLike, axis: int | None = None, mode: str = "raise") -> Array:
    """The entries at `indices` along an axis. Negative indices count from the end.

    Args:
        a: Array.
        indices: Integers of any shape.
        axis: The axis; None takes from the flat array.
        mode: What to do about an index outside [-n, n): "raise", "clip" to the nearest end (negative ones to
            the first entry), or "wrap" around.

    Returns:
        Array in which the axis is replaced by the shape of `indices`.

    Raises:
        OperatorError: An index lies outside and the mode is "raise", or the indices are no integers.

    Example:
        >>> np.take(np.array([1.0, 2.0, 3.0]), np.array([2, 0, -1]))
        array([3., 1., 3.])
    """
    a, indices = as_array(a), as_indices("take", indices)
    if axis is None:
        a, axis = reshape(a, (-1,)), 0
    size = a.shape[normalize_axis("take", axis, a.ndim)]
    if mode == "clip":
        indices = clip(indices, 0, size - 1)
    elif mode == "wrap":
        indices = mod(indices, size)
    elif mode != "raise":
        raise OperatorError(f"[take] mode must be raise, clip or wrap; got {mode}.")
    return invoke("take", (a, indices), {"axis": axis})


@public
def isclose(
    a: ArrayLike, b: ArrayLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Array:
    """True where |a - b| <= atol + rtol * |b|.

    Args:
        a: Array.
        b: Array whose shape broadcasts with that of a.
        rtol: Tolerance relative to b.
        atol: Absolute tolerance.
        equal_nan: Whether two NaN are close.

    Returns:
        Array of bool.

    Raises:
        OperatorError: The shapes do not broadcast.

    Example:
        >>> np.isclose(np.array([1.0, 2.0]), np.array([1.0, 2.1]))
        array([ True, False], dtype=bool)
    """
    a, b = as_array(a), as_array(b)
    # Equal infinities have no difference, and one infinity is close to no number.
    near = logical_and(less_equal(abs(a - b), abs(b) * rtol + atol), isfinite(b))
    close = logical_or(near, equal(a, b))
    return logical_or(close, logical_and(isnan(a), isnan(b))) if equal_nan else close


@public
def allclose(
    a: ArrayLike, b: ArrayLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether |a - b| <= atol + rtol * |b| everywhere.

    Args:
        a: Array.
        b: Array whose shape broadcasts with that of a.
        rtol: Tolerance relative to b.
        atol: Absolute tolerance.
        equal_nan: Whether two NaN are close.

    Returns:
        A Python bool.

    Raises:
        OperatorError: The shapes do not broadcast.
        GraphError: The arrays are traced, so that they have no values yet.

    Example:
        >>> np.allclose(np.array([1.0]), np.array([1.0 + 1e-6]))
        True
    """
    return bool(all(isclose(a, b, rtol, atol, equal_nan)))


@public
def array_equal(a1: ArrayLike, a2: ArrayLike) -> bool:
    """Whether two arrays have the same shape and the same numbers.

    Args:
        a1: Array.
        a2: Array.

    Returns:
        A Python bool.

    Raises:
        GraphError: The arrays are traced, so that they have no values yet.

    Example:
        >>> np.array_equal(np.ones(2), np.array([1, 1]))
        True
    """
    a1, a2 = as_array(a1), as_array(a2)
    return a1.shape == a2.shape and bool(all(equal(a1, a2)))
