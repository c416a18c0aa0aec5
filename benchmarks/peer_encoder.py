"""T3, I2a, I2b: the encoder of token sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mxpipe as mx
from benchmarks.adapter import compiled_infer, compiled_train, dense_weights


def encoder(weights: dict[str, np.ndarray], heads: int) -> mx.gluon.HybridBlock:
    """The network of the model zoo, without dropout, holding the given weights."""
    vocabulary, units = weights["tok"].shape
    layers = sum(name.endswith(".up.weight") for name in weights)
    net = mx.gluon.model_zoo.transformer_encoder(
        vocabulary,
        weights["cls.weight"].shape[0],
        layers,
        units,
        heads,
        weights["l0.up.weight"].shape[0],
        weights["pos"].shape[0],
        dropout=0.0,
    )
    net.initialize()
    net.tokens.weight.set_data(mx.np.array(weights["tok"]))
    net.positions.set_data(mx.np.array(weights["pos"]))
    _norm(net.norm, weights, "ln")
    for index, layer in enumerate(net.layers):
        dense_weights(layer.attention.qkv, weights, f"l{index}.qkv")
        dense_weights(layer.attention.out, weights, f"l{index}.out")
        dense_weights(layer.up, weights, f"l{index}.up")
        dense_weights(layer.down, weights, f"l{index}.down")
        _norm(layer.norm1, weights, f"l{index}.ln1")
        _norm(layer.norm2, weights, f"l{index}.ln2")
    dense_weights(net.pooler, weights, "pool")
    dense_weights(net.classifier, weights, "cls")
    return net


def _norm(layer: Any, weights: dict[str, np.ndarray], name: str) -> None:
    layer.gamma.set_data(mx.np.array(weights[f"{name}.gamma"]))
    layer.beta.set_data(mx.np.array(weights[f"{name}.beta"]))


HEADS = 12


def train(workload: Any, dtype: str) -> Callable[[int], Any]:
    """One compiled step over staged batches; returns the mean loss."""
    return compiled_train(encoder(workload.params(), HEADS), workload, dtype)


def infer(workload: Any, dtype: str) -> Callable[..., np.ndarray]:
    """NumPy in, NumPy out, through a hybridized net."""
    return compiled_infer(encoder(workload.params(), HEADS), workload, dtype)
