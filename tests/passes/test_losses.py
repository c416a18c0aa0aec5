"""Softmax cross entropy and its gradient as one pass over the logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as onp

from mxpipe import np, npx
from mxpipe._native import Array, array, grad, trace

LABELS = np.array([1, 0, 3, 2, 2])


def logits() -> Array:
    return array(onp.random.default_rng(0).normal(size=(5, 4)).astype(onp.float32))


def both(function: Callable[[Array], Array]) -> Callable[[Array], tuple[Array, ...]]:
    def joint(x: Array) -> tuple[Array, ...]:
        loss = function(x)
        return (loss, *grad([loss], [x]))

    return joint


def check(function: Callable[[Array], Array], joined: bool) -> None:
    x = logits()
    traced = trace(both(function), [x])
    text = dict(traced.graph.passes())["losses"]
    assert ("softmax_cross_entropy_and_gradient(" in text) == joined
    assert ("softmax_cross_entropy_backward(" in text) != joined
    loss, gradient = traced(x)
    onp.testing.assert_array_equal(loss.asnumpy(), function(x).asnumpy())
    p = onp.exp(x.asnumpy()) / onp.exp(x.asnumpy()).sum(1, keepdims=True)
    assert gradient.shape == p.shape
    if joined:
        expected = (p - onp.eye(4)[LABELS.asnumpy()]) / 5
        onp.testing.assert_allclose(gradient.asnumpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_mean_loss_and_its_gradient_are_one_step() -> None:
    check(lambda x: npx.softmax_cross_entropy(x, LABELS).mean(), joined=True)


def test_a_gradient_that_waits_for_the_loss_stays_a_step_of_its_own() -> None:
    check(lambda x: np.square(npx.softmax_cross_entropy(x, LABELS)).sum(), joined=False)
