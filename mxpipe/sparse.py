"""Sparse arrays: row-sparse ones, as gradients of embedding tables are, and compressed sparse rows.

Example:
    >>> import mxpipe as mx
    >>> gradient = mx.sparse.RowSparseArray(
    ...     mx.np.array([1, 3, -1], dtype="int64"), mx.np.ones((3, 2)), (4, 2)
    ... )
    >>> gradient.todense().asnumpy().tolist()
    [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]
    >>> matrix = mx.sparse.csr_matrix(mx.np.array([[0.0, 2.0], [0.0, 0.0], [3.0, 0.0]]))
    >>> (matrix @ mx.np.array([[1.0], [10.0]])).asnumpy().tolist()
    [[20.0], [0.0], [3.0]]
"""

from __future__ import annotations

from typing import Any

import numpy

from . import np, npx
from ._native import Array
from .errors import OperatorError

__all__ = ["CSRNDArray", "RowSparseArray", "csr_matrix", "dot"]


class RowSparseArray:
    """A matrix that is zero but for some rows.

    Attributes:
        indices: int64 (n,), ascending and unique; the unused tail is -1, so that n depends on the size of a
            batch only and not on its values.
        data: (n, d), the rows at `indices`; zero where the index is -1.
        shape: Shape (rows, d) of the whole matrix.
    """

    __slots__ = ("data", "indices", "shape")

    def __init__(self, indices: Array, data: Array, shape: tuple[int, ...]) -> None:
        if indices.ndim != 1 or data.ndim != len(shape) or data.shape != (indices.shape[0], *shape[1:]):
            raise OperatorError(
                f"[sparse] indices must be (n,) and data (n, *shape[1:]) for shape {tuple(shape)}; "
                f"got indices {indices.shape} and data {data.shape}."
            )
        self.indices = indices
        self.data = data
        self.shape = tuple(shape)

    stype = "row_sparse"

    @property
    def dtype(self) -> numpy.dtype:
        """Type of the elements."""
        return self.data.dtype

    def todense(self) -> Array:
        """The same matrix with all its rows."""
        return npx.scatter_rows(np.zeros(self.shape, dtype=self.dtype), self.indices, self.data)

    def asnumpy(self) -> numpy.ndarray:
        """The whole matrix as a NumPy array."""
        return self.todense().asnumpy()

    def __repr__(self) -> str:
        rows = int((self.indices.asnumpy() >= 0).sum())
        return f"RowSparseArray({rows} of {self.shape[0]} rows, shape={self.shape}, dtype={self.dtype})"


