"""Optimizers that scale each element by the gradients that it has seen: Adam, AdamW, AdaGrad."""

from __future__ import annotations

import math
from typing import Any

from mxpipe import np
from mxpipe._native import Array

from .optimizer import Optimizer, Scalars, register

__all__ = ["AdaGrad", "Adam", "AdamW"]


@register
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015).

    ::

        g = clip(rescale_grad * grad) + wd * weight
        mean = beta1 * mean + (1 - beta1) * g
        variance = beta2 * variance + (1 - beta2) * g^2
        weight = weight - lr / (1 - beta1^t) * mean / (sqrt(variance) / sqrt(1 - beta2^t) + epsilon)

    Epsilon stands outside the bias-corrected square root, as in the paper's algorithm and in PyTorch. (MXNet
    adds it to the uncorrected root, the paper's "epsilon hat"; Keras too.) t counts the updates of each
    weight.

    Args:
        learning_rate: Its rate.
        beta1: Decay of the mean.
        beta2: Decay of the variance.
        epsilon: Keeps the quotient finite.
        arguments: Those of `Optimizer`.
    """

    state_names = ("mean", "variance")
    scalar_names = (*Optimizer.scalar_names, "step_size", "correction")
    constant_names = (*Optimizer.constant_names, "beta1", "beta2", "epsilon")

    def __init__(
        self,
        learning_rate: float | None = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        **arguments: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **arguments)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon

    def scalars(self, count: int, learning_rate: float) -> dict[str, float]:
        """The corrections of the moments' bias towards zero, in double precision."""
        return {
            **super().scalars(count, learning_rate),
            "step_size": learning_rate / (1.0 - self.beta1**count),
            "correction": 1.0 / math.sqrt(1.0 - self.beta2**count),
        }

    def formula(
        self, weight: Array, gradient: Array, states: tuple[Array, ...], scalars: Scalars, wd: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """As written above."""
        if wd:
            gradient = gradient + wd * weight
        step, moments = self._step_of(gradient, states, scalars)
        return weight - step, moments

    def _step_of(
        self, gradient: Array, states: tuple[Array, ...], scalars: Scalars
    ) -> tuple[Array, tuple[Array, ...]]:
        mean = self.beta1 * states[0] + (1.0 - self.beta1) * gradient
        variance = self.beta2 * states[1] + (1.0 - self.beta2) * np.square(gradient)
        step = scalars["step_size"] * mean / (np.sqrt(variance) * scalars["correction"] + self.epsilon)
        return step, (mean, variance)


@register
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    ::

        weight = weight - lr * wd * weight - lr / (1 - beta1^t) * mean / (sqrt(variance) / sqrt(1 - beta2^t)
        + epsilon)

    The decay does not enter the moments, and is scaled by the rate alone (as in PyTorch; MXNet's also scales
    it by Adam's bias corrections).

    Args:
        learning_rate: Its rate.
        beta1: Decay of the mean.
        beta2: Decay of the variance.
        epsilon: Keeps the quotient finite.
        arguments: Those of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float | None = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-6,
        **arguments: Any,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, **arguments)

    def formula(
        self, weight: Array, gradient: Array, states: tuple[Array, ...], scalars: Scalars, wd: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """As written above."""
        step, moments = self._step_of(gradient, states, scalars)
        decayed = weight - scalars["learning_rate"] * wd * weight if wd else weight
        return decayed - step, moments


@register
class AdaGrad(Optimizer):
    """AdaGrad (Duchi, Hazan and Singer 2011): divides by the root of each element's summed squared gradients.

    ::

        g = clip(rescale_grad * grad) + wd * weight
        history = history + g^2
        weight = weight - lr * g / (sqrt(history) + epsilon)

    Args:
        learning_rate: Its rate.
        epsilon: Keeps the quotient finite.
        initial_accumulator_value: What the history begins with.
        arguments: Those of `Optimizer`.
    """

    state_names = ("history",)
    constant_names = (*Optimizer.constant_names, "epsilon")

    def __init__(
        self,
        learning_rate: float | None = 0.01,
        epsilon: float = 1e-6,
        initial_accumulator_value: float = 0.0,
        **arguments: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **arguments)
        self.epsilon = epsilon
        self.initial_accumulator_value = initial_accumulator_value

    def initial_state(self, name: str) -> float:
        """The history's first value."""
        return self.initial_accumulator_value

    def formula(
        self, weight: Array, gradient: Array, states: tuple[Array, ...], scalars: Scalars, wd: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """As written above."""
        if wd:
            gradient = gradient + wd * weight
        history = states[0] + np.square(gradient)
        return weight - scalars["learning_rate"] * gradient / (np.sqrt(history) + self.epsilon), (history,)
