"""Functions of order and of data-dependent shape. They look at values: they cannot be traced."""

from __future__ import annotations

import numpy

from mxpipe import _native
from mxpipe._native import Array

from ._common import ArrayLike, as_array, normalize_axis, public
from ._common import reshape as reshape_array
from ._indexing import take


@public
def argsort(a: ArrayLike, axis: int | None = -1, descending: bool = False) -> Array:
    """Where the sorted numbers are; equal ones keep their order, NaN comes last.

    Args:
        a: Array.
        axis: Axis to sort along; None sorts the flat array.
        descending: Begin with the largest number.

    Returns:
        int64 array of a's shape.

    Raises:
        OperatorError: There is no such axis.
        GraphError: The array is traced.

    Example:
        >>> np.argsort(np.array([3.0, 1.0, 2.0]))
        array([1, 2, 0], dtype=int64)
    """
    values = as_array(a).asnumpy()
    if axis is None:
        values, axis = values.reshape(-1), 0
    axis = normalize_axis("argsort", axis, values.ndim)
    if descending:  # reversed numbers: equal ones keep their order, NaN stays last, integers do not overflow
        values = -values if values.dtype.kind == "f" else ~values
    return _native.array(numpy.argsort(values, axis=axis, kind="stable"))


@public
def sort(a: ArrayLike, axis: int | None = -1, descending: bool = False) -> Array:
    """The numbers in order, NaN last. Gradients go back to where the numbers were.

    Args:
        a: Array.
        axis: Axis to sort along; None sorts the flat array.
        descending: Begin with the largest number.

    Returns:
        Array of a's shape.

    Raises:
        OperatorError: There is no such axis.
        GraphError: The array is traced.

    Example:
        >>> np.sort(np.array([3.0, 1.0, 2.0]))
        array([1., 2., 3.])
    """
    a = as_array(a)
    if axis is None:
        a, axis = reshape_array(a, (-1,)), 0
    order = argsort(a.detach(), axis, descending).asnumpy()
    flat = numpy.arange(a.size).reshape(a.shape)
    return take(a, numpy.take_along_axis(flat, order, axis))


@public
def unique(a: ArrayLike) -> Array:
    """Each number once, in order.

    Args:
        a: Array.

    Returns:
        Array (n,).

    Raises:
        GraphError: The array is traced: the result's shape depends on its values.

    Example:
        >>> np.unique(np.array([3, 1, 3]))
        array([1, 3], dtype=int64)
    """
    return _native.array(numpy.unique(as_array(a).asnumpy()))


@public
def nonzero(a: ArrayLike) -> tuple[Array, ...]:
    """Positions of the numbers that are not 0.

    Args:
        a: Array of at least one axis.

    Returns:
        One int64 array (n,) an axis.

    Raises:
        GraphError: The array is traced: the result's shape depends on its values.

    Example:
        >>> np.nonzero(np.array([0, 5, 0, 7]))
        (array([1, 3], dtype=int64),)
    """
    return tuple(_native.array(places) for places in numpy.nonzero(as_array(a).asnumpy()))
