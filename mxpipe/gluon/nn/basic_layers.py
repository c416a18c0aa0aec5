"""Dense, Dropout, Embedding, Flatten."""

from __future__ import annotations

import math
from typing import Any

from mxpipe import initializer, npx
from mxpipe._native import Array
from mxpipe.errors import BlockError
from mxpipe.gluon.hybrid import HybridBlock
from mxpipe.gluon.parameter import Parameter

from .activations import Activation

__all__ = ["Dense", "Dropout", "Embedding", "Flatten"]

_Init = str | initializer.Initializer | None


class Dense(HybridBlock):
    """A fully connected layer: activation(x weight^T + bias).

    Args:
        units: Number of outputs.
        activation: Name of an `Activation`; none where None.
        use_bias: Whether there is a bias.
        flatten: Join all axes but the first, so that the result is (batch, units); otherwise the last axis
            alone is transformed.
        dtype: Type of the parameters.
        weight_initializer: For weight (units, in_units).
        bias_initializer: For bias (units,).
        in_units: Number of inputs; 0 takes it from the first input.

    Example:
        >>> import mxpipe as mx
        >>> layer = Dense(2, weight_initializer="ones")
        >>> layer.initialize()
        >>> layer(mx.np.array([[1.0, 2.0, 3.0]])).asnumpy().tolist()
        [[6.0, 6.0]]
    """

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        flatten: bool = True,
        dtype: Any = "float32",
        weight_initializer: _Init = None,
        bias_initializer: _Init = "zeros",
        in_units: int = 0,
    ) -> None:
        super().__init__()
        if units < 1:
            raise BlockError(f"[Dense] units must be positive; got {units}.")
        self._units = units
        self._flatten = flatten
        self.weight = Parameter(
            shape=(units, in_units), init=weight_initializer, dtype=dtype, allow_deferred_init=True
        )
        self.bias = (
            Parameter(shape=(units,), init=bias_initializer, dtype=dtype, allow_deferred_init=True)
            if use_bias
            else None
        )
        self.act = Activation(activation) if activation is not None else None

    def infer_shape(self, x: Array, *args: Any) -> None:
        """Take the number of inputs from x."""
        in_units = math.prod(x.shape[1:]) if self._flatten else x.shape[-1]
        self.weight.shape = (self._units, in_units)

    def forward(self, x: Array) -> Array:
        """(batch, ...) to (batch, units), or (..., in_units) to (..., units) without `flatten`."""
        bias = self.bias.data() if self.bias is not None else None
        result = npx.fully_connected(x, self.weight.data(), bias, flatten=self._flatten)
        return result if self.act is None else self.act(result)

    def __repr__(self) -> str:
        units, in_units = self.weight.shape or (self._units, 0)
        return f"Dense({in_units or None} -> {units}, {self.act or 'linear'})"


class Dropout(HybridBlock):
    """Sets a share of the elements to zero in training and scales the rest by 1 / (1 - rate).

    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014.

    Args:
        rate: Share from 0 (inclusive) to 1 (exclusive).
        axes: Axes along which one decision is shared.

    Example:
        >>> import mxpipe as mx
        >>> Dropout(0.5)(mx.np.ones((3,))).asnumpy().tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(self, rate: float, axes: tuple[int, ...] = ()) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise BlockError(f"[Dropout] rate must be at least 0 and less than 1; got {rate}.")
        self._rate = rate
        self._axes = tuple(axes)

    def forward(self, x: Array) -> Array:
        """The shape of x; x itself in predict mode."""
        return npx.dropout(x, p=self._rate, axes=self._axes) if self._rate > 0 else x

    def __repr__(self) -> str:
        return f"Dropout(rate={self._rate}, axes={self._axes})"


class Embedding(HybridBlock):
    """Looks up rows of a table by integers.

    Args:
        input_dim: Number of rows. An id outside of [0, input_dim) raises.
        output_dim: Length of a row.
        dtype: Type of the table.
        weight_initializer: For weight (input_dim, output_dim).
        sparse_grad: Give the table a row-sparse gradient, so that a training step costs no more for a longer
            table. Optimizers then update only rows that were looked up, momentum and weight decay included.

    Example:
        >>> import mxpipe as mx
        >>> layer = Embedding(10, 4)
        >>> layer.initialize()
        >>> layer(mx.np.array([[1, 2, 3]], dtype="int32")).shape
        (1, 3, 4)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        dtype: Any = "float32",
        weight_initializer: _Init = None,
        sparse_grad: bool = False,
    ) -> None:
        super().__init__()
        self._sparse_grad = sparse_grad
        self.weight = Parameter(
            shape=(input_dim, output_dim),
            init=weight_initializer,
            dtype=dtype,
            allow_deferred_init=True,
            grad_stype="row_sparse" if sparse_grad else "default",
        )

    def forward(self, x: Array) -> Array:
        """Integers of shape (...) to (..., output_dim)."""
        return npx.embedding(x, self.weight.data(), sparse_grad=self._sparse_grad)

    def __repr__(self) -> str:
        rows, width = self.weight.shape or (0, 0)
        return f"Embedding({rows} -> {width}, {self.weight.dtype})"


class Flatten(HybridBlock):
    """Joins all axes but the first."""

    def forward(self, x: Array) -> Array:
        """(batch, ...) to (batch, n)."""
        return npx.batch_flatten(x)
