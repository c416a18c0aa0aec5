"""Shapes and the order of axes."""

from __future__ import annotations

from collections.abc import Sequence

from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError

from ._common import (
    ArrayLike,
    Axis,
    ShapeLike,
    as_array,
    as_shape,
    normalize_axes,
    normalize_axis,
    public,
    slice_axis,
)
from ._common import reshape as reshape_array

# ---------------------------------------------------------------------------------------------------- shape


@public
def reshape(a: ArrayLike, newshape: ShapeLike) -> Array:
    """The same numbers, in order, under another shape.

    Args:
        a: Array.
        newshape: Sizes; one may be -1, which takes what is left, and -2 copies the size of a at that place.

    Returns:
        Array of that shape. It shares a's memory.

    Raises:
        OperatorError: The number of elements would change.

    Example:
        >>> np.reshape(np.arange(4), (2, -1))
        array([[0, 1],
               [2, 3]], dtype=int64)
    """
    return reshape_array(as_array(a), as_shape(newshape))


@public
def ravel(a: ArrayLike) -> Array:
    """All numbers along one axis.

    Args:
        a: Array.

    Returns:
        Array (n,). It shares a's memory.

    Example:
        >>> np.ravel(np.ones((2, 2)))
        array([1., 1., 1., 1.])
    """
    return reshape_array(as_array(a), (-1,))


@public
def squeeze(a: ArrayLike, axis: Axis = None) -> Array:
    """The array without axes of size 1.

    Args:
        a: Array.
        axis: Axes to remove; None removes all of size 1.

    Returns:
        Array with fewer axes.

    Raises:
        OperatorError: A named axis has another size, or does not exist.

    Example:
        >>> np.squeeze(np.ones((1, 2, 1))).shape
        (2,)
    """
    a = as_array(a)
    shape = a.shape
    if axis is None:
        return reshape_array(a, [size for size in shape if size != 1])
    axes = normalize_axes("squeeze", axis, a.ndim)
    for i in axes:
        if shape[i] != 1:
            raise OperatorError(f"[squeeze] axis {i} must have size 1; got shape {shape}.")
    # The first axis usually is the batch: kept as "whatever it is" where it stays in place.
    kept = [size for i, size in enumerate(shape) if i not in axes]
    if kept and 0 not in axes:
        kept[0] = -2
    return reshape_array(a, kept)


@public
def expand_dims(a: ArrayLike, axis: int | Sequence[int]) -> Array:
    """The array with new axes of size 1.

    Args:
        a: Array.
        axis: Where the new axes are in the result.

    Returns:
        Array with more axes.

    Raises:
        OperatorError: A place lies outside the result, or is named twice.

    Example:
        >>> np.expand_dims(np.ones(3), 0).shape
        (1, 3)
    """
    a = as_array(a)
    places = (axis,) if isinstance(axis, int) else tuple(axis)
    axes = normalize_axes("expand_dims", places, a.ndim + len(places))
    sizes = iter(a.shape)
    shape = [1 if i in axes else next(sizes) for i in range(a.ndim + len(axes))]
    if a.ndim and 0 not in axes:
        shape[0] = -2  # the batch, whatever its size
    return reshape_array(a, shape)


@public
def atleast_1d(a: ArrayLike) -> Array:
    """The array, or a number as an array of one.

    Args:
        a: Array or number.

    Returns:
        Array of at least one axis.

    Example:
        >>> np.atleast_1d(3.0)
        array([3.])
    """
    a = as_array(a)
    return a if a.ndim else reshape_array(a, (1,))


@public
def broadcast_to(array: ArrayLike, shape: ShapeLike) -> Array:
    """The array repeated along new leading axes and axes of size 1.

    Args:
        array: Array.
        shape: Shape of the result.

    Returns:
        Array of the shape.

    Raises:
        OperatorError: The array does not broadcast to the shape.

    Example:
        >>> np.broadcast_to(np.array([1.0, 2.0]), (2, 2))
        array([[1., 2.],
               [1., 2.]])
    """
    return invoke("broadcast_to", (as_array(array),), {"shape": as_shape(shape)})


