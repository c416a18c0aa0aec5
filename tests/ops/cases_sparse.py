"""Rows of the ops for sparse matrices and for features that interact; see cases.py."""

from __future__ import annotations

import numpy as np
from rows import Row, Spec, Values, call, ids, real, same

# ----------------------------------------------------------------------------------------------- references


def dot_interaction(x: Values, rows: Values) -> Values:
    vectors = np.concatenate([x[:, None], rows], axis=1)
    products = vectors @ vectors.transpose(0, 2, 1)
    i, j = np.tril_indices(vectors.shape[1], -1)
    return np.concatenate([x, products[:, i, j]], axis=1)


def dot_interaction_backward(g: Values, x: Values, rows: Values) -> tuple[Values, Values]:
    vectors = np.concatenate([x[:, None], rows], axis=1)
    count = vectors.shape[1]
    weights = np.zeros((len(x), count, count))
    i, j = np.tril_indices(count, -1)
    weights[:, i, j] = weights[:, j, i] = g[:, x.shape[1] :]
    result = weights @ vectors
    result[:, 0] += g[:, : x.shape[1]]
    return result[:, 0], result[:, 1:]


def csr_matrix(data: Values, indices: Values, indptr: Values, columns: int) -> Values:
    dense = np.zeros((len(indptr) - 1, columns))
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    np.add.at(dense, (rows, indices), data)
    return dense


def csr_matmul(
    data: Values, indices: Values, indptr: Values, b: Values, columns: int, transpose_a: bool = False
) -> Values:
    a = csr_matrix(data, indices, indptr, columns)
    return (a.T if transpose_a else a) @ b


def csr_sampled_matmul(indices: Values, indptr: Values, a: Values, b: Values, columns: int) -> Values:
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    return (a[rows] * b[indices]).sum(axis=1)


def starts(rows: int, nonzeros: int, dtype: str = "int64") -> Spec:
    """Where rows of random lengths begin."""

    def draw(random: np.random.Generator, _: str) -> Values:
        inner = np.sort(random.integers(0, nonzeros + 1, max(rows - 1, 0)))
        return np.concatenate([[0], inner, [nonzeros] * (rows > 0)]).astype(dtype)

    return Spec(draw)


# ----------------------------------------------------------------------------------------------------- rows

# samples, features, length
_INTERACTIONS = ((3, 4, 16), (2, 1, 3), (5, 7, 33), (1, 2, 1), (0, 3, 4), (4, 0, 5), (70, 5, 8))
# rows, columns, nonzeros, columns of the dense matrix, dtype of the indices
_PRODUCTS = (
    (5, 4, 9, 3, "int64"),
    (3, 7, 12, 64, "int32"),
    (6, 3, 8, 1, "int64"),
    (2, 5, 4, 49, "int32"),
    (4, 3, 0, 2, "int64"),
    (0, 3, 0, 2, "int64"),
    (3, 4, 5, 0, "int64"),
    (300, 40, 2000, 33, "int32"),
    (1, 9, 30, 200, "int64"),
)

ROWS: list[Row] = [
    Row(
        "dot_interaction",
        dot_interaction,
        tuple(call(real(n, d), real(n, f, d)) for n, f, d in _INTERACTIONS),
        loose=20,
    ),
    Row(
        "dot_interaction_backward",
        dot_interaction_backward,
        tuple(
            call(real(n, d + f * (f + 1) // 2), real(n, d), real(n, f, d), smooth=False)
            for n, f, d in _INTERACTIONS
        ),
        result=(same, same),
        loose=20,
    ),
    Row(
        "csr_matmul",
        csr_matmul,
        tuple(
            call(
                real(nonzeros),
                ids(nonzeros, below=columns, dtype=dtype),
                starts(rows, nonzeros, dtype),
                real(rows if transpose else columns, n),
                columns=columns,
                transpose_a=transpose,
            )
            for rows, columns, nonzeros, n, dtype in _PRODUCTS
            for transpose in (False, True)
        ),
        loose=40,
        second_order=True,
    ),
    Row(
        "csr_sampled_matmul",
        csr_sampled_matmul,
        tuple(
            call(
                ids(nonzeros, below=columns, dtype=dtype),
                starts(rows, nonzeros, dtype),
                real(rows, n),
                real(columns, n),
                columns=columns,
            )
            for rows, columns, nonzeros, n, dtype in _PRODUCTS
        ),
        loose=40,
        second_order=True,
    ),
]
