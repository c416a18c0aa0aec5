"""T5, M1f: the recommender with sparse embeddings, and a sparse matrix times a dense one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mxpipe as mx
from benchmarks.adapter import compiled_train, dense_weights
from benchmarks.workloads import Unsupported


def dlrm(weights: dict[str, np.ndarray]) -> mx.gluon.HybridBlock:
    """The zoo's DLRM, holding the given weights."""
    tables, rows, dim = weights["emb"].shape
    bottom, top = _units(weights, "bot"), _units(weights, "top")
    net = mx.gluon.model_zoo.dlrm(
        weights["bot0.weight"].shape[1],
        [rows] * tables,
        dim,
        bottom_units=bottom[:-1],
        top_units=top[:-1],
        outputs=top[-1],
    )
    net.initialize()
    net.tables[0].table.weight.set_data(mx.np.array(weights["emb"].reshape(tables * rows, dim)))
    for prefix, layers in (("bot", net.bottom), ("top", net.top)):
        for index, layer in enumerate(layers):
            dense_weights(layer, weights, f"{prefix}{index}")
    return net


def _units(weights: dict[str, np.ndarray], prefix: str) -> list[int]:
    layers = sum(name.startswith(prefix) and name.endswith(".weight") for name in weights)
    return [weights[f"{prefix}{index}.bias"].size for index in range(layers)]


def train(workload: Any, dtype: str) -> Callable[[int], Any]:
    """One compiled step over staged batches; returns the mean loss."""
    return compiled_train(dlrm(workload.params()), workload, dtype)


def micro(workload: Any, dtype: str) -> Callable[[], Any]:
    """Sparse times dense; the inputs are staged."""
    if dtype != "fp32":
        raise Unsupported(dtype)
    indptr, indices, data, dense = workload.batch_data()
    matrix = mx.sparse.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, len(dense)))
    right = mx.np.array(dense)
    return lambda index=0: matrix @ right
