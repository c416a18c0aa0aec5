"""FTRL: for linear models and embeddings of which most weights should stay zero."""

from __future__ import annotations

from typing import Any

from mxpipe import np
from mxpipe._native import Array

from .optimizer import Optimizer, Scalars, register

__all__ = ["Ftrl"]


@register
class Ftrl(Optimizer):
    """Follow the regularized leader, proximally (McMahan et al. 2013, algorithm 1).

    ::

        g = clip(rescale_grad * grad)
        z = z + g - (sqrt(n + g^2) - sqrt(n)) / lr * weight
        n = n + g^2
        weight = -sign(z) * max(|z| - lamda1, 0) / ((beta + sqrt(n)) / lr + wd)

    The weight decay is the L2 term of the leader, and is not added to the gradient.

    Args:
        learning_rate: Its rate, the paper's alpha.
        lamda1: L1 regularization: weights whose |z| is below it are zero.
        beta: Smooths the first steps.
        arguments: Those of `Optimizer`.

    Example:
        >>> import mxpipe as mx
        >>> optimizer = Ftrl(learning_rate=1.0, lamda1=1.0, beta=0.0)
        >>> weight = mx.np.array([0.0, 0.0])
        >>> optimizer.update(0, weight, mx.np.array([4.0, 0.5]), optimizer.create_state(0, weight))
        >>> weight.asnumpy().tolist()
        [-0.75, 0.0]
    """

    state_names = ("z", "n")
    constant_names = (*Optimizer.constant_names, "lamda1", "beta")

    def __init__(
        self, learning_rate: float | None = 0.1, lamda1: float = 0.01, beta: float = 1.0, **arguments: Any
    ) -> None:
        super().__init__(learning_rate=learning_rate, **arguments)
        self.lamda1 = lamda1
        self.beta = beta

    def formula(
        self, weight: Array, gradient: Array, states: tuple[Array, ...], scalars: Scalars, wd: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """As written above."""
        rate = scalars["learning_rate"]
        sum_of_squares = states[1] + np.square(gradient)
        root = np.sqrt(sum_of_squares)
        z = states[0] + gradient - (root - np.sqrt(states[1])) / rate * weight
        excess = np.clip(z, -self.lamda1, self.lamda1) - z  # -sign(z) * max(|z| - lamda1, 0)
        return excess / ((self.beta + root) / rate + wd), (z, sum_of_squares)
