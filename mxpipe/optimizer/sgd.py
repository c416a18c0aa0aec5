"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from mxpipe._native import Array
from mxpipe.errors import SpecificationError

from .optimizer import Optimizer, Scalars, register

__all__ = ["NAG", "SGD"]


@register
class SGD(Optimizer):
    """Gradient descent with momentum (Polyak 1964), or Nesterov's (Sutskever, Martens, Dahl and Hinton 2013).

    ::

        g = clip(rescale_grad * grad) + wd * weight
        momentum_buffer = momentum * momentum_buffer + lr * g
        weight = weight - momentum_buffer                          (momentum)
        weight = weight - (momentum * momentum_buffer + lr * g)    (nesterov)

    The rate is inside the buffer, as in MXNet; with a constant rate PyTorch's definition gives the same
    weights.

    Args:
        learning_rate: Its rate.
        momentum: Share of the buffer that is kept; 0 keeps no buffer.
        nesterov: Look ahead along the momentum.
        arguments: Those of `Optimizer`.

    Example:
        >>> import mxpipe as mx
        >>> optimizer = SGD(learning_rate=0.5)
        >>> weight = mx.np.array([1.0])
        >>> optimizer.update(0, weight, mx.np.array([1.0]), optimizer.create_state(0, weight))
        >>> weight.item()
        0.5
    """

    constant_names = (*Optimizer.constant_names, "momentum", "nesterov")

    def __init__(
        self,
        learning_rate: float | None = 0.1,
        momentum: float = 0.0,
        nesterov: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **arguments)
        if nesterov and momentum == 0.0:
            raise SpecificationError("[SGD] nesterov must come with a momentum; got momentum 0.")
        self.momentum = momentum
        self.nesterov = nesterov

    @property
    def state_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The momentum buffer, if there is momentum."""
        return ("momentum_buffer",) if self.momentum else ()

    def formula(
        self, weight: Array, gradient: Array, states: tuple[Array, ...], scalars: Scalars, wd: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """As written above."""
        if wd:
            gradient = gradient + wd * weight
        step = scalars["learning_rate"] * gradient
        if not self.momentum:
            return weight - step, ()
        buffer = self.momentum * states[0] + step
        return weight - (self.momentum * buffer + step if self.nesterov else buffer), (buffer,)


@register
class NAG(SGD):
    """SGD with Nesterov's momentum, by MXNet's name for it.

    Args:
        learning_rate: Its rate.
        momentum: Share of the buffer that is kept.
        arguments: Those of `Optimizer`.
    """

    def __init__(self, learning_rate: float | None = 0.1, momentum: float = 0.9, **arguments: Any) -> None:
        super().__init__(learning_rate, momentum, nesterov=True, **arguments)
