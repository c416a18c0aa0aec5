"""Mixed precision: what is computed in bfloat16, what stays float32, and that training gets as far."""

from __future__ import annotations

import numpy as onp
import pytest

import mxpipe as mx
from mxpipe import _native, errors, gluon, np


def stages(function, *arguments, training=False):
    graph = _native.trace(function, list(arguments), training).graph
    return dict(graph.passes("bfloat16"))


def network() -> gluon.nn.HybridSequential:
    mx.random.seed(3)
    net = gluon.nn.HybridSequential()
    net.add(
        gluon.nn.Dense(64, activation="relu", in_units=16),
        gluon.nn.LayerNorm(in_channels=64),
        gluon.nn.Dense(64, activation="tanh", in_units=64),
        gluon.nn.Dense(1, in_units=64),
    )
    net.initialize(mx.init.Xavier())
    return net


def task(rows: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    x = onp.random.default_rng(0).standard_normal((rows, 16)).astype("float32")
    return np.array(x), np.array((x[:, :1] * x[:, 1:2] > 0).astype("float32"))


def test_matrix_work_is_bfloat16_and_results_keep_their_dtype():
    x, weight = np.ones((4, 8)), np.ones((3, 8))
    text = stages(lambda x, weight: np.exp(mx.npx.fully_connected(x, weight, no_bias=True)), x, weight)["amp"]
    lines = text.splitlines()
    assert any("fully_connected" in line and "bfloat16(4, 3)" in line for line in lines)
    assert any("exp" in line and "float32(4, 3)" in line and "bfloat16" not in line for line in lines)
    compiled = _native.trace(lambda x, w: mx.npx.fully_connected(x, w, no_bias=True), [x, weight])
    assert compiled.compile("bfloat16")(x, weight)[0].dtype == onp.float32


def test_a_program_without_matrix_work_is_left_as_it_is():
    text = stages(lambda x: np.exp(x) * 2.0, np.ones((4,)))
    assert text["amp"] == text["simplify"]


def test_values_are_those_of_bfloat16_operands():
    generator = onp.random.default_rng(5)
    x, w = (np.array(generator.standard_normal(shape).astype("float32")) for shape in ((33, 70), (17, 70)))
    compiled = _native.trace(lambda x, w: np.matmul(x, w.T), [x, w]).compile("bfloat16")
    narrow = [array.astype("bfloat16").asnumpy().astype("float64") for array in (x, w)]
    onp.testing.assert_allclose(compiled(x, w)[0].asnumpy(), narrow[0] @ narrow[1].T, rtol=5e-3, atol=2e-2)


def test_movement_of_narrow_values_stays_narrow():
    def function(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = mx.npx.fully_connected(x, w, no_bias=True)
        return np.matmul(np.transpose(y.reshape(2, 2, 3), (0, 2, 1)), y.reshape(2, 2, 3))

    text = stages(function, np.ones((4, 8)), np.ones((3, 8)))["amp"]
    assert text.count("cast") == 3, text  # two operands down, the result up


def test_training_gets_as_far_as_in_float32():
    x, y = task()
    losses = {}
    for precision in ("float32", "bfloat16"):
        net = network()
        trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 3e-3})
        step = gluon.TrainStep(net, gluon.loss.SigmoidBinaryCrossEntropyLoss(), trainer, precision=precision)
        losses[precision] = [float(step(x, y).mean()) for _ in range(150)][-1]
        assert all(p.data().dtype == onp.float32 for p in net.collect_params().values())
    assert losses["float32"] < 0.2
    assert abs(losses["bfloat16"] - losses["float32"]) < 0.02


def test_the_same_bytes_from_the_same_seed():
    def weights() -> bytes:
        x, y = task(256)
        net = network()
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
        step = gluon.TrainStep(net, gluon.loss.L2Loss(), trainer, precision="bfloat16")
        for _ in range(5):
            step(x, y)
        return b"".join(p.data().asnumpy().tobytes() for p in net.collect_params().values())

    assert weights() == weights()


def test_hybridized_inference_follows_its_parameters():
    net = network()
    x, _ = task(64)
    exact = net(x).asnumpy()
    net.hybridize(precision="bfloat16")
    for _ in range(2):  # the second call finds cast and packed weights
        onp.testing.assert_allclose(net(x).asnumpy(), exact, atol=0.05)
    net[3].weight.set_data(net[3].weight.data() * 0.0)
    net[3].bias.set_data(np.array([0.5]))
    assert (net(x).asnumpy() == 0.5).all()


def test_recording_a_hybridized_block_in_bfloat16():
    net = network()
    x, y = task(128)
    loss_of = gluon.loss.L2Loss()
    gradients = []
    for precision in ("float32", "bfloat16"):
        net.hybridize(precision=precision)
        with mx.autograd.record():
            loss = loss_of(net(x), y)
        loss.backward()
        gradients.append(net[0].weight.grad().asnumpy())
    scale = onp.abs(gradients[0]).max()
    onp.testing.assert_allclose(gradients[1], gradients[0], atol=0.05 * scale)


def test_amp_names_of_mxnet():
    assert mx.amp.precision() == "float32"
    mx.amp.init("bfloat16")
    try:
        assert mx.amp.precision() == "bfloat16"
    finally:
        mx.amp.init("float32")
    with pytest.raises(errors.BlockError, match=r"\[amp\] precision must be one of float32, bfloat16"):
        mx.amp.init("float16")


def test_sums_of_narrow_values_are_float32_and_move_half_the_bytes():
    def bias_gradient(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        return mx.autograd.grad(mx.npx.relu(mx.npx.fully_connected(x, w, b) ** 2).sum(), [b])[0]

    text = stages(bias_gradient, np.ones((6, 8)), np.ones((3, 8)), np.ones((3,)))["amp"]
    assert "wide=true" not in text, "what only elementwise ops read stays float32"
    x = np.array(onp.random.default_rng(0).standard_normal((1000, 3)).astype("float32")).astype("bfloat16")
    for op, reference in (("sum", onp.sum), ("mean", onp.mean)):
        wide = _native.invoke(op, [x], {"axis": (0,), "wide": True})
        assert wide.dtype == onp.float32
        onp.testing.assert_allclose(wide.asnumpy(), reference(x.asnumpy(), axis=0), rtol=1e-5, atol=1e-4)

    def stacked(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        y = mx.npx.fully_connected(mx.npx.fully_connected(x, w, b), w)
        return mx.autograd.grad(y.sum(), [b])[0]

    assert "wide=true" in stages(stacked, np.ones((6, 8)), np.ones((8, 8)), np.ones((8,)))["amp"]
