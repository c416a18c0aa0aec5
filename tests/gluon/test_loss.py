"""Losses against NumPy, their weights and their gradients."""

from __future__ import annotations

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import BlockError, MxpipeError
from mxpipe.gluon import loss as losses

RANDOM = np.random.default_rng(0)
PRED = RANDOM.standard_normal((5, 3))
LABEL = RANDOM.standard_normal((5, 3))
BINARY = (LABEL > 0).astype(float)
SIGNED = np.sign(LABEL)
CLASSES = RANDOM.integers(0, 3, 5)
PROBABILITIES = 1 / (1 + np.exp(-PRED))
LOG_SOFTMAX = PRED - np.log(np.exp(PRED).sum(axis=1, keepdims=True))
SHARES = np.exp(LABEL) / np.exp(LABEL).sum(axis=1, keepdims=True)
DISTANCE = np.abs(PRED - LABEL)

CASES = {
    "l2": (losses.L2Loss(), PRED, LABEL, 0.5 * (PRED - LABEL) ** 2),
    "l1": (losses.L1Loss(), PRED, LABEL, DISTANCE),
    "huber": (losses.HuberLoss(rho=0.7), PRED, LABEL,
              np.where(DISTANCE > 0.7, DISTANCE - 0.35, DISTANCE**2 / 1.4)),
    "hinge": (losses.HingeLoss(margin=0.5), PRED, SIGNED, np.maximum(0, 0.5 - PRED * SIGNED)),
    "logistic": (losses.LogisticLoss(), PRED, SIGNED, np.log1p(np.exp(-PRED * SIGNED))),
    "logistic binary": (losses.LogisticLoss(label_format="binary"), PRED, BINARY,
                        np.log1p(np.exp(-PRED * SIGNED))),
    "bce": (losses.SigmoidBCELoss(), PRED, BINARY,
            -BINARY * np.log(PROBABILITIES) - (1 - BINARY) * np.log(1 - PROBABILITIES)),
    "bce from sigmoid": (losses.SigmoidBCELoss(from_sigmoid=True), PROBABILITIES, BINARY,
                         -BINARY * np.log(PROBABILITIES) - (1 - BINARY) * np.log(1 - PROBABILITIES)),
    "softmax": (losses.SoftmaxCELoss(), PRED, CLASSES, -LOG_SOFTMAX[np.arange(5), CLASSES][:, None]),
    "softmax from logits": (losses.SoftmaxCELoss(from_logits=True), LOG_SOFTMAX, CLASSES,
                            -LOG_SOFTMAX[np.arange(5), CLASSES][:, None]),
    "softmax dense": (losses.SoftmaxCELoss(sparse_label=False), PRED, SHARES,
                      -(LOG_SOFTMAX * SHARES).sum(axis=1, keepdims=True)),
    "kl": (losses.KLDivLoss(from_logits=False), PRED, SHARES, SHARES * (np.log(SHARES) - LOG_SOFTMAX)),
}  # fmt: skip


def array(values):
    return mx.np.array(values, dtype="int32" if values.dtype.kind == "i" else "float64")


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name):
    loss, pred, label, elements = CASES[name]
    np.testing.assert_allclose(
        loss(array(pred), array(label)).asnumpy(), elements.mean(axis=1), rtol=1e-7, atol=1e-10
    )
    mx.testing.check_vjp(lambda x: loss(x, array(label)), [array(pred)], epsilon=1e-5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_sample_weight(name):
    loss, pred, label, elements = CASES[name]
    weights = np.linspace(0, 2, 5)[:, None]
    np.testing.assert_allclose(
        loss(array(pred), array(label), array(weights)).asnumpy(),
        (elements * weights).mean(axis=1),
        rtol=1e-7,
        atol=1e-10,
    )


def test_one_weight_a_sample():
    """Also where as many classes as samples would let plain broadcasting take the wrong axis."""
    square, label = RANDOM.standard_normal((3, 3)), np.zeros((3, 3))
    weights = np.array([0.0, 1.0, 2.0])
    expected = (np.abs(square) * weights[:, None]).mean(axis=1)
    actual = losses.L1Loss()(array(square), array(label), array(weights))
    np.testing.assert_allclose(actual.asnumpy(), expected, rtol=1e-12)
    with pytest.raises(BlockError, match="broadcast to the loss"):
        losses.L1Loss()(array(PRED[:, :1]), array(LABEL[:, :1]), array(np.ones((1, 3))))


def test_weight_and_batch_axis():
    loss = losses.L1Loss(weight=3.0, batch_axis=1)
    np.testing.assert_allclose(
        loss(array(PRED), array(LABEL)).asnumpy(), 3 * DISTANCE.mean(axis=0), rtol=1e-12
    )


def test_pos_weight():
    expected = -2.5 * BINARY * np.log(PROBABILITIES) - (1 - BINARY) * np.log(1 - PROBABILITIES)
    for from_sigmoid, pred in ((False, PRED), (True, PROBABILITIES)):
        loss = losses.SigmoidBCELoss(from_sigmoid=from_sigmoid)
        actual = loss(array(pred), array(BINARY), None, array(np.full((1, 3), 2.5)))
        np.testing.assert_allclose(actual.asnumpy(), expected.mean(axis=1), rtol=1e-6)


def test_label_takes_the_shape_and_type_of_the_prediction():
    loss = losses.SigmoidBCELoss()
    pred = mx.np.zeros((4, 1))
    assert loss(pred, mx.np.array([0, 1, 1, 0], dtype="int32")).shape == (4,)
    with pytest.raises(BlockError, match="as many elements"):
        loss(pred, mx.np.zeros((3,)))


def test_extreme_logits_stay_finite():
    pred = mx.np.array([[-1000.0], [1000.0]])
    pred.attach_grad()
    with mx.autograd.record():
        value = losses.SigmoidBCELoss()(pred, mx.np.array([0.0, 0.0]))
    value.backward()
    assert value.asnumpy().tolist() == [0.0, 1000.0]
    assert pred.grad.asnumpy().ravel().tolist() == [0.0, 1.0]


def test_class_out_of_range_raises():
    with pytest.raises(MxpipeError):
        losses.SoftmaxCELoss()(mx.np.zeros((2, 3)), mx.np.array([0, 3], dtype="int32")).asnumpy()


def test_hybridized():
    loss = losses.SigmoidBCELoss()
    expected = loss(array(PRED), array(BINARY)).asnumpy()
    loss.hybridize()
    np.testing.assert_allclose(loss(array(PRED), array(BINARY)).asnumpy(), expected, rtol=1e-12)


def test_classes_along_the_last_axis_of_any_rank():
    pred = RANDOM.standard_normal((2, 4, 3))
    classes = RANDOM.integers(0, 3, (2, 4))
    logarithms = pred - np.log(np.exp(pred).sum(axis=-1, keepdims=True))
    expected = -np.take_along_axis(logarithms, classes[..., None], -1).mean(axis=(1, 2))
    found = losses.SoftmaxCELoss()(mx.np.array(pred), mx.np.array(classes)).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
