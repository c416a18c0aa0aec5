"""Picking entries and rows, and row-sparse updates."""

from __future__ import annotations

from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError
from mxpipe.np._common import ArrayLike, DType, as_array, cast, public
from mxpipe.np._elementwise import clip, mod
from mxpipe.np._indexing import as_indices


@public
def one_hot(
    data: ArrayLike, depth: int, on_value: float = 1.0, off_value: float = 0.0, dtype: DType = "float32"
) -> Array:
    """A line of `off_value` with `on_value` at each id; ids outside [0, depth) give `off_value` only.

    Args:
        data: Integer ids of any shape.
        depth: Length of the new last axis.
        on_value: What stands at the id.
        off_value: What stands elsewhere.
        dtype: Dtype of the result.

    Returns:
        Array data.shape + (depth,).

    Raises:
        OperatorError: The ids are no integers, or the depth is negative.

    Example:
        >>> npx.one_hot(np.array([1, 0]), 3)
        array([[0., 1., 0.],
               [1., 0., 0.]])
    """
    codes = invoke("one_hot", (as_indices("one_hot", data),), {"depth": depth, "dtype": dtype})
    if (on_value, off_value) == (1.0, 0.0):
        return codes
    return cast(codes * (on_value - off_value) + off_value, dtype)


@public
def pick(
    data: ArrayLike, index: ArrayLike, axis: int = -1, keepdims: bool = False, mode: str = "raise"
) -> Array:
    """One entry of each line along an axis: data[i, index[i]] of a matrix.

    Args:
        data: Array of at least one axis.
        index: Integers of data's shape without the axis; negative ones count from the end.
        axis: The axis.
        keepdims: Keep the axis, as 1.
        mode: What to do about an index outside [-n, n): "raise", "clip" or "wrap".

    Returns:
        Array of index's shape.

    Raises:
        OperatorError: An index lies outside and the mode is "raise", or the shapes do not fit.

    Example:
        >>> npx.pick(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0]))
        array([2., 3.])
    """
    data, index = as_array(data), as_indices("pick", index)
    if mode == "clip":
        index = clip(index, 0, data.shape[axis] - 1)
    elif mode == "wrap":
        index = mod(index, data.shape[axis])
    elif mode != "raise":
        raise OperatorError(f"[pick] mode must be raise, clip or wrap; got {mode}.")
    return invoke("pick", (data, index), {"axis": axis, "keepdims": keepdims})


@public
def csr_matmul(
    data: ArrayLike,
    indices: ArrayLike,
    indptr: ArrayLike,
    b: ArrayLike,
    columns: int,
    transpose_a: bool = False,
) -> Array:
    """A matrix in compressed sparse rows, or its transpose, times a dense one. `mx.sparse` wraps it.

    Args:
        data: Floating array (nonzeros,).
        indices: Integers (nonzeros,): the column of each.
        indptr: Integers (rows + 1,) of the dtype of indices: where each row begins.
        b: Array (columns, n), or (rows, n) with `transpose_a`, of data's dtype.
        columns: Columns of the sparse matrix.
        transpose_a: Multiply the transposed sparse matrix.

    Returns:
        Array (rows, n), or (columns, n) with `transpose_a`; differentiable with respect to data and b.

    Raises:
        OperatorError: An index lies outside [0, columns), indptr does not rise from 0 to the number of
            indices, or the shapes or dtypes do not fit.

    Example:
        >>> npx.csr_matmul(np.array([5.0, 7.0]), [1, 0], [0, 1, 2], np.array([[1.0], [2.0]]), columns=2)
        array([[10.],
               [ 7.]])
    """
    places = (as_indices("csr_matmul", indices), as_indices("csr_matmul", indptr))
    return invoke("csr_matmul", (data, *places, b), {"columns": columns, "transpose_a": transpose_a})


