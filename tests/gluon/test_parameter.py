"""Parameters: initialization, deferral, gradients, casts."""

from __future__ import annotations

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import BlockError, DeferredInitializationError


def test_known_shape_is_initialized_at_once():
    parameter = mx.gluon.Parameter("weight", shape=(2, 3))
    with pytest.raises(BlockError, match="initialize"):
        parameter.data()
    parameter.initialize(init=mx.init.Constant(3))
    assert parameter.data().shape == (2, 3)
    assert (parameter.data().asnumpy() == 3).all()
    assert (parameter.grad().asnumpy() == 0).all()


def test_unknown_shape_waits():
    parameter = mx.gluon.Parameter("weight", shape=(2, 0), allow_deferred_init=True)
    parameter.initialize()
    assert parameter.is_deferred
    with pytest.raises(DeferredInitializationError, match="first"):
        parameter.data()
    parameter.shape = (2, 5)
    parameter.finish_deferred_init()
    assert parameter.data().shape == (2, 5)
    with pytest.raises(BlockError, match="agree"):
        parameter.shape = (3, 5)


def test_unknown_shape_without_deferral_is_refused():
    with pytest.raises(BlockError, match="shape"):
        mx.gluon.Parameter("weight", shape=(2, 0)).initialize()


def test_second_initialize_warns_and_force_starts_anew():
    parameter = mx.gluon.Parameter("weight", shape=(4,))
    parameter.initialize(init="ones")
    with pytest.warns(UserWarning, match="force_reinit"):
        parameter.initialize(init="zeros")
    assert (parameter.data().asnumpy() == 1).all()
    parameter.initialize(init="zeros", force_reinit=True)
    assert (parameter.data().asnumpy() == 0).all()


def test_set_data_keeps_the_array_object():
    parameter = mx.gluon.Parameter("weight", shape=(2,))
    parameter.initialize()
    array = parameter.data()
    parameter.set_data(np.array([1.0, 2.0]))
    assert parameter.data() is array
    assert array.asnumpy().tolist() == [1.0, 2.0]
    assert array.dtype == np.float32
    with pytest.raises(BlockError, match="agree"):
        parameter.set_data(np.zeros(3))


def test_grad_req():
    parameter = mx.gluon.Parameter("weight", shape=(2,), grad_req="add")
    parameter.initialize(init="ones")
    for _ in range(2):
        with mx.autograd.record():
            loss = (parameter.data() * 3).sum()
        loss.backward()
    assert parameter.grad().asnumpy().tolist() == [6.0, 6.0]
    parameter.zero_grad()
    assert parameter.grad().asnumpy().tolist() == [0.0, 0.0]
    parameter.grad_req = "null"
    with pytest.raises(BlockError, match="grad_req"):
        parameter.grad()
    with pytest.raises(BlockError, match="grad_req"):
        parameter.grad_req = "sometimes"


def test_not_differentiable_stays_null():
    parameter = mx.gluon.Parameter("mean", shape=(2,), differentiable=False)
    parameter.grad_req = "write"
    assert parameter.grad_req == "null"


def test_cast_and_constant():
    parameter = mx.gluon.Parameter("weight", shape=(2,))
    parameter.initialize(init="ones")
    parameter.cast("float64")
    assert parameter.data().dtype == np.float64
    assert parameter.grad().dtype == np.float64
    constant = mx.gluon.Constant(np.array([[1, 2]], dtype=np.int32))
    constant.initialize()
    assert constant.grad_req == "null"
    assert constant.data().dtype == np.int32
    assert constant.data().asnumpy().tolist() == [[1, 2]]


def test_same_seed_gives_the_same_parameters():
    def values():
        mx.random.seed(5)
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Dense(7), mx.gluon.nn.Dense(3))
        net.initialize(mx.init.Xavier())
        net(mx.np.ones((2, 4)))
        return [parameter.data().asnumpy() for parameter in net.collect_params().values()]

    for first, second in zip(values(), values(), strict=True):
        np.testing.assert_array_equal(first, second)
