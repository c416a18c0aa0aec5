"""Row-sparse arrays: the gradient of an embedding table touches only the rows that a batch looked up.

Example:
    >>> import mxpipe as mx
    >>> gradient = mx.sparse.RowSparseArray(
    ...     mx.np.array([1, 3, -1], dtype="int64"), mx.np.ones((3, 2)), (4, 2)
    ... )
    >>> gradient.todense().asnumpy().tolist()
    [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]
"""

from __future__ import annotations

import numpy

from . import np, npx
from ._native import Array
from .errors import OperatorError

__all__ = ["RowSparseArray"]


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
