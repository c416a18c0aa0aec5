"""Scopes, gradients of functions, and the random state."""

from __future__ import annotations

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import GraphError, MxpipeError, SpecificationError


def test_scopes():
    assert not mx.autograd.is_recording()
    assert not mx.autograd.is_training()
    with mx.autograd.record():
        assert mx.autograd.is_recording()
        assert mx.autograd.is_training()
        with mx.autograd.pause():
            assert not mx.autograd.is_recording()
            assert not mx.autograd.is_training()
        with mx.autograd.predict_mode():
            assert mx.autograd.is_recording()
            assert not mx.autograd.is_training()
        assert mx.autograd.is_training()
    with mx.autograd.record(train_mode=False):
        assert not mx.autograd.is_training()
    with mx.autograd.train_mode():
        assert not mx.autograd.is_recording()
        assert mx.autograd.is_training()
    with pytest.raises(ZeroDivisionError), mx.autograd.record():
        raise ZeroDivisionError
    assert not mx.autograd.is_recording()


def test_a_scope_can_be_entered_again():
    scope = mx.autograd.record()
    for _ in range(2):
        with scope, scope:
            assert mx.autograd.is_recording()
        assert not mx.autograd.is_recording()


def test_backward_with_head_gradients():
    x = mx.np.array([1.0, 2.0])
    x.attach_grad()
    with mx.autograd.record():
        first, second = x * 2, x * x
    mx.autograd.backward([first, second], [mx.np.array([1.0, 10.0]), None])
    assert x.grad.asnumpy().tolist() == [4.0, 24.0]
    with pytest.raises(GraphError, match="head_grads"):
        mx.autograd.backward([first], [None, None])


def test_backward_needs_a_recording():
    with pytest.raises(MxpipeError):
        mx.np.ones((1,)).backward()


def test_grad_and_second_order():
    x = mx.np.array([0.5, -1.0], dtype="float64")
    x.attach_grad()
    with mx.autograd.record():
        y = mx.np.exp(x) * x
        first = mx.autograd.grad(y, x, create_graph=True)
        second = mx.autograd.grad(first, [x])
    values = x.asnumpy()
    np.testing.assert_allclose(first.asnumpy(), np.exp(values) * (1 + values), rtol=1e-12)
    np.testing.assert_allclose(second[0].asnumpy(), np.exp(values) * (2 + values), rtol=1e-12)


def test_check_helpers_find_wrong_gradients():
    x = mx.np.array([0.3, 0.7], dtype="float64")
    mx.testing.check_numeric_gradient(lambda x: mx.np.tanh(x) * x, [x])
    mx.testing.check_vjp(lambda x: (mx.np.tanh(x), x * x), [x])

    def wrong(x):
        return x * x.detach()  # half of the derivative of x squared

    with pytest.raises(AssertionError):
        mx.testing.check_numeric_gradient(wrong, [x])
    with pytest.raises(AssertionError):
        mx.testing.check_vjp(wrong, [x])


def test_assert_almost_equal():
    mx.testing.assert_almost_equal(mx.np.ones((2,)), np.ones(2) + 1e-6)
    with pytest.raises(AssertionError):
        mx.testing.assert_almost_equal(mx.np.ones((2,), dtype="float64"), np.ones(2) + 1e-6)
    with pytest.raises(AssertionError, match="shapes"):
        mx.testing.assert_almost_equal(mx.np.ones((2,)), np.ones((2, 1)))
    mx.testing.assert_almost_equal(mx.np.ones((2,), dtype="float16"), np.ones(2) + 1e-3)


def test_random_state():
    mx.random.seed(3)
    assert mx.random.get_state() == {"seed": 3, "counter": 0}
    first = mx.np.random.normal(size=(3,)).asnumpy()
    state = mx.random.get_state()
    second = mx.np.random.normal(size=(3,)).asnumpy()
    assert not np.array_equal(first, second)
    mx.random.set_state(state)
    np.testing.assert_array_equal(mx.np.random.normal(size=(3,)).asnumpy(), second)
    for wrong in (-1, 2**64, 1.5, "1"):
        with pytest.raises(SpecificationError, match="seed"):
            mx.random.seed(wrong)
    with pytest.raises(SpecificationError, match="counter"):
        mx.random.set_state({"seed": 1})
