"""Recomputation: the same numbers from less memory."""

from __future__ import annotations

import numpy as onp
import pytest

import mxpipe as mx
from mxpipe import gluon, np


def network() -> gluon.nn.HybridSequential:
    mx.random.seed(2)
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Conv2D(8, 3, padding=1, in_channels=3, use_bias=False))
    for _ in range(8):
        net.add(gluon.nn.BatchNorm(in_channels=8), gluon.nn.Activation("relu"))
        net.add(gluon.nn.Conv2D(8, 3, padding=1, in_channels=8, use_bias=False))
    net.add(gluon.nn.GlobalAvgPool2D(), gluon.nn.Flatten(), gluon.nn.Dense(10, in_units=8))
    net.initialize(mx.init.Xavier())
    return net


def batch() -> tuple[np.ndarray, np.ndarray]:
    generator = onp.random.default_rng(0)
    x = generator.standard_normal((4, 3, 32, 32)).astype("float32")
    return np.array(x), np.array(generator.integers(0, 10, 4))


def train(remat: bool, precision: str) -> tuple[list[bytes], int, str]:
    net, (x, y) = network(), batch()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.05})
    step = gluon.TrainStep(
        net, gluon.loss.SoftmaxCrossEntropyLoss(), trainer, precision=precision, remat=remat
    )
    losses = [step(x, y).asnumpy().tobytes() for _ in range(3)]
    losses += [parameter.data().asnumpy().tobytes() for parameter in net.collect_params().values()]
    compiled = next(step._plans.newest())[1].compiled
    return losses, compiled.arena_bytes, compiled.optimized()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_bytes_from_less_memory(precision):
    kept, memory, plan = train(False, precision)
    made_again, less, plan_again = train(True, precision)
    assert kept == made_again
    assert plan_again.count("= batch_norm(") > plan.count("= batch_norm(")
    assert less < 0.85 * memory, (less, memory)


def test_a_recorded_block_gives_the_same_gradients():
    gradients = []
    for remat in (False, True):
        net, (x, y) = network(), batch()
        net.hybridize(remat=remat)
        with mx.autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), y)
        loss.backward()
        gradients.append([p.grad().asnumpy() for p in net.collect_params().values() if p.grad_req != "null"])
    for kept, made_again in zip(*gradients, strict=True):
        onp.testing.assert_allclose(made_again, kept, rtol=1e-5, atol=1e-7)
