"""Rows of the ops for sparse matrices and for features that interact; see cases.py."""

from __future__ import annotations

import numpy as np
from rows import Row, Values, call, real, same

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


# ----------------------------------------------------------------------------------------------------- rows

# samples, features, length
_INTERACTIONS = ((3, 4, 16), (2, 1, 3), (5, 7, 33), (1, 2, 1), (0, 3, 4), (4, 0, 5), (70, 5, 8))

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
]
