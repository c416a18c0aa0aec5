"""Batch norm with the relu and the residual behind it: found in the joint graph, and the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as onp
import pytest

from mxpipe import autograd, np, npx
from mxpipe._native import Array, array, grad, invoke, trace


def values(*shape: int, seed: int = 0) -> Array:
    return array(onp.random.default_rng(seed).normal(size=shape).astype(onp.float32))


def norm(x: Array, axis: int = -1) -> Array:
    channels = x.shape[axis]
    result: Array = invoke(
        "batch_norm", [x, values(channels, seed=7), values(channels, seed=8)], {"axis": axis}
    )[0]
    return result


def dense(x: Array, seed: int) -> Array:
    return np.matmul(x, values(5, 5, seed=seed))


def plain(x: Array) -> Array:
    return dense(npx.relu(norm(dense(x, 1))), 2)


def residual(x: Array) -> Array:
    return dense(npx.relu(norm(dense(x, 1)) + x), 2)


def two_norms(x: Array) -> Array:
    return dense(npx.relu(norm(dense(x, 1)) + norm(dense(x, 3))), 2)


def later_residual(x: Array) -> Array:
    inner = norm(dense(x, 1))
    return dense(npx.relu(inner + dense(x, 3)), 2)


def chain(x: Array) -> Array:
    for _ in range(3):
        x = npx.relu(x + norm(dense(npx.relu(norm(dense(x, 1))), 2)))
    return x


def with_gradients(function: Callable[[Array], Array]) -> Callable[[Array], tuple[Array, ...]]:
    def both(x: Array) -> tuple[Array, ...]:
        if not x.takes_gradient:
            x.attach_grad()
        y = function(x)
        return (y, *grad([np.sum(y * y)], [x]))

    return both


def stages(function: Callable[..., Any], *arguments: Array) -> dict[str, str]:
    return dict(trace(function, list(arguments)).graph.passes())


@pytest.mark.parametrize("function", [plain, residual, two_norms, later_residual, chain])
def test_relu_and_residual_run_inside_the_norm_and_change_no_bit(function: Callable[[Array], Array]) -> None:
    x = values(33, 5)
    both = with_gradients(function)
    text = stages(both, x)["norms"]
    assert "= relu(" not in text
    assert "multiply_if_positive(" not in text
    assert "activation=relu" in stages(function, x)["norms"]
    compiled = trace(both, [x])(x)
    x.attach_grad()
    with autograd.record():
        y = function(x)
        loss = np.sum(y * y)
    loss.backward()
    onp.testing.assert_array_equal(compiled[0].asnumpy(), y.asnumpy())
    onp.testing.assert_array_equal(compiled[1].asnumpy(), x.grad.asnumpy())


def test_a_norm_that_others_read_keeps_its_result() -> None:
    def function(x: Array) -> tuple[Array, Array]:
        y = norm(x)
        return npx.relu(y), y

    assert "= relu(" in stages(function, values(6, 5))["norms"]


def test_a_residual_that_depends_on_the_statistics_stays_outside() -> None:
    def function(x: Array) -> Array:
        y, mean, _ = invoke("batch_norm", [x, values(5), values(5)], {"axis": -1})
        return npx.relu(y + np.broadcast_to(mean, x.shape))

    x = values(6, 5)
    assert "= relu(" in stages(function, x)["norms"]
    onp.testing.assert_array_equal(trace(function, [x])(x)[0].asnumpy(), function(x).asnumpy())
