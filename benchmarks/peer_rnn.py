"""The LSTM forecaster of the peer benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mxpipe as mx
from benchmarks.adapter import compiled_infer, compiled_train, dense_weights


def forecaster(weights: dict[str, np.ndarray]) -> Any:
    """The network, holding the given weights."""
    layers = sum(".weight_ih_l" in name for name in weights)
    horizon, units = weights["head.weight"].shape
    features = weights["lstm.weight_ih_l0"].shape[1]
    net = mx.gluon.model_zoo.lstm_forecaster(horizon, units, layers, num_features=features)
    net.initialize()
    names = {
        "weight_ih": "i2h_weight",
        "weight_hh": "h2h_weight",
        "bias_ih": "i2h_bias",
        "bias_hh": "h2h_bias",
    }
    parameters = net.encoder.collect_params()
    for layer in range(layers):
        for theirs, ours in names.items():
            parameters[f"l{layer}_{ours}"].set_data(mx.np.array(weights[f"lstm.{theirs}_l{layer}"]))
    dense_weights(net.head, weights, "head")
    return net


def train(workload: Any, dtype: str) -> Callable[[int], Any]:
    """One compiled step a call; the mean loss."""
    return compiled_train(forecaster(workload.params()), workload, dtype)


def infer(workload: Any, dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """NumPy in, NumPy out."""
    return compiled_infer(forecaster(workload.params()), workload, dtype)
