"""Graphs whose rows do not depend on each other run in blocks of rows: same values, whatever the threads."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

import mxpipe as mx
from mxpipe import np, npx

ROWS = 10_007  # a prime: the last block shares rows with the one before


@pytest.fixture
def net() -> mx.gluon.HybridBlock:
    mx.random.seed(3)
    net = mx.gluon.nn.HybridSequential()
    net.add(
        mx.gluon.nn.Dense(96, activation="relu", in_units=40),
        mx.gluon.nn.LayerNorm(in_channels=96),
        mx.gluon.nn.Dense(128, activation="tanh", in_units=96),
        mx.gluon.nn.Dense(3, in_units=128),
    )
    net.initialize(mx.init.Xavier())
    return net


def blocked_rows(net: mx.gluon.HybridBlock, x: Any) -> int:
    """How many rows the plan computes at once."""
    steps = net.inspect(x).steps
    return max(step.outputs[0].shape[0] for step in steps)


def test_blocks_give_what_the_whole_gives(net: mx.gluon.HybridBlock) -> None:
    x = np.random.normal(size=(ROWS, 40))
    expected = net(x).asnumpy()
    net.hybridize()
    result = net(x).asnumpy()
    numpy.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    assert net(x[:200]).shape == (200, 3)
    threads = mx.get_num_threads()
    try:
        for count in (1, 2, 3):
            mx.set_num_threads(count)
            assert net(x).asnumpy().tobytes() == result.tobytes()
    finally:
        mx.set_num_threads(threads)


def test_blocks_see_new_weights_and_several_inputs_and_outputs(net: mx.gluon.HybridBlock) -> None:
    class Both(mx.gluon.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, a: Any, b: Any) -> Any:
            y = self.net(a * b)
            return npx.softmax(y), y * 2.0

    both = Both()
    both.hybridize()
    a, b = np.random.normal(size=(ROWS, 40)), np.random.normal(size=(ROWS, 40))
    for _ in range(2):
        first, second = both(a, b)
        y = net(a * b).asnumpy()
        numpy.testing.assert_allclose(second.asnumpy(), y * 2, rtol=1e-4, atol=1e-5)
        numpy.testing.assert_allclose(
            first.asnumpy(), npx.softmax(np.array(y)).asnumpy(), rtol=1e-4, atol=1e-6
        )
        net[0].weight.set_data(np.random.normal(size=(96, 40)))


def test_rows_that_depend_on_each_other_are_not_split(net: mx.gluon.HybridBlock) -> None:
    class Normalised(mx.gluon.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Any) -> Any:
            return npx.softmax(self.net(x), axis=0)

    x = np.random.normal(size=(ROWS, 40))
    block = Normalised()
    expected = block(x).asnumpy()
    block.hybridize()
    numpy.testing.assert_allclose(block(x).asnumpy(), expected, rtol=1e-4, atol=1e-7)
    assert blocked_rows(block, x) == ROWS
    net.hybridize()
    assert blocked_rows(net, x) < ROWS


def test_an_operand_along_the_rows_is_not_split(net: mx.gluon.HybridBlock) -> None:
    class Weighted(mx.gluon.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.scale = mx.gluon.Constant(np.arange(ROWS, dtype="float32").reshape(ROWS, 1))

        def forward(self, x: Any) -> Any:
            return self.net(x) * self.scale.data()

    x = np.random.normal(size=(ROWS, 40))
    block = Weighted()
    block.scale.initialize()
    expected = block(x).asnumpy()
    block.hybridize()
    numpy.testing.assert_allclose(block(x).asnumpy(), expected, rtol=1e-3, atol=1e-2)


class Residual(mx.gluon.HybridBlock):
    """Images of falling size: a stem, residual blocks, a pool, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        nn = mx.gluon.nn
        self.stem = nn.Conv2D(32, 3, padding=1, in_channels=3, activation="relu")
        self.first = nn.Conv2D(32, 1, in_channels=32, activation="relu")
        self.second = nn.Conv2D(32, 3, padding=1, in_channels=32)
        self.pool = nn.MaxPool2D(4)
        self.last = nn.Conv2D(64, 3, padding=1, in_channels=32, activation="relu")
        self.mean = nn.GlobalAvgPool2D()
        self.output = nn.Dense(5, in_units=64)

    def forward(self, x: Any) -> Any:
        y = self.stem(x)
        y = npx.relu(self.second(self.first(y)) + y)
        y = self.last(self.pool(y))
        return self.output(self.mean(y)), y


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_images_go_through_stages_of_growing_blocks(precision: str) -> None:
    mx.random.seed(5)
    net = Residual()
    net.initialize(mx.init.Xavier())
    x = np.random.normal(size=(7, 3, 160, 160))
    expected = [part.asnumpy() for part in net(x)]
    session = net.compile(x, sizes=(7,), precision=precision)
    results = [part.asnumpy() for part in session(x)]
    for result, wanted in zip(results, expected, strict=True):
        scale = float(numpy.abs(wanted).max())
        tolerance = 2e-6 if precision == "float32" else 2e-2
        numpy.testing.assert_allclose(result, wanted, atol=tolerance * scale, rtol=0)
    plan = mx.inspection.view(session.plan(7))
    blocks = [step.outputs[0].shape[0] for step in plan.steps]
    assert blocks == sorted(blocks), "later layers take more images at a time"
    assert blocks[0] < blocks[-1]
    kept = [operand for step in plan.steps for operand in step.outputs if operand.place == "arena"]
    assert all(operand.index + operand.bytes <= plan.arena_bytes for operand in kept)
    alone = [part.asnumpy() for part in net.compile(x, sizes=(1,), precision=precision)(x[6:])]
    for result, single in zip(results, alone, strict=True):
        scale = float(numpy.abs(single).max())
        numpy.testing.assert_allclose(
            result[6:], single, atol=(1e-6 if precision == "float32" else 1e-2) * scale
        )


def test_images_that_depend_on_each_other_are_not_split() -> None:
    class Centred(Residual):
        def forward(self, x: Any) -> Any:
            y = self.stem(x)
            return y - y.mean(axis=0, keepdims=True)

    net = Centred()
    net.initialize(mx.init.Xavier())
    x = np.random.normal(size=(7, 3, 160, 160))
    expected = net(x).asnumpy()
    net.hybridize()
    numpy.testing.assert_allclose(net(x).asnumpy(), expected, rtol=1e-5, atol=1e-5)
    assert blocked_rows(net, x) == 7
