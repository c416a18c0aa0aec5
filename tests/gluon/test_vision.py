"""Convolution and pooling layers, residual networks, and learning from images."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import datasets

import mxpipe as mx
from mxpipe import autograd, gluon
from mxpipe.errors import BlockError, OperatorError, SpecificationError
from mxpipe.gluon import model_zoo, nn
from mxpipe.gluon.model_zoo import vision

RANDOM = np.random.default_rng(0)


def images(*shape, dtype="float64"):
    return mx.np.array(RANDOM.standard_normal(shape), dtype=dtype)


def prepared(layer, x):
    mx.random.seed(3)
    layer.initialize(mx.init.Normal(1.0))
    layer.cast(str(x.dtype))
    layer(x)
    return layer


# --------------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_layouts_agree(spatial, transposed):
    name = f"Conv{spatial}D{'Transpose' if transposed else ''}"
    first, last = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}[spatial]
    more = {"output_padding": 1} if transposed else {}
    arguments = {"strides": 2, "padding": 1, "groups": 2, "activation": "relu", **more}
    x = images(2, 4, *(5, 6, 7)[:spatial])
    layer = prepared(getattr(nn, name)(6, 3, layout=first, **arguments), x)
    moved = mx.np.array(np.moveaxis(x.asnumpy(), 1, -1))
    other = prepared(getattr(nn, name)(6, 3, layout=last, **arguments), moved)
    assert layer.weight.shape == other.weight.shape
    other.weight.set_data(layer.weight.data())
    np.testing.assert_allclose(
        np.moveaxis(other(moved).asnumpy(), -1, 1), layer(x).asnumpy(), rtol=1e-12, atol=1e-12
    )


def test_transposed_undoes_the_shape():
    x = images(2, 3, 9, 8)
    for strides, padding, dilation, extra in ((1, 0, 1, 0), (2, 1, 1, (0, 1)), (3, 2, 2, (1, 0))):
        down = prepared(nn.Conv2D(5, 3, strides, padding, dilation), x)
        up = prepared(nn.Conv2DTranspose(3, 3, strides, padding, extra, dilation), down(x))
        assert up(down(x)).shape[1] == 3
        if extra == (0, 1):
            assert up(down(x)).shape == x.shape


def test_target_shape():
    x, weight = images(1, 2, 4, 4), images(2, 3, 3, 3)
    result = mx.npx.deconvolution(x, weight, stride=2, target_shape=(8, 7))
    assert result.shape == (1, 3, 8, 7)


def test_depthwise():
    x = images(2, 6, 5, 5)
    layer = prepared(nn.Conv2D(6, 3, padding=1, groups=6, use_bias=False), x)
    weight = layer.weight.data().asnumpy()
    alone = [
        mx.npx.convolution(x[:, i : i + 1], mx.np.array(weight[i : i + 1]), pad=1).asnumpy() for i in range(6)
    ]
    np.testing.assert_allclose(layer(x).asnumpy(), np.concatenate(alone, axis=1), rtol=1e-12, atol=1e-12)


def test_bfloat16_beside_a_float32_bias():
    x, weight = images(2, 8, 5, 5, dtype="bfloat16"), images(4, 8, 3, 3, dtype="bfloat16")
    bias = images(4, dtype="float32")
    result = mx.npx.convolution(x, weight, bias, pad=1)
    wide = mx.npx.convolution(x.astype("float32"), weight.astype("float32"), bias, pad=1)
    assert str(result.dtype) == "bfloat16"
    np.testing.assert_allclose(result.astype("float32").asnumpy(), wide.asnumpy(), rtol=1e-2, atol=1e-2)


def test_gradients_reach_parameters_and_input():
    x = images(2, 3, 6, 6)
    layer = prepared(nn.Conv2D(4, 3, strides=2, padding=1, activation="tanh"), x)
    weight, bias = layer.weight.data(), layer.bias.data()

    def run(inputs, given_weight, given_bias):
        y = mx.npx.convolution(inputs, given_weight, given_bias, stride=2, pad=1)
        return mx.np.tanh(y)

    mx.testing.check_vjp(run, [x, weight, bias], epsilon=1e-5, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run(x, weight, bias).asnumpy(), layer(x).asnumpy(), rtol=1e-12)


def test_the_first_convolution_makes_no_gradient_of_its_input():
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(4, 3, in_channels=3), nn.Conv2D(4, 3, in_channels=4), nn.GlobalAvgPool2D(), nn.Flatten()
    )
    net.initialize()
    parameters = [p.data() for p in net.collect_params().values()]

    def run(x):
        y = net(x)
        return autograd.grad(y, parameters)

    graph = mx._native.trace(run, [images(2, 3, 8, 8, dtype="float32")], True).graph.to_json()
    assert graph.count('"convolution_backward_data"') == 1
    assert graph.count('"convolution_backward_weights"') == 2


@pytest.mark.parametrize("kind", ["Max", "Avg"])
def test_pools(kind):
    x = images(2, 3, 8, 8)
    values = x.asnumpy()
    reduce = np.max if kind == "Max" else np.mean
    halves = reduce(values.reshape(2, 3, 4, 2, 4, 2), axis=(3, 5))
    np.testing.assert_allclose(getattr(nn, f"{kind}Pool2D")()(x).asnumpy(), halves, rtol=1e-12)
    np.testing.assert_allclose(
        getattr(nn, f"Global{kind}Pool2D")()(x).asnumpy(),
        reduce(values, axis=(2, 3), keepdims=True),
        rtol=1e-12,
    )
    np.testing.assert_allclose(getattr(nn, f"Adaptive{kind}Pool2D")(4)(x).asnumpy(), halves, rtol=1e-12)
    moved = mx.np.array(np.moveaxis(values, 1, -1))
    np.testing.assert_allclose(
        getattr(nn, f"{kind}Pool2D")(layout="NHWC")(moved).asnumpy(), np.moveaxis(halves, 1, -1), rtol=1e-12
    )
    assert getattr(nn, f"{kind}Pool2D")(3, 2, ceil_mode=True)(x).shape == (2, 3, 4, 4)
    assert getattr(nn, f"{kind}Pool1D")()(x[0]).shape == (3, 8, 4)
    assert getattr(nn, f"{kind}Pool3D")()(images(1, 2, 4, 4, 4)).shape == (1, 2, 2, 2, 2)


def test_sums_and_norms_of_windows():
    x = images(1, 2, 4, 4)
    blocks = x.asnumpy().reshape(1, 2, 2, 2, 2, 2)
    for kind, p, expected in (
        ("sum", 2, blocks.sum(axis=(3, 5))),
        ("lp", 1, np.abs(blocks).sum(axis=(3, 5))),
        ("lp", 2, np.sqrt((blocks**2).sum(axis=(3, 5)))),
    ):
        pooled = mx.npx.pooling(x, kernel=2, stride=2, pool_type=kind, p_value=p)
        np.testing.assert_allclose(pooled.asnumpy(), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: nn.Conv2D(4, 3, layout="NCW"), BlockError, "NCHW or NHWC"),
        (lambda: nn.Conv2D(4, (3, 3, 3)), BlockError, "kernel_size"),
        (lambda: nn.Conv2D(4, 3, groups=3), BlockError, "multiples of groups"),
        (lambda: nn.MaxPool2D(2, padding=2)(images(1, 1, 4, 4)), OperatorError, "smaller than the kernel"),
        (lambda: mx.npx.convolution(images(1, 1, 2, 2), images(1, 1, 3, 3)), OperatorError, "must fit"),
        (
            lambda: mx.npx.convolution(images(1, 2, 4, 4), images(1, 1, 3, 3)),
            OperatorError,
            "channels / groups",
        ),
        (lambda: mx.npx.pooling(images(1, 1, 4, 4), 2, pool_type="median"), OperatorError, "pool_type"),
        (lambda: vision.get_resnet(2, 18), SpecificationError, "version must be 1"),
    ],
)
def test_errors_say_what_must_hold(call, error, match):
    with pytest.raises(error, match=match):
        call()


# ------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("depth", "millions"), [(18, 11.69), (34, 21.80), (50, 25.56), (101, 44.55), (152, 60.19)]
)
def test_sizes_of_the_networks(depth, millions):
    net = model_zoo.get_model(f"resnet{depth}_v1")
    learned = [p for p in net.collect_params().values() if p.grad_req != "null"]
    assert sum(np.prod(p.shape) for p in learned) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("name", ["resnet18_v1", "resnet50_v1"])
def test_networks_eager_and_hybrid(name):
    net = vision.get_model(name, classes=5, thumbnail=True)
    net.initialize(mx.init.Xavier())
    x = images(2, 3, 16, 16, dtype="float32")
    eager = net(x).asnumpy()
    net.hybridize()
    assert eager.shape == (2, 5)
    np.testing.assert_allclose(net(x).asnumpy(), eager, rtol=1e-3, atol=1e-4)
    assert vision.get_model(name).features[3](images(1, 4, 9, 9)).shape == (1, 4, 5, 5)


def test_prediction_with_folded_normalization():
    net = vision.get_model("resnet18_v1", classes=5, thumbnail=True)
    net.initialize(mx.init.Xavier())
    x = images(2, 3, 16, 16, dtype="float32")
    with autograd.train_mode():
        net(x)  # moves the running statistics
    expected = net(x).asnumpy()
    net.hybridize(fold=True)
    np.testing.assert_allclose(net(x).asnumpy(), expected, rtol=1e-3, atol=1e-4)
    assert not any("batch_norm" in step.op or step.op == "elementwise" for step in net.inspect(x).steps)


def digits():
    """1797 images 8x8 of handwritten digits: the last 360 are held out."""
    bunch = datasets.load_digits()
    x = (bunch.images[:, None] / 16.0).astype(np.float32)
    order = np.random.default_rng(1).permutation(len(x))
    x, y = x[order], bunch.target[order].astype(np.int32)
    return (x[:-360], y[:-360]), (x[-360:], y[-360:])


def digits_network():
    net = nn.HybridSequential()
    for channels in (32, 64):
        net.add(
            nn.Conv2D(channels, 3, padding=1, use_bias=False),
            nn.BatchNorm(),
            nn.Activation("relu"),
            nn.MaxPool2D(),
        )
    net.add(nn.Conv2D(64, 2, activation="relu"), nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(10))
    return net


def train_digits(seed, precision=None):
    """Accuracy on held-out digits after eight epochs."""
    (x, y), (held_x, held_y) = digits()
    mx.random.seed(seed)
    net = digits_network()
    net.initialize(mx.init.Xavier())
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.004})
    options = {} if precision is None else {"precision": precision}
    step = gluon.TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), trainer, **options)
    random = np.random.default_rng(seed)
    for epoch in range(8):
        trainer.set_learning_rate(0.004 * (1 - epoch / 8))
        for rows in np.array_split(random.permutation(len(x))[:1408], 22):
            step(mx.np.array(x[rows]), mx.np.array(y[rows]))
    net.hybridize(**options)
    return float((net(mx.np.array(held_x)).asnumpy().argmax(axis=1) == held_y).mean())


def test_a_network_learns_digits():
    assert train_digits(seed=0) >= 0.98


def test_bfloat16_learns_digits_as_well():
    accuracies = [(train_digits(seed), train_digits(seed, precision="bfloat16")) for seed in range(3)]
    wide, narrow = np.mean(accuracies, axis=0)
    assert narrow >= 0.98
    assert abs(wide - narrow) < 0.01
