"""Activations as layers."""

from __future__ import annotations

from collections.abc import Callable

from mxpipe import np, npx
from mxpipe._native import Array
from mxpipe.errors import BlockError
from mxpipe.gluon.hybrid import HybridBlock

__all__ = ["ELU", "GELU", "SELU", "Activation", "LeakyReLU", "SiLU", "Swish"]

_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "relu": npx.relu,
    "sigmoid": npx.sigmoid,
    "log_sigmoid": lambda x: -npx.softplus(-x),
    "tanh": np.tanh,
    "softrelu": npx.softplus,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "gelu": npx.gelu,
    "silu": npx.silu,
    "mish": lambda x: x * np.tanh(npx.softplus(x)),
}


class Activation(HybridBlock):
    """An activation by its name.

    Args:
        activation: relu, sigmoid, log_sigmoid, tanh, softrelu (log(1 + exp(x))), softsign, gelu, silu or
            mish.

    Example:
        >>> import mxpipe as mx
        >>> Activation("relu")(mx.np.array([-1.0, 2.0])).asnumpy().tolist()
        [0.0, 2.0]
    """

    def __init__(self, activation: str) -> None:
        super().__init__()
        if activation not in _FUNCTIONS:
            raise BlockError(
                f"[Activation] activation must be one of {', '.join(_FUNCTIONS)}; got {activation!r}."
            )
        self._activation = activation

    def forward(self, x: Array) -> Array:
        """Elementwise; the shape of x."""
        return _FUNCTIONS[self._activation](x)

    def __repr__(self) -> str:
        return f"Activation({self._activation})"


class LeakyReLU(HybridBlock):
    """x above zero, alpha * x below.

    Args:
        alpha: Slope below zero, not negative.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        if alpha < 0:
            raise BlockError(f"[LeakyReLU] alpha must not be negative; got {alpha}.")
        self._alpha = alpha

    def forward(self, x: Array) -> Array:
        """Elementwise; the shape of x."""
        return npx.leaky_relu(x, slope=self._alpha)

    def __repr__(self) -> str:
        return f"LeakyReLU({self._alpha})"


class ELU(HybridBlock):
    """x above zero, alpha * (exp(x) - 1) below (Clevert, Unterthiner and Hochreiter 2016).

    Args:
        alpha: Scale below zero.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self._alpha = alpha

    def forward(self, x: Array) -> Array:
        """Elementwise; the shape of x."""
        # The argument of expm1 is cut at zero, so that its unused branch cannot overflow in the gradient.
        return np.where(x > 0, x, self._alpha * np.expm1(np.minimum(x, 0.0)))


class SELU(HybridBlock):
    """Scaled ELU whose fixed point has mean 0 and variance 1 (Klambauer et al. 2017)."""

    def forward(self, x: Array) -> Array:
        """Elementwise; the shape of x."""
        scale, alpha = 1.0507009873554805, 1.6732632423543772
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


class GELU(HybridBlock):
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016).

    Args:
        approximation: "erf" is exact, "tanh" the approximation of the paper.
    """

    def __init__(self, approximation: str = "erf") -> None:
        super().__init__()
        if approximation not in ("erf", "tanh"):
            raise BlockError(f"[GELU] approximation must be erf or tanh; got {approximation!r}.")
        self._approximation = approximation

    def forward(self, x: Array) -> Array:
        """Elementwise; the shape of x."""
        return npx.gelu(x, approximate=self._approximation == "tanh")


class SiLU(HybridBlock):
    """x * sigmoid(x) (Elfwing, Uchibe and Doya 2018)."""

    def forward(self, x: Array) -> Array:
        """Elementwise; the shape of x."""
        return npx.silu(x)


class Swish(HybridBlock):
    """x * sigmoid(beta * x) (Ramachandran, Zoph and Le 2017).

    Args:
        beta: 1 gives SiLU.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self._beta = beta

    def forward(self, x: Array) -> Array:
        """Elementwise; the shape of x."""
        return x * npx.sigmoid(self._beta * x)
