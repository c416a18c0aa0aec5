"""Layers against NumPy: values, gradients, and behaviour in training and prediction."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import BlockError, MxpipeError
from mxpipe.gluon import nn

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((6, 4))


def array(values, dtype="float64"):
    return mx.np.array(values, dtype=dtype)


def prepared(layer, x=X):
    mx.random.seed(2)
    layer.initialize(mx.init.Normal(1.0))
    layer.cast("float64")
    layer(array(x))
    return layer


def check_gradients(layer, x=X):
    """By the input and by all learned parameters at once."""
    names = [name for name, parameter in layer.collect_params().items() if parameter.grad_req != "null"]
    parameters = [layer.collect_params()[name] for name in names]
    values = [parameter.data() for parameter in parameters]

    def run(inputs, *given):
        for parameter, value in zip(parameters, given, strict=True):
            parameter._data = value
        return layer(inputs)

    try:
        mx.testing.check_vjp(run, [array(x), *values], epsilon=1e-5, rtol=1e-5, atol=1e-6)
    finally:
        for parameter, value in zip(parameters, values, strict=True):
            parameter._data = value


def test_dense():
    layer = prepared(nn.Dense(3))
    weight, bias = layer.weight.data().asnumpy(), layer.bias.data().asnumpy()
    np.testing.assert_allclose(layer(array(X)).asnumpy(), X @ weight.T + bias, rtol=1e-12)
    check_gradients(layer)
    cube = RANDOM.standard_normal((2, 3, 4))
    assert prepared(nn.Dense(5), cube)(array(cube)).shape == (2, 5)
    assert prepared(nn.Dense(5, flatten=False), cube)(array(cube)).shape == (2, 3, 5)
    with pytest.raises(BlockError, match="positive"):
        nn.Dense(0)


ERF = np.vectorize(math.erf)
SIGMOID = 1 / (1 + np.exp(-X))
ACTIVATIONS = {
    "relu": (nn.Activation("relu"), np.maximum(X, 0)),
    "sigmoid": (nn.Activation("sigmoid"), SIGMOID),
    "log_sigmoid": (nn.Activation("log_sigmoid"), np.log(SIGMOID)),
    "tanh": (nn.Activation("tanh"), np.tanh(X)),
    "softrelu": (nn.Activation("softrelu"), np.log1p(np.exp(X))),
    "softsign": (nn.Activation("softsign"), X / (1 + np.abs(X))),
    "mish": (nn.Activation("mish"), X * np.tanh(np.log1p(np.exp(X)))),
    "leaky": (nn.LeakyReLU(0.1), np.where(X > 0, X, 0.1 * X)),
    "elu": (nn.ELU(0.5), np.where(X > 0, X, 0.5 * np.expm1(X))),
    "selu": (nn.SELU(), 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * np.expm1(X))),
    "gelu": (nn.GELU(), 0.5 * X * (1 + ERF(X / np.sqrt(2)))),
    "gelu tanh": (nn.GELU("tanh"), 0.5 * X * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)))),
    "silu": (nn.SiLU(), X * SIGMOID),
    "swish": (nn.Swish(2.0), X / (1 + np.exp(-2 * X))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    layer, expected = ACTIVATIONS[name]
    np.testing.assert_allclose(layer(array(X)).asnumpy(), expected, rtol=1e-7, atol=1e-9)
    mx.testing.check_vjp(layer, [array(X)], epsilon=1e-5, rtol=1e-5, atol=1e-6)


def test_elu_gradient_does_not_overflow():
    x = array([1000.0, -1000.0])
    x.attach_grad()
    with mx.autograd.record():
        y = nn.ELU()(x)
    y.backward()
    assert x.grad.asnumpy().tolist() == [1.0, 0.0]


def test_dropout():
    layer, ones = nn.Dropout(0.25), mx.np.ones((100, 100))
    np.testing.assert_array_equal(layer(ones).asnumpy(), ones.asnumpy())

    def dropped():
        ones.attach_grad()
        mx.random.seed(3)
        with mx.autograd.record():
            result = layer(ones)
        result.backward()
        return result.asnumpy(), ones.grad.asnumpy()

    result, gradient = dropped()
    assert set(np.unique(result)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (result == 0).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(result, gradient)
    np.testing.assert_array_equal(dropped()[0], result)
    with mx.autograd.train_mode():
        shared = nn.Dropout(0.5, axes=(1,))(ones).asnumpy()
    assert (shared == shared[:, :1]).all()
    assert 20 < (shared[:, 0] == 0).sum() < 80
    with pytest.raises(BlockError, match="rate"):
        nn.Dropout(1.0)


def test_dropout_does_not_depend_on_the_number_of_threads():
    def draw():
        mx.random.seed(7)
        with mx.autograd.train_mode():
            return nn.Dropout(0.5)(mx.np.ones((513, 257))).asnumpy()

    threads = mx.get_num_threads()
    try:
        mx.set_num_threads(1)
        first = draw()
        mx.set_num_threads(2)
        np.testing.assert_array_equal(draw(), first)
    finally:
        mx.set_num_threads(threads)


def test_embedding():
    layer = nn.Embedding(5, 3)
    layer.initialize()
    ids = np.array([[0, 4], [4, 2]])
    np.testing.assert_array_equal(layer(array(ids, "int32")).asnumpy(), layer.weight.data().asnumpy()[ids])
    for wrong in (-1, 5):
        with pytest.raises(MxpipeError):
            layer(array([wrong], "int64")).asnumpy()


def test_layer_norm():
    layer = prepared(nn.LayerNorm(epsilon=1e-3))
    normal = (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 1e-3)
    expected = normal * layer.gamma.data().asnumpy() + layer.beta.data().asnumpy()
    np.testing.assert_allclose(layer(array(X)).asnumpy(), expected, rtol=1e-7, atol=1e-9)
    check_gradients(layer)
    first = prepared(nn.LayerNorm(axis=0))
    np.testing.assert_allclose(first(array(X)).asnumpy().mean(axis=0), 0, atol=1e-7)


def test_batch_norm():
    layer = prepared(nn.BatchNorm(momentum=0.8, epsilon=1e-3))
    layer.gamma.set_data([1.0, 2.0, 3.0, 4.0])
    with mx.autograd.train_mode():
        trained = layer(array(X)).asnumpy()
    normal = (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3)
    np.testing.assert_allclose(trained, normal * [1, 2, 3, 4], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(layer.running_mean.data().asnumpy(), 0.2 * X.mean(0), rtol=1e-7)
    np.testing.assert_allclose(layer.running_var.data().asnumpy(), 0.8 + 0.2 * X.var(0), rtol=1e-7)
    predicted = layer(array(X)).asnumpy()
    expected = (X - 0.2 * X.mean(0)) / np.sqrt(0.8 + 0.2 * X.var(0) + 1e-3) * [1, 2, 3, 4]
    np.testing.assert_allclose(predicted, expected, rtol=1e-7, atol=1e-9)
    check_gradients(layer)


IMAGES = RANDOM.standard_normal((2, 6, 4, 5))


def test_group_norm():
    layer = prepared(nn.GroupNorm(3, epsilon=1e-3), IMAGES)
    groups = IMAGES.reshape(2, 3, -1)
    normal = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 1e-3)
    gamma, beta = (p.data().asnumpy()[:, None, None] for p in (layer.gamma, layer.beta))
    expected = normal.reshape(IMAGES.shape) * gamma + beta
    np.testing.assert_allclose(layer(array(IMAGES)).asnumpy(), expected, rtol=1e-7, atol=1e-9)
    check_gradients(layer, IMAGES)
    with pytest.raises(MxpipeError, match="divide 6 channels"):
        mx.npx.group_norm(array(IMAGES), mx.np.ones(6), mx.np.zeros(6), 4)


def test_instance_norm():
    layer = prepared(nn.InstanceNorm(epsilon=1e-3), IMAGES)
    mean, variance = IMAGES.mean((2, 3), keepdims=True), IMAGES.var((2, 3), keepdims=True)
    np.testing.assert_allclose(
        layer(array(IMAGES)).asnumpy(), (IMAGES - mean) / np.sqrt(variance + 1e-3), rtol=1e-7, atol=1e-9
    )
    check_gradients(layer, IMAGES)
    last = prepared(nn.InstanceNorm(axis=-1), IMAGES)
    assert last.gamma.shape == (5,)
    np.testing.assert_allclose(last(array(IMAGES)).asnumpy().mean(axis=(1, 2)), 0, atol=1e-7)


def test_rms_norm():
    layer = prepared(nn.RMSNorm(epsilon=1e-3))
    expected = X / np.sqrt((X * X).mean(1, keepdims=True) + 1e-3) * layer.gamma.data().asnumpy()
    np.testing.assert_allclose(layer(array(X)).asnumpy(), expected, rtol=1e-7, atol=1e-9)
    check_gradients(layer)
    assert prepared(nn.RMSNorm(axis=0)).gamma.shape == (len(X),)


def test_batch_norm_options():
    layer = prepared(nn.BatchNorm(axis=-1, use_global_stats=True, scale=False, center=False))
    assert not [name for name, item in layer.collect_params().items() if item.grad_req != "null"]
    with mx.autograd.train_mode():
        np.testing.assert_allclose(layer(array(X)).asnumpy(), X / np.sqrt(1 + 1e-5), rtol=1e-9)
    assert (layer.running_mean.data().asnumpy() == 0).all()
    images = RANDOM.standard_normal((2, 3, 4, 5))
    layer = prepared(nn.BatchNorm(), images)
    with mx.autograd.train_mode():
        result = layer(array(images)).asnumpy()
    np.testing.assert_allclose(result.mean(axis=(0, 2, 3)), 0, atol=1e-9)
    check_gradients(layer, images)


def test_flatten():
    assert nn.Flatten()(mx.np.ones((2, 3, 4))).shape == (2, 12)
