"""Residual networks: training, and inference on batches of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mxpipe as mx
from benchmarks.adapter import compiled_infer, compiled_train, dense_weights
from mxpipe.gluon import nn
from mxpipe.gluon.model_zoo import vision


def network(model: str) -> nn.HybridSequential:
    """ResNet-50, or ResNet-18 with a stem of one 3x3 convolution, normalization and relu."""
    net = nn.HybridSequential()
    if model == "resnet50":
        whole = vision.resnet50_v1()
        net.add(*whole.features, whole.output)
        return net
    whole = vision.resnet18_v1(classes=10, thumbnail=True)
    stem, *stages = whole.features
    net.add(stem, nn.BatchNorm(in_channels=64), nn.Activation("relu"), *stages, whole.output)
    return net


def _set_pairs(layers: Any, weights: dict[str, np.ndarray], block: str, index: int | str = 0) -> None:
    """Give the convolutions and normalizations among `layers` the block's weights, pair by pair."""
    for layer in layers:
        if isinstance(layer, nn.Conv2D):
            layer.weight.set_data(mx.np.array(weights[f"{block}.conv{index}.weight"]))
        elif isinstance(layer, nn.BatchNorm):
            name = f"{block}.bn{index}"
            layer.gamma.set_data(mx.np.array(weights[f"{name}.weight"]))
            layer.beta.set_data(mx.np.array(weights[f"{name}.bias"]))
            layer.running_mean.set_data(mx.np.array(weights[f"{name}.running_mean"]))
            layer.running_var.set_data(mx.np.array(weights[f"{name}.running_var"]))
            index = index if isinstance(index, str) else index + 1


def resnet(workload: Any) -> nn.HybridSequential:
    """The network with the workload's weights."""
    weights = workload.params()
    net = network(workload.model)
    net.initialize()
    stages = [layer for layer in net if isinstance(layer, nn.HybridSequential)]
    _set_pairs(net, weights, "stem")
    for number, stage in enumerate(stages):
        for position, block in enumerate(stage):
            _set_pairs(block.body, weights, f"s{number}b{position}")
            if block.downsample is not None:
                _set_pairs(block.downsample, weights, f"s{number}b{position}", "_down")
    dense_weights(net[-1], weights, "fc")
    return net


def train(workload: Any, dtype: str) -> Callable[[int], Any]:
    """A step of SGD with momentum."""
    return compiled_train(resnet(workload), workload, dtype)


def infer(workload: Any, dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """Logits of a batch."""
    return compiled_infer(resnet(workload), workload, dtype)
