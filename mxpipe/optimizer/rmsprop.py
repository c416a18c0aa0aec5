"""RMSProp: divides by the root of a running mean of squared gradients."""

from __future__ import annotations

from typing import Any

from mxpipe import np
from mxpipe._native import Array

from .optimizer import Optimizer, Scalars, register

__all__ = ["RMSProp"]


@register
class RMSProp(Optimizer):
    """RMSProp (Tieleman and Hinton 2012), or with `centered` Graves's (2013, equations 38 to 45).

    ::

        g = clip(rescale_grad * grad) + wd * weight
        variance = rho * variance + (1 - rho) * g^2
        weight = weight - lr * g / (sqrt(variance) + epsilon)

        mean = rho * mean + (1 - rho) * g                                                 (centered)
        step = momentum * step + lr * g / sqrt(variance - mean^2 + epsilon)
        weight = weight - step

    Args:
        learning_rate: Its rate.
        rho: Decay of the running means.
        momentum: Share of the step that is kept, with `centered`.
        epsilon: Keeps the quotient finite.
        centered: Divide by the deviation from the mean.
        arguments: Those of `Optimizer`.

    Example:
        >>> import mxpipe as mx
        >>> optimizer = RMSProp(learning_rate=1.0, rho=0.75, epsilon=0.0)
        >>> weight = mx.np.array([5.0])
        >>> optimizer.update(0, weight, mx.np.array([3.0]), optimizer.create_state(0, weight))
        >>> weight.item()
        3.0
    """

    constant_names = (*Optimizer.constant_names, "rho", "momentum", "epsilon", "centered")

    def __init__(
        self,
        learning_rate: float | None = 0.001,
        rho: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1e-8,
        centered: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **arguments)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered

    @property
    def state_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The variance; with `centered` the mean and the step too."""
        return ("variance", "mean", "step") if self.centered else ("variance",)

    def formula(
        self, weight: Array, gradient: Array, states: tuple[Array, ...], scalars: Scalars, wd: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """As written above."""
        if wd:
            gradient = gradient + wd * weight
        variance = self.rho * states[0] + (1.0 - self.rho) * np.square(gradient)
        if not self.centered:
            step = scalars["learning_rate"] * gradient / (np.sqrt(variance) + self.epsilon)
            return weight - step, (variance,)
        mean = self.rho * states[1] + (1.0 - self.rho) * gradient
        deviation = np.sqrt(variance - np.square(mean) + self.epsilon)
        step = self.momentum * states[2] + scalars["learning_rate"] * gradient / deviation
        return weight - step, (variance, mean, step)
