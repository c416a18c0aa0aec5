"""Training against PyTorch: the losses that version 2.13 gave for the same network and data, in float64."""

from __future__ import annotations

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.gluon import nn

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((64, 10))
Y = (RANDOM.random(64) > 0.5).astype(float)
FIRST = RANDOM.standard_normal((16, 10)) * 0.3
LAST = RANDOM.standard_normal((1, 16)) * 0.3

# Losses of steps 1, 10 and 20.
CASES = {
    "sgd": (
        {"learning_rate": 0.1, "momentum": 0.9, "wd": 0.01},
        [0.7042837400157419, 0.5198100133006337, 0.32093393695319167],
    ),
    "nag": (
        {"learning_rate": 0.1, "momentum": 0.9},
        [0.7042837400157419, 0.4944549532571526, 0.2547146263636463],
    ),
    "adam": (
        {"learning_rate": 0.01, "epsilon": 1e-3, "wd": 0.01},
        [0.7042837400157419, 0.553692189462423, 0.4250769924962774],
    ),
    "adamw": (
        {"learning_rate": 0.01, "wd": 0.1},
        [0.7042837400157419, 0.5375050746253872, 0.38147060008731687],
    ),
    "adagrad": (
        {"learning_rate": 0.1, "initial_accumulator_value": 0.1},
        [0.7042837400157419, 0.5378413979182044, 0.4210716554517148],
    ),
}


def network(dtype, batch_norm=True):
    net = nn.HybridSequential()
    net.add(nn.Dense(16, in_units=10), nn.LayerNorm(in_channels=16), nn.GELU())
    if batch_norm:
        net.add(nn.BatchNorm(in_channels=16))
    net.add(nn.Dense(1, in_units=16))
    net.initialize()
    net.cast(dtype)
    net[0].weight.set_data(FIRST)
    net[-1].weight.set_data(LAST)
    return net


def train(net, optimizer, arguments, dtype):
    trainer = mx.gluon.Trainer(net.collect_params(), optimizer, arguments)
    step = mx.gluon.TrainStep(net, mx.gluon.loss.SigmoidBCELoss(), trainer)
    x, y = mx.np.array(X, dtype=dtype), mx.np.array(Y, dtype=dtype)
    return [step(x, y).asnumpy().astype(np.float64).mean() for _ in range(20)]


@pytest.mark.parametrize("optimizer", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-6)])
def test_losses_are_those_of_pytorch(optimizer, dtype, tolerance):
    arguments, expected = CASES[optimizer]
    losses = train(network(dtype), optimizer, arguments, dtype)
    np.testing.assert_allclose([losses[0], losses[9], losses[19]], expected, rtol=tolerance)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("multi_precision", [False, True])
def test_narrow_types_follow(dtype, multi_precision):
    arguments = {"learning_rate": 0.01, "epsilon": 1e-3, "multi_precision": multi_precision}
    wide = train(network("float64", batch_norm=False), "adam", arguments, "float64")
    net = network(dtype, batch_norm=False)
    losses = train(net, "adam", arguments, dtype)
    np.testing.assert_allclose(losses, wide, rtol=0.02)
    assert str(net[0].weight.data().dtype) == dtype