class CSRNDArray:
    """A matrix in compressed sparse rows.

    Row r holds data[p] in column indices[p], for indptr[r] <= p < indptr[r + 1]; equal columns count with
    their sum. Products with dense matrices are differentiable with respect to `data` and the dense matrix.

    Attributes:
        data: Floating array (nonzeros,).
        indices: int32 or int64 (nonzeros,), in [0, shape[1]); products check them.
        indptr: (shape[0] + 1,), of the dtype of `indices`.
        shape: (rows, columns).
    """

    __slots__ = ("data", "indices", "indptr", "shape")

    def __init__(self, data: Array, indices: Array, indptr: Array, shape: tuple[int, ...]) -> None:
        fits = len(shape) == 2 and indptr.shape == (shape[0] + 1,)
        if not fits or data.ndim != 1 or indices.shape != data.shape:
            raise OperatorError(
                f"[sparse] data and indices must be (n,) and indptr (rows + 1,) for shape {tuple(shape)}; "
                f"got data {data.shape}, indices {indices.shape} and indptr {indptr.shape}."
            )
        self.data = data
        self.indices = indices
        self.indptr = indptr
        self.shape = (int(shape[0]), int(shape[1]))

    stype = "csr"

    @property
    def dtype(self) -> numpy.dtype:
        """Type of the elements."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def nnz(self) -> int:
        """How many elements are stored."""
        return int(self.data.shape[0])

    def __len__(self) -> int:
        return self.shape[0]

    def dot(self, other: Array, transpose_a: bool = False) -> Array:
        """This matrix, or its transpose, times a dense matrix or vector; see `npx.csr_matmul`."""
        dense = np.array(other) if not isinstance(other, Array) else other
        matrix = np.reshape(dense, (-1, 1)) if dense.ndim == 1 else dense
        product = npx.csr_matmul(
            self.data, self.indices, self.indptr, matrix, self.shape[1], transpose_a=transpose_a
        )
        return np.reshape(product, (-1,)) if dense.ndim == 1 else product

    def __matmul__(self, other: Array) -> Array:
        return self.dot(other)

    def __getitem__(self, rows: int | slice) -> CSRNDArray:
        """Some rows, as a matrix; one row is a matrix of one row.

        Raises:
            OperatorError: The key is neither a number nor a slice of step 1, or the row is not there.
        """
        if isinstance(rows, slice):
            first, last, step = rows.indices(self.shape[0])
            last = max(first, last)
        else:
            if not isinstance(rows, int) or not -self.shape[0] <= rows < self.shape[0]:
                raise OperatorError(f"[sparse] a row must be a number in {self.shape[0]} rows; got {rows!r}.")
            first, step = rows % self.shape[0], 1
            last = first + 1
        if step != 1:
            raise OperatorError(f"[sparse] a slice of rows must have step 1; got {step}.")
        begin, end = (int(self.indptr[place].item()) for place in (first, last))
        indptr = self.indptr[first : last + 1] - begin
        return CSRNDArray(
            self.data[begin:end], self.indices[begin:end], indptr, (last - first, self.shape[1])
        )

    def todense(self) -> Array:
        """The same matrix with all its elements; differentiable with respect to `data`."""
        counts = numpy.diff(self.indptr.asnumpy())
        rows = np.array(numpy.repeat(numpy.arange(self.shape[0]), counts), dtype="int64")
        flat = rows * self.shape[1] + self.indices.astype("int64")
        dense = npx.row_sparse_to_dense(flat, self.data, self.shape[0] * self.shape[1])
        return np.reshape(dense, self.shape)

    def tostype(self, stype: str) -> Array | CSRNDArray:
        """Itself for "csr", a dense array for "default".

        Raises:
            OperatorError: Another name.
        """
        if stype not in ("csr", "default"):
            raise OperatorError(f"[sparse] stype must be csr or default; got {stype!r}.")
        return self if stype == "csr" else self.todense()

    def asnumpy(self) -> numpy.ndarray:
        """The whole matrix as a NumPy array."""
        return self.todense().asnumpy()

    def asscipy(self) -> Any:
        """The same matrix as a `scipy.sparse.csr_matrix`."""
        from scipy import sparse  # not a dependency of this package: the caller has it

        parts = tuple([part.asnumpy() for part in (self.data, self.indices, self.indptr)])
        return sparse.csr_matrix(parts, shape=self.shape)

    def astype(self, dtype: Any) -> CSRNDArray:
        """The same matrix with elements of another floating dtype."""
        return CSRNDArray(self.data.astype(dtype), self.indices, self.indptr, self.shape)

    def copy(self) -> CSRNDArray:
        """A matrix with arrays of its own."""
        parts = [part.copy() for part in (self.data, self.indices, self.indptr)]
        return CSRNDArray(parts[0], parts[1], parts[2], self.shape)

    def __repr__(self) -> str:
        return f"CSRNDArray({self.nnz} elements, shape={self.shape}, dtype={self.dtype})"


def csr_matrix(source: Any, shape: tuple[int, int] | None = None, dtype: Any = None) -> CSRNDArray:
    """A matrix in compressed sparse rows.

    Args:
        source: A tuple (data, indices, indptr), a tuple (data, (rows, columns)), a dense matrix, a matrix of
            `scipy.sparse`, or a `CSRNDArray`.
        shape: Its shape; where None it is that of the source, and for tuples the least that fits.
        dtype: Type of the elements; where None it is the source's, and float32 for integers.

    Raises:
        OperatorError: The parts do not fit together.

    Example:
        >>> import mxpipe as mx
        >>> data, indices, indptr = [1.0, 2.0, 3.0], [1, 0, 2], [0, 1, 3]
        >>> mx.sparse.csr_matrix((data, indices, indptr), shape=(2, 3)).asnumpy().tolist()
        [[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]]
    """
    if isinstance(source, CSRNDArray):
        return source if dtype is None else source.astype(dtype)
    if isinstance(source, tuple) and len(source) == 3:
        data, indices, indptr = source
    elif isinstance(source, tuple):
        data, indices, indptr, shape = _from_coordinates(source, shape)
    elif hasattr(source, "tocsr"):
        matrix = source.tocsr()
        data, indices, indptr, shape = matrix.data, matrix.indices, matrix.indptr, matrix.shape
    else:
        dense = source.asnumpy() if isinstance(source, Array) else numpy.asarray(source)
        if dense.ndim != 2:
            raise OperatorError(f"[sparse] a dense source must have 2 axes; got shape {dense.shape}.")
        places = numpy.nonzero(dense)
        data, indices, indptr, shape = _from_coordinates((dense[places], places), dense.shape)
    values = _values(data, dtype)
    columns, starts = _indices(indices), _indices(indptr)
    if columns.dtype != starts.dtype:
        columns, starts = columns.astype("int64"), starts.astype("int64")
    if shape is None:
        width = int(columns.asnumpy().max()) + 1 if columns.shape[0] else 0
        shape = (starts.shape[0] - 1, width)
    return CSRNDArray(values, columns, starts, shape)


def dot(lhs: CSRNDArray, rhs: Array, transpose_a: bool = False) -> Array:
    """A sparse matrix, or its transpose, times a dense one: `lhs.dot(rhs, transpose_a)`."""
    return lhs.dot(rhs, transpose_a)


def _from_coordinates(source: Any, shape: Any) -> tuple[Any, numpy.ndarray, numpy.ndarray, Any]:
    """(data, (rows, columns)) sorted by rows, those of a row in their order."""
    data, (rows, columns) = source
    rows, columns = _numpy(rows).astype("int64"), _numpy(columns).astype("int64")
    order = numpy.argsort(rows, kind="stable")
    height = int(shape[0]) if shape is not None else int(rows.max(initial=-1)) + 1
    if rows.size and not 0 <= rows.min() <= rows.max() < height:
        raise OperatorError(f"[sparse] rows must lie in [0, {height}); got {rows.min()} to {rows.max()}.")
    indptr = numpy.zeros(height + 1, dtype="int64")
    numpy.cumsum(numpy.bincount(rows, minlength=height), out=indptr[1:])
    if shape is None:
        shape = (height, int(columns.max(initial=-1)) + 1)
    return _numpy(data)[order], columns[order], indptr, shape


def _numpy(values: Any) -> numpy.ndarray:
    return values.asnumpy() if isinstance(values, Array) else numpy.asarray(values)


def _values(data: Any, dtype: Any) -> Array:
    array = data if isinstance(data, Array) else np.array(numpy.asarray(data))
    if dtype is None and str(array.dtype) not in ("float16", "bfloat16", "float32", "float64"):
        dtype = "float32"
    return array if dtype is None else array.astype(dtype)


def _indices(values: Any) -> Array:
    if isinstance(values, Array):
        return values
    array = numpy.asarray(values)
    return np.array(array if array.dtype == numpy.int32 else array.astype("int64"))
