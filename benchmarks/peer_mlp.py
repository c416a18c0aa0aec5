"""T1, T1s, T1b, I3a, I3b, S1: the multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mxpipe as mx
from benchmarks.adapter import compiled_infer, compiled_train, dense_weights


def mlp(weights: dict[str, np.ndarray], prefix: str = "fc") -> mx.gluon.HybridBlock:
    """Dense layers with relu between, holding the given weights."""
    layers = sum(name.startswith(prefix) and name.endswith(".weight") for name in weights)
    net = mx.gluon.nn.HybridSequential()
    for index in range(layers):
        outputs, inputs = weights[f"{prefix}{index}.weight"].shape
        net.add(
            mx.gluon.nn.Dense(outputs, activation="relu" if index < layers - 1 else None, in_units=inputs)
        )
    net.initialize()
    for index in range(layers):
        dense_weights(net[index], weights, f"{prefix}{index}")
    return net


def train(workload: Any, dtype: str) -> Callable[[int], Any]:
    """One compiled step over staged batches; returns the mean loss."""
    return compiled_train(mlp(workload.params()), workload, dtype)


def infer(workload: Any, dtype: str) -> Callable[..., np.ndarray]:
    """NumPy in, NumPy out, through a hybridized net."""
    return compiled_infer(mlp(workload.params()), workload, dtype)
