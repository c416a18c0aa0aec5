"""Scales, shifts, residuals and activations become part of the layer before them, in inference."""

from __future__ import annotations

import numpy as onp
import pytest

import mxpipe as mx
from mxpipe import _native, gluon, np


def residual_block() -> gluon.nn.HybridBlock:
    class Block(gluon.nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.first = gluon.nn.Conv2D(6, 3, padding=1, in_channels=5, use_bias=False)
            self.norm = gluon.nn.BatchNorm(in_channels=6)
            self.second = gluon.nn.Conv2D(5, 3, padding=1, in_channels=6)
            self.last = gluon.nn.BatchNorm(in_channels=5)

        def forward(self, x):
            y = mx.npx.relu(self.norm(self.first(x)))
            return mx.npx.relu(self.last(self.second(y)) + x)

    mx.random.seed(0)
    block = Block()
    block.initialize(mx.init.Xavier())
    generator = onp.random.default_rng(0)
    for norm in (block.norm, block.last):
        for parameter, low in (
            (norm.gamma, 0.5),
            (norm.beta, -1),
            (norm.running_mean, -1),
            (norm.running_var, 0.5),
        ):
            parameter.set_data(np.array(generator.uniform(low, 2.0, parameter.shape).astype("float32")))
    return block


def session(block: gluon.nn.HybridBlock, x: np.ndarray, precision: str = "float32"):
    return _native.trace(block, [x]).compile(precision, fold=True)


def image() -> np.ndarray:
    return np.array(onp.random.default_rng(1).standard_normal((2, 5, 9, 7)).astype("float32"))


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-5), ("bfloat16", 5e-2)])
def test_a_residual_block_becomes_two_convolutions(precision, tolerance):
    block, x = residual_block(), image()
    expected = block(x).asnumpy()
    compiled = session(block, x, precision)
    onp.testing.assert_allclose(compiled(x)[0].asnumpy(), expected, rtol=tolerance, atol=tolerance)
    plan = compiled.optimized()
    assert plan.count("convolution(") == 2
    assert plan.count("activation=relu") == 2
    assert "batch_norm" not in plan
    between = plan.split("convolution(")[1]
    assert "elementwise" not in between, plan


def test_the_fold_follows_the_statistics():
    block, x = residual_block(), image()
    compiled = session(block, x)
    compiled(x)
    block.norm.running_var.data()[:] = block.norm.running_var.data() * 4.0
    onp.testing.assert_allclose(compiled(x)[0].asnumpy(), block(x).asnumpy(), rtol=2e-5, atol=2e-5)


def test_a_gate_that_depends_on_the_image_is_not_folded():
    w = np.array(onp.random.default_rng(2).standard_normal((4, 5, 1, 1)).astype("float32"))

    def gated(x):
        y = _native.invoke("convolution", [x, w], {})
        return y * np.tanh(x.mean(axis=(1, 2, 3), keepdims=True))

    x = image()[:1]
    compiled = _native.trace(gated, [x]).compile(fold=True)
    onp.testing.assert_allclose(compiled(x)[0].asnumpy(), gated(x).asnumpy(), rtol=1e-5, atol=1e-6)
    assert "elementwise" in compiled.optimized()


def test_dense_layers_fold_too():
    mx.random.seed(0)
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(6, in_units=4), gluon.nn.BatchNorm(in_channels=6), gluon.nn.Activation("relu"))
    net.initialize(mx.init.Xavier())
    net[1].running_mean.set_data(np.arange(6).astype("float32"))
    x = np.array(onp.random.default_rng(3).standard_normal((3, 4)).astype("float32"))
    expected = net(x).asnumpy()
    compiled = session(net, x)
    onp.testing.assert_allclose(compiled(x)[0].asnumpy(), expected, rtol=1e-5, atol=1e-5)
    assert len(compiled.steps().splitlines()) == 1


def test_nothing_is_folded_unasked():
    block, x = residual_block(), image()
    assert "batch_norm" not in (plan := _native.trace(block, [x]).compile().optimized())
    assert "elementwise" in plan
