"""Optimizers against NumPy in double precision, dense and row-sparse, eager and through a trainer."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import SpecificationError


def sgd(weight, gradient, state, count, lr=0.1, momentum=0.0, nesterov=False, wd=0.0):
    gradient = gradient + wd * weight
    if not momentum:
        return weight - lr * gradient, state
    buffer = momentum * state.get("buffer", 0.0) + lr * gradient
    step = momentum * buffer + lr * gradient if nesterov else buffer
    return weight - step, {"buffer": buffer}


def adam(weight, gradient, state, count, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8, wd=0.0, decoupled=False):
    gradient = gradient if decoupled else gradient + wd * weight
    mean = beta1 * state.get("mean", 0.0) + (1 - beta1) * gradient
    variance = beta2 * state.get("variance", 0.0) + (1 - beta2) * gradient**2
    corrected = mean / (1 - beta1**count)
    root = np.sqrt(variance / (1 - beta2**count))
    decay = lr * wd * weight if decoupled else 0.0
    return weight - decay - lr * corrected / (root + eps), {"mean": mean, "variance": variance}


def adagrad(weight, gradient, state, count, lr=0.1, eps=1e-6, wd=0.0, initial=0.0):
    gradient = gradient + wd * weight
    history = state.get("history", initial) + gradient**2
    return weight - lr * gradient / (np.sqrt(history) + eps), {"history": history}


def rmsprop(weight, gradient, state, count, lr=0.1, rho=0.9, momentum=0.9, eps=1e-8, centered=False, wd=0.0):
    gradient = gradient + wd * weight
    variance = rho * state.get("variance", 0.0) + (1 - rho) * gradient**2
    if not centered:
        return weight - lr * gradient / (np.sqrt(variance) + eps), {"variance": variance}
    mean = rho * state.get("mean", 0.0) + (1 - rho) * gradient
    step = momentum * state.get("step", 0.0) + lr * gradient / np.sqrt(variance - mean**2 + eps)
    return weight - step, {"variance": variance, "mean": mean, "step": step}


def ftrl(weight, gradient, state, count, lr=0.1, lamda1=0.01, beta=1.0, wd=0.0):
    n = state.get("n", 0.0) + gradient**2
    sigma = (np.sqrt(n) - np.sqrt(state.get("n", 0.0))) / lr
    z = state.get("z", 0.0) + gradient - sigma * weight
    leader = -(z - np.sign(z) * lamda1) / ((beta + np.sqrt(n)) / lr + wd)
    return np.where(np.abs(z) <= lamda1, 0.0, leader), {"n": n, "z": z}


CASES = [
    ("sgd", {}, sgd, {}),
    ("sgd", {"wd": 0.1}, sgd, {"wd": 0.1}),
    ("sgd", {"momentum": 0.9}, sgd, {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True, "wd": 0.01}, sgd,
     {"momentum": 0.9, "nesterov": True, "wd": 0.01}),
    ("nag", {}, sgd, {"momentum": 0.9, "nesterov": True}),
    ("adam", {}, adam, {}),
    ("adam", {"beta1": 0.8, "beta2": 0.9, "epsilon": 0.1, "wd": 0.1}, adam,
     {"beta1": 0.8, "beta2": 0.9, "eps": 0.1, "wd": 0.1}),
    ("adamw", {"wd": 0.1}, adam, {"wd": 0.1, "decoupled": True, "eps": 1e-6}),
    ("adagrad", {}, adagrad, {}),
    ("adagrad", {"initial_accumulator_value": 0.5, "wd": 0.1}, adagrad, {"initial": 0.5, "wd": 0.1}),
    ("rmsprop", {}, rmsprop, {}),
    ("rmsprop", {"rho": 0.8, "epsilon": 0.1, "wd": 0.1}, rmsprop, {"rho": 0.8, "eps": 0.1, "wd": 0.1}),
    ("rmsprop", {"centered": True, "epsilon": 1e-2, "momentum": 0.5}, rmsprop,
     {"centered": True, "eps": 1e-2, "momentum": 0.5}),
    ("ftrl", {}, ftrl, {}),
    ("ftrl", {"lamda1": 0.3, "beta": 0.5, "wd": 0.1}, ftrl, {"lamda1": 0.3, "beta": 0.5, "wd": 0.1}),
]  # fmt: skip
NAMES = [f"{name}-{'-'.join(arguments)}" for name, arguments, _, _ in CASES]


@pytest.mark.parametrize(("name", "arguments", "reference", "constants"), CASES, ids=NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dense(name, arguments, reference, constants, dtype):
    random = np.random.default_rng(0)
    expected = random.standard_normal((5, 3))
    optimizer = mx.optimizer.create(name, learning_rate=0.1, rescale_grad=0.5, clip_gradient=0.6, **arguments)
    weight = mx.np.array(expected, dtype=dtype)
    state = optimizer.create_state(0, weight)
    reference_state: dict = {}
    for count in range(1, 6):
        gradient = random.standard_normal((5, 3))
        optimizer.update(0, weight, mx.np.array(gradient, dtype=dtype), state)
        clipped = np.clip(gradient * 0.5, -0.6, 0.6)
        expected, reference_state = reference(expected, clipped, reference_state, count, **constants)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(weight.asnumpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "arguments", "reference", "constants"), CASES, ids=NAMES)
def test_row_sparse_updates_touched_rows_like_dense_ones(name, arguments, reference, constants):
    random = np.random.default_rng(1)
    start = random.standard_normal((6, 2))
    expected, states = start.copy(), [{} for _ in range(6)]
    optimizer = mx.optimizer.create(name, learning_rate=0.1, **arguments)
    weight = mx.np.array(start, dtype="float64")
    state = optimizer.create_state(0, weight)
    for count, rows in enumerate(([1, 3], [3, 4, 5], [1]), start=1):
        data = random.standard_normal((len(rows), 2))
        padded = mx.sparse.RowSparseArray(
            mx.np.array([*rows, -1], dtype="int64"),
            mx.np.array(np.concatenate([data, np.zeros((1, 2))]), dtype="float64"),
            (6, 2),
        )
        optimizer.update(0, weight, padded, state)
        for row, gradient in zip(rows, data, strict=True):
            expected[row], states[row] = reference(expected[row], gradient, states[row], count, **constants)
    np.testing.assert_allclose(weight.asnumpy(), expected, rtol=1e-12, atol=1e-12)
    assert (weight.asnumpy()[[0, 2]] == start[[0, 2]]).all()


def test_multi_precision_keeps_small_updates():
    def train(multi_precision):
        optimizer = mx.optimizer.SGD(learning_rate=1.0, multi_precision=multi_precision)
        weight = mx.np.ones((2,), dtype="float16")
        state = optimizer.create_state(0, weight)
        for _ in range(16):
            optimizer.update(0, weight, mx.np.full((2,), 1e-4, dtype="float16"), state)
        assert str(weight.dtype) == "float16"
        return weight.asnumpy()[0]

    assert train(False) == 1.0
    assert train(True) == pytest.approx(1 - 16e-4, abs=5e-4)


def test_learning_rate_and_counts():
    schedule = mx.lr_scheduler.FactorScheduler(step=1, factor=0.5)
    optimizer = mx.optimizer.SGD(learning_rate=0.8, lr_scheduler=schedule)
    assert schedule.base_lr == 0.8
    weight = mx.np.zeros((1,))
    for _ in range(3):
        optimizer.update(0, weight, mx.np.ones((1,)), ())
    assert weight.item() == pytest.approx(-(0.8 + 0.4 + 0.2))
    assert optimizer.num_update == 3
    with pytest.raises(SpecificationError, match="scheduler"):
        optimizer.set_learning_rate(0.1)


def test_multipliers():
    optimizer = mx.optimizer.SGD(learning_rate=1.0, wd=1.0)
    optimizer.set_lr_mult({0: 0.5})
    optimizer.set_wd_mult({0: 0.0})
    weight = mx.np.ones((1,))
    optimizer.update(0, weight, mx.np.ones((1,)), ())
    assert weight.item() == 0.5


def test_create():
    assert isinstance(mx.optimizer.create("AdamW", wd=0.1), mx.optimizer.AdamW)
    with pytest.raises(SpecificationError, match="must be one of"):
        mx.optimizer.create("lion")
    with pytest.raises(SpecificationError, match="nesterov"):
        mx.optimizer.SGD(nesterov=True)

    @mx.optimizer.register
    class SignDescent(mx.optimizer.Optimizer):
        def formula(self, weight, gradient, states, scalars, wd):
            return weight - scalars["learning_rate"] * mx.np.sign(gradient), ()

    weight = mx.np.ones((1,))
    mx.optimizer.create("signdescent", learning_rate=0.25).update(0, weight, mx.np.array([-3.0]), ())
    assert weight.item() == 1.25


def test_adam_epsilon_is_outside_of_the_corrected_root():
    """PyTorch's definition: with epsilon much greater than the gradient the two placements differ by far."""
    optimizer = mx.optimizer.Adam(learning_rate=1.0, epsilon=1.0)
    weight = mx.np.zeros((1,), dtype="float64")
    optimizer.update(0, weight, mx.np.array([1e-2], dtype="float64"), optimizer.create_state(0, weight))
    assert weight.item() == pytest.approx(-1e-2 / (1e-2 + 1.0))
    assert not math.isclose(weight.item(), -1e-2 / (1e-2 + 1.0 / math.sqrt(1 - 0.999)), rel_tol=0.1)
