"""Products of vectors, matrices and higher arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError

from ._common import ArrayLike, as_array, as_arrays, cast, is_floating, normalize_axis, public, reshape
from ._creation import ones, triu
from ._elementwise import multiply
from ._reduction import sum as sum_array
from ._shape import moveaxis, transpose


@public
def matmul(a: ArrayLike, b: ArrayLike, /) -> Array:
    """Matrix product of the last two axes; the axes before them broadcast.

    Args:
        a: Array (..., n, k), or a vector (k,).
        b: Array (..., k, m), or a vector (k,). Mixed dtypes are promoted.

    Returns:
        Array (..., n, m), without the axis of a vector.

    Raises:
        OperatorError: An array is a number, or the shapes do not fit.

    Example:
        >>> np.matmul(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
        array([[11.]])
    """
    a, b = as_arrays((a, b))
    if a.ndim == 0 or b.ndim == 0:
        raise OperatorError(f"[matmul] a and b must have at least 1 axis; got shape {a.shape} and {b.shape}.")
    if a.ndim > 1 and b.ndim > 1:
        return invoke("matmul", (a, b), {})
    left = a if a.ndim > 1 else reshape(a, (1, -1))
    right = b if b.ndim > 1 else reshape(b, (-1, 1))
    product = invoke("matmul", (left, right), {})
    shape = list(product.shape)
    if b.ndim == 1:
        shape.pop()
    if a.ndim == 1:
        shape.pop(-1 if b.ndim == 1 else -2)
    return reshape(product, [-2, *shape[1:]] if shape and a.ndim > 1 else shape)


@public
def dot(a: ArrayLike, b: ArrayLike) -> Array:
    """Sum of products over the last axis of a and the second to last of b.

    Args:
        a: Array.
        b: Array. With a number on either side this is `multiply`; a vector is summed over its only axis.

    Returns:
        Array of shape a.shape[:-1] + b.shape without the axis summed over.

    Raises:
        OperatorError: The axes differ in size.

    Example:
        >>> np.dot(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        array(11.)
    """
    a, b = as_arrays((a, b))
    if a.ndim == 0 or b.ndim == 0:
        return multiply(a, b)
    if b.ndim <= 2:
        return matmul(a, b)
    return tensordot(a, b, ([a.ndim - 1], [b.ndim - 2]))


@public
def tensordot(a: ArrayLike, b: ArrayLike, axes: int | Sequence[int | Sequence[int]] = 2) -> Array:
    """Sum of products over pairs of axes.

    Args:
        a: Array.
        b: Array.
        axes: How many of a's last and b's first axes to sum over, or the axes of a and those of b.

    Returns:
        Array of a's other axes, then b's other axes.

    Raises:
        OperatorError: The axes of a pair differ in size.

    Example:
        >>> np.tensordot(np.ones((2, 3)), np.ones((3, 4)), 1).shape
        (2, 4)
    """
    a, b = as_arrays((a, b))
    if isinstance(axes, int):
        first: list[int] = list(range(a.ndim - axes, a.ndim))
        second: list[int] = list(range(axes))
    else:
        first, second = ([one] if isinstance(one, int) else list(one) for one in axes)
        first = [normalize_axis("tensordot", axis, a.ndim) for axis in first]
        second = [normalize_axis("tensordot", axis, b.ndim) for axis in second]
    if [a.shape[i] for i in first] != [b.shape[i] for i in second]:
        raise OperatorError(
            f"[tensordot] axes summed over must have equal sizes; "
            f"got {first} of {a.shape} and {second} of {b.shape}."
        )
    rows = [i for i in range(a.ndim) if i not in first]
    columns = [i for i in range(b.ndim) if i not in second]
    shape = [a.shape[i] for i in rows] + [b.shape[i] for i in columns]
    inner = math.prod(a.shape[i] for i in first)
    left = reshape(transpose(a, rows + first), (math.prod(a.shape[i] for i in rows), inner))
    right = reshape(transpose(b, second + columns), (inner, math.prod(b.shape[i] for i in columns)))
    return reshape(invoke("matmul", (left, right), {}), shape)


@public
def inner(a: ArrayLike, b: ArrayLike) -> Array:
    """Sum of products over the last axes.

    Args:
        a: Array.
        b: Array whose last axis has the size of a's.

    Returns:
        Array of shape a.shape[:-1] + b.shape[:-1].

    Raises:
        OperatorError: The last axes differ in size.

    Example:
        >>> np.inner(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        array(11.)
    """
    a, b = as_arrays((a, b))
    return multiply(a, b) if a.ndim == 0 or b.ndim == 0 else tensordot(a, b, ([-1], [-1]))


@public
def outer(a: ArrayLike, b: ArrayLike) -> Array:
    """Every number of a times every number of b.

    Args:
        a: Array; it is taken flat.
        b: Array; it is taken flat.

    Returns:
        Array (a.size, b.size).

    Example:
        >>> np.outer(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
        array([[3., 4.],
               [6., 8.]])
    """
    return multiply(reshape(as_array(a), (-1, 1)), reshape(as_array(b), (1, -1)))


@public
def cumsum(a: ArrayLike, axis: int | None = None) -> Array:
    """Sums of the first 1, 2, ... numbers along an axis, by a product with a triangular matrix.

    Args:
        a: Array; integers and bool are summed in 64 bits.
        axis: Axis to sum along; None sums along the flat array.

    Returns:
        Array of a's shape, or flat.

    Raises:
        OperatorError: There is no such axis.

    Example:
        >>> np.cumsum(np.array([1.0, 2.0, 3.0]))
        array([1., 3., 6.])
    """
    a = as_array(a)
    if axis is None:
        a, axis = reshape(a, (-1,)), 0
    axis = normalize_axis("cumsum", axis, a.ndim)
    if not is_floating(a):
        a = cast(a, "uint64" if a.dtype.kind == "u" else "int64")
    return moveaxis(matmul(moveaxis(a, axis, -1), triu(ones((a.shape[axis],) * 2, a.dtype))), -1, axis)


@public
def vdot(a: ArrayLike, b: ArrayLike) -> Array:
    """Sum of products of the flat arrays.

    Args:
        a: Array.
        b: Array of as many numbers.

    Returns:
        Array ().

    Raises:
        OperatorError: The numbers of elements differ.

    Example:
        >>> np.vdot(np.ones((2, 2)), np.ones(4))
        array(4.)
    """
    return sum_array(multiply(reshape(as_array(a), (-1,)), reshape(as_array(b), (-1,))))