@public
def broadcast_arrays(*arrays: ArrayLike) -> list[Array]:
    """The arrays, each repeated to their common shape.

    Args:
        arrays: Arrays whose shapes broadcast.

    Returns:
        Arrays of one shape.

    Raises:
        OperatorError: The shapes do not broadcast.

    Example:
        >>> [x.shape for x in np.broadcast_arrays(np.ones(2), np.ones((3, 1)))]
        [(3, 2), (3, 2)]
    """
    import numpy

    converted = [as_array(x) for x in arrays]
    try:
        shape = numpy.broadcast_shapes(*(x.shape for x in converted))
    except ValueError as error:
        shapes = [x.shape for x in converted]
        raise OperatorError(f"[broadcast_arrays] shapes must broadcast; got {shapes}.") from error
    return [x if x.shape == shape else broadcast_to(x, shape) for x in converted]


# ----------------------------------------------------------------------------------------------------- axes


@public
def transpose(a: ArrayLike, axes: Sequence[int] | None = None) -> Array:
    """The axes in another order.

    Args:
        a: Array.
        axes: For each axis of the result, the axis of a; None reverses them.

    Returns:
        Array.

    Raises:
        OperatorError: The axes do not name each axis once.

    Example:
        >>> np.transpose(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([[1., 3.],
               [2., 4.]])
    """
    a = as_array(a)
    order = (
        range(a.ndim - 1, -1, -1) if axes is None else [normalize_axis("transpose", i, a.ndim) for i in axes]
    )
    return invoke("transpose", (a,), {"axes": tuple(order)})


permute_dims = transpose


@public
def swapaxes(a: ArrayLike, axis1: int, axis2: int) -> Array:
    """The array with two axes exchanged.

    Args:
        a: Array.
        axis1: One axis.
        axis2: The other.

    Returns:
        Array.

    Raises:
        OperatorError: There is no such axis.

    Example:
        >>> np.swapaxes(np.ones((2, 3, 4)), 0, 2).shape
        (4, 3, 2)
    """
    a = as_array(a)
    order = list(range(a.ndim))
    first, second = (normalize_axis("swapaxes", axis, a.ndim) for axis in (axis1, axis2))
    order[first], order[second] = order[second], order[first]
    return transpose(a, order)


@public
def moveaxis(a: ArrayLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Array:
    """The array with axes moved to other places; the others keep their order.

    Args:
        a: Array.
        source: Axes to move.
        destination: Where each of them goes.

    Returns:
        Array.

    Raises:
        OperatorError: There is no such axis, or one is named twice, or the counts differ.

    Example:
        >>> np.moveaxis(np.ones((2, 3, 4)), 0, -1).shape
        (3, 4, 2)
    """
    a = as_array(a)
    sources = [source] if isinstance(source, int) else list(source)
    destinations = [destination] if isinstance(destination, int) else list(destination)
    if len(sources) != len(destinations):
        raise OperatorError(
            f"[moveaxis] there must be one destination a source; got {sources} and {destinations}."
        )
    for axes in (sources, destinations):
        normalize_axes("moveaxis", axes, a.ndim)
    moved = [normalize_axis("moveaxis", axis, a.ndim) for axis in sources]
    order = [axis for axis in range(a.ndim) if axis not in moved]
    for place, axis in sorted(zip((d % a.ndim for d in destinations), moved, strict=True)):
        order.insert(place, axis)
    return transpose(a, order)


@public
def flip(m: ArrayLike, axis: Axis = None) -> Array:
    """The numbers in reverse order along axes.

    Args:
        m: Array.
        axis: Axes to reverse; None for all.

    Returns:
        Array of m's shape.

    Raises:
        OperatorError: There is no such axis.

    Example:
        >>> np.flip(np.array([1.0, 2.0, 3.0]))
        array([3., 2., 1.])
    """
    m = as_array(m)
    for i in normalize_axes("flip", axis, m.ndim):
        m = slice_axis(m, i, m.shape[i] - 1, -1, -1)
    return m
