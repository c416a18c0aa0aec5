"""Joining, splitting, repeating and shifting arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError

from ._common import (
    TO_THE_END,
    ArrayLike,
    ShapeLike,
    as_array,
    as_arrays,
    as_shape,
    cast,
    normalize_axis,
    public,
    slice_axis,
)
from ._common import reshape as reshape_array
from ._creation import full
from ._shape import atleast_1d, broadcast_arrays, broadcast_to, expand_dims, ravel


@public
def concatenate(arrays: Sequence[ArrayLike], axis: int | None = 0) -> Array:
    """Arrays joined along an axis that they have.

    Args:
        arrays: Arrays of one shape but along the axis; mixed dtypes are promoted.
        axis: The axis; None joins the flat arrays.

    Returns:
        Array.

    Raises:
        OperatorError: There is no array, or the shapes do not agree.

    Example:
        >>> np.concatenate([np.array([1.0, 2.0]), np.array([3.0])])
        array([1., 2., 3.])
    """
    if len(arrays) == 0:
        raise OperatorError("[concatenate] there must be at least one array; got none.")
    converted = as_arrays(arrays)
    if axis is None:
        axis, converted = 0, [ravel(x) for x in converted]
    return invoke("concatenate", converted, {"axis": axis})


concat = concatenate


@public
def stack(arrays: Sequence[ArrayLike], axis: int = 0) -> Array:
    """Arrays joined along a new axis.

    Args:
        arrays: Arrays of one shape; mixed dtypes are promoted.
        axis: Where the new axis is in the result.

    Returns:
        Array.

    Raises:
        OperatorError: There is no array, or the shapes differ.

    Example:
        >>> np.stack([np.zeros(2), np.ones(2)])
        array([[0., 0.],
               [1., 1.]])
    """
    return concatenate([expand_dims(x, axis) for x in arrays], axis)


@public
def vstack(arrays: Sequence[ArrayLike]) -> Array:
    """Arrays joined as rows.

    Args:
        arrays: Arrays of at least two axes, or of one, which are rows.

    Returns:
        Array.

    Raises:
        OperatorError: There is no array, or the shapes do not agree.

    Example:
        >>> np.vstack([np.zeros(2), np.ones(2)])
        array([[0., 0.],
               [1., 1.]])
    """
    rows = [as_array(x) for x in arrays]
    return concatenate([x if x.ndim > 1 else reshape_array(x, (1, -1)) for x in rows], 0)


@public
def hstack(arrays: Sequence[ArrayLike]) -> Array:
    """Arrays joined side by side: along the second axis, or the only one.

    Args:
        arrays: Arrays.

    Returns:
        Array.

    Raises:
        OperatorError: There is no array, or the shapes do not agree.

    Example:
        >>> np.hstack([np.zeros(2), np.ones(1)])
        array([0., 0., 1.])
    """
    columns = [atleast_1d(x) for x in arrays]
    return concatenate(columns, 0 if not columns or columns[0].ndim == 1 else 1)


@public
def column_stack(arrays: Sequence[ArrayLike]) -> Array:
    """Vectors as the columns of a matrix; matrices side by side.

    Args:
        arrays: Arrays (n,) or (n, k).

    Returns:
        Array (n, m).

    Raises:
        OperatorError: There is no array, or the shapes do not agree.

    Example:
        >>> np.column_stack([np.zeros(2), np.ones(2)])
        array([[0., 1.],
               [0., 1.]])
    """
    columns = [as_array(x) for x in arrays]
    return concatenate([x if x.ndim > 1 else reshape_array(x, (-1, 1)) for x in columns], 1)


@public
def meshgrid(*xi: ArrayLike, indexing: str = "xy") -> list[Array]:
    """The coordinates of all points of a grid.

    Args:
        xi: The coordinates along each axis, arrays (n,).
        indexing: "xy" lets the first coordinate run along the second axis, "ij" along the first.

    Returns:
        One array a coordinate, each of the grid's shape.

    Raises:
        OperatorError: The indexing is neither.

    Example:
        >>> np.meshgrid(np.arange(2), np.arange(3))[0].shape
        (3, 2)
    """
    if indexing not in ("xy", "ij"):
        raise OperatorError(f"[meshgrid] indexing must be xy or ij; got {indexing}.")
    axes = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        axes[:2] = [1, 0]
    coordinates = [as_array(x) for x in xi]
    return broadcast_arrays(
        *(
            reshape_array(x, [-1 if i == axis else 1 for i in range(len(xi))])
            for x, axis in zip(coordinates, axes, strict=True)
        )
    )


@public
def diff(a: ArrayLike, n: int = 1, axis: int = -1) -> Array:
    """Differences of neighbours along an axis.

    Args:
        a: Array of numbers.
        n: How many times to take them.
        axis: The axis.

    Returns:
        Array whose axis is shorter by n.

    Raises:
        OperatorError: There is no such axis, or a is bool.

    Example:
        >>> np.diff(np.array([1.0, 4.0, 9.0]))
        array([3., 5.])
    """
    a = as_array(a)
    axis = normalize_axis("diff", axis, a.ndim)
    for _ in range(n):
        a = slice_axis(a, axis, 1, TO_THE_END) - slice_axis(a, axis, 0, max(a.shape[axis] - 1, 0))
    return a


@public
def split(ary: ArrayLike, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Array]:
    """The array cut along an axis.

    Args:
        ary: Array.
        indices_or_sections: How many equal parts, or where to cut.
        axis: The axis.

    Returns:
        The parts, in order.

    Raises:
        OperatorError: The axis does not exist, or has no such number of equal parts.

    Example:
        >>> np.split(np.arange(4), 2)
        [array([0, 1], dtype=int64), array([2, 3], dtype=int64)]
    """
    ary = as_array(ary)
    if isinstance(indices_or_sections, int):
        size = ary.shape[normalize_axis("split", axis, ary.ndim)]
        if indices_or_sections < 1 or size % indices_or_sections:
            raise OperatorError(
                f"[split] the size of axis {axis} must be a multiple of the number of parts; "
                f"got shape {ary.shape} and {indices_or_sections} parts."
            )
    return array_split(ary, indices_or_sections, axis)


@public
def array_split(ary: ArrayLike, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Array]:
    """The array cut along an axis; of unequal parts the first ones are longer by one.

    Args:
        ary: Array.
        indices_or_sections: How many parts, or where to cut.
        axis: The axis.

    Returns:
        The parts, in order.

    Raises:
        OperatorError: The axis does not exist, or no part is asked for.

    Example:
        >>> [len(part) for part in np.array_split(np.arange(5), 2)]
        [3, 2]
    """
    ary = as_array(ary)
    axis = normalize_axis("array_split", axis, ary.ndim)
    size = ary.shape[axis]
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1:
            raise OperatorError(f"[array_split] there must be at least one part; got {indices_or_sections}.")
        length, longer = divmod(size, indices_or_sections)
        lengths = [length + 1] * longer + [length] * (indices_or_sections - longer)
        cuts = [0]
        for part in lengths:
            cuts.append(cuts[-1] + part)
    else:
        cuts = [0, *(slice(None, cut).indices(size)[1] for cut in indices_or_sections), size]
    return [slice_axis(ary, axis, begin, end) for begin, end in pairwise(cuts)]


# --------------------------------------------------------------------------------------------------- repeat


@public
def repeat(a: ArrayLike, repeats: int, axis: int | None = None) -> Array:
    """Each number several times, one after the other.

    Args:
        a: Array.
        repeats: How many times.
        axis: Along which axis; None repeats in the flat array.

    Returns:
        Array.

    Raises:
        OperatorError: There is no such axis, or `repeats` is negative.

    Example:
        >>> np.repeat(np.array([1.0, 2.0]), 2)
        array([1., 1., 2., 2.])
    """
    a = as_array(a)
    if axis is None:
        a, axis = ravel(a), 0
    axis = normalize_axis("repeat", axis, a.ndim)
    shape = list(a.shape)
    wide = broadcast_to(expand_dims(a, axis + 1), [*shape[: axis + 1], repeats, *shape[axis + 1 :]])
    return reshape_array(wide, [*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]])


@public
def tile(A: ArrayLike, reps: ShapeLike) -> Array:  # noqa: N803
    """The whole array several times along each axis.

    Args:
        A: Array.
        reps: How many times along each axis, the last ones if there are fewer numbers than axes.

    Returns:
        Array.

    Raises:
        OperatorError: A number is negative.

    Example:
        >>> np.tile(np.array([1.0, 2.0]), 2)
        array([1., 2., 1., 2.])
    """
    a = as_array(A)
    times = as_shape(reps)
    rank = max(a.ndim, len(times))
    shape = (1,) * (rank - a.ndim) + a.shape
    times = (1,) * (rank - len(times)) + times
    single = reshape_array(a, [size for pair in zip((1,) * rank, shape, strict=True) for size in pair])
    wide = broadcast_to(single, [size for pair in zip(times, shape, strict=True) for size in pair])
    return reshape_array(wide, [n * size for n, size in zip(times, shape, strict=True)])


@public
def pad(array: ArrayLike, pad_width: int | Sequence[Sequence[int]], constant_values: float = 0) -> Array:
    """The array with a margin of one number around it.

    Args:
        array: Array.
        pad_width: How many numbers before and behind along each axis, pairs; one number for all.
        constant_values: The number.

    Returns:
        Array of a's dtype.

    Raises:
        OperatorError: There is not one pair an axis.

    Example:
        >>> np.pad(np.ones(2), 1)
        array([0., 1., 1., 0.])
    """
    array = as_array(array)
    pairs = [(pad_width,) * 2] * array.ndim if isinstance(pad_width, int) else [tuple(p) for p in pad_width]
    if len(pairs) != array.ndim or any(len(pair) != 2 for pair in pairs):
        raise OperatorError(
            f"[pad] pad_width must hold one pair an axis; got {pad_width} for shape {array.shape}."
        )
    shape = [before + size + behind for size, (before, behind) in zip(array.shape, pairs, strict=True)]
    begin = [before for before, _ in pairs]
    end = [before + size for before, size in zip(begin, array.shape, strict=True)]
    region = {"begin": begin, "end": end, "step": [1] * array.ndim}
    if constant_values == 0:
        return invoke("slice_scatter", (array,), {"shape": shape, **region})
    margin = cast(full(shape, constant_values), array.dtype)
    return invoke("slice_assign", (margin, array), region)


@public
def roll(a: ArrayLike, shift: int, axis: int | None = None) -> Array:
    """The numbers moved along an axis; those pushed over the end come back at the front.

    Args:
        a: Array.
        shift: How far; may be negative.
        axis: The axis; None rolls the flat array.

    Returns:
        Array of a's shape.

    Raises:
        OperatorError: There is no such axis.

    Example:
        >>> np.roll(np.array([1.0, 2.0, 3.0]), 1)
        array([3., 1., 2.])
    """
    a = as_array(a)
    if axis is None:
        return reshape_array(roll(ravel(a), shift, 0), a.shape)
    axis = normalize_axis("roll", axis, a.ndim)
    if a.shape[axis] == 0 or shift % a.shape[axis] == 0:
        return a
    cut = a.shape[axis] - shift % a.shape[axis]
    return concatenate([slice_axis(a, axis, cut, TO_THE_END), slice_axis(a, axis, 0, cut)], axis)