@public
def dot_interaction(x: ArrayLike, rows: ArrayLike) -> Array:
    """`x` and, behind it, the dot product of each pair of the vectors x, rows[0], rows[1], ... of a sample.

    Args:
        x: Floating array (n, d).
        rows: Array (n, f, d) of x's dtype.

    Returns:
        Array (n, d + f (f + 1) / 2); the pairs (i, j), j < i, stand in the order (1, 0), (2, 0), (2, 1), ...

    Raises:
        OperatorError: The shapes or dtypes do not fit.

    Source: Naumov et al. 2019, Deep Learning Recommendation Model.

    Example:
        >>> npx.dot_interaction(np.array([[1.0, 2.0]]), np.array([[[3.0, 4.0], [5.0, 6.0]]]))
        array([[ 1.,  2., 11., 17., 39.]])
    """
    return invoke("dot_interaction", (x, rows), {})


@public
def row_sparse_to_dense(indices: ArrayLike, rows: ArrayLike, count: int) -> Array:
    """Zeros with rows added at ids, in order; ids of -1 are ignored.

    Args:
        indices: Integer ids (n,).
        rows: Array (n, ...).
        count: Rows of the result.

    Returns:
        Array (count, ...) of rows' dtype.

    Raises:
        OperatorError: Another id lies outside [0, count), or the shapes do not fit.

    Example:
        >>> npx.row_sparse_to_dense(np.array([1, 1]), np.array([[2.0], [3.0]]), 2)
        array([[0.],
               [5.]])
    """
    ids = as_indices("row_sparse_to_dense", indices)
    return invoke("row_sparse_to_dense", (ids, rows), {"rows": count})


@public
def unique_rows(indices: ArrayLike, rows: ArrayLike) -> tuple[Array, Array]:
    """Each id once, ascending, and the sum of its rows in order of appearance.

    Args:
        indices: Integer ids (n,) of at least 0; -1 is dropped.
        rows: Array (n, ...).

    Returns:
        int64 ids (n,) and rows (n, ...). Behind the last id come -1 and rows of zeros, so that the shapes do
        not depend on the values.

    Raises:
        OperatorError: The shapes do not fit, or the ids are no integers.

    Example:
        >>> ids, rows = npx.unique_rows(np.array([3, 1, 3]), np.array([[1.0], [2.0], [4.0]]))
        >>> ids, rows
        (array([ 1,  3, -1], dtype=int64), array([[2.],
               [5.],
               [0.]]))
    """
    ids, sums = invoke("unique_rows", (cast(as_indices("unique_rows", indices), "int64"), rows), {})
    return ids, sums


@public
def take_rows(weight: ArrayLike, indices: ArrayLike) -> Array:
    """The rows of a table at ids; zeros for an id of -1.

    Args:
        weight: Array (rows, ...).
        indices: Integer ids (n,).

    Returns:
        Array (n, ...).

    Raises:
        OperatorError: Another id lies outside [0, rows).

    Example:
        >>> npx.take_rows(np.array([[1.0], [2.0]]), np.array([1, -1]))
        array([[2.],
               [0.]])
    """
    return invoke("take_rows", (weight, as_indices("take_rows", indices)), {})


@public
def scatter_rows(weight: ArrayLike, indices: ArrayLike, rows: ArrayLike) -> Array:
    """A table with the rows at ids replaced; ids of -1 are ignored.

    Where a compiled step assigns the result back to the table, only the rows named are written, so that the
    cost does not grow with the table.

    Args:
        weight: Array (rows, ...).
        indices: Integer ids (n,).
        rows: Array (n, ...) of weight's dtype.

    Returns:
        Array of weight's shape.

    Raises:
        OperatorError: Another id lies outside [0, rows), or the shapes or dtypes do not fit.

    Example:
        >>> npx.scatter_rows(np.zeros((2, 1)), np.array([1, -1]), np.array([[5.0], [6.0]]))
        array([[0.],
               [5.]])
    """
    return invoke("scatter_rows", (weight, as_indices("scatter_rows", indices), rows), {})
