"""Attention of several heads."""

from __future__ import annotations

from typing import Any

from mxpipe import initializer, npx
from mxpipe._native import Array
from mxpipe.errors import BlockError
from mxpipe.gluon.hybrid import HybridBlock

from .basic_layers import Dense

__all__ = ["MultiHeadAttention"]

_Init = str | initializer.Initializer | None


class MultiHeadAttention(HybridBlock):
    """Each token gathers from the others by similarity, in several heads (Vaswani et al. 2017).

    Queries, keys and values come from one `Dense` layer `qkv` of 3 * units outputs (all queries, then all
    keys, then all values, each head by head); `out` mixes what the heads gathered.

    Args:
        units: Numbers of a token, in and out; a multiple of num_heads.
        num_heads: Number of heads.
        dropout: Share of probabilities that are dropped in training, in [0, 1).
        use_bias: Whether the two layers have biases.
        causal: Token i sees the tokens 0 to i only.
        dtype: Type of the parameters.
        weight_initializer: For the weights of both layers.
        bias_initializer: For their biases.

    Example:
        >>> import mxpipe as mx
        >>> layer = MultiHeadAttention(8, 2)
        >>> layer.initialize()
        >>> layer(mx.np.ones((1, 3, 8))).shape
        (1, 3, 8)
    """

    def __init__(
        self,
        units: int,
        num_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        causal: bool = False,
        dtype: Any = "float32",
        weight_initializer: _Init = None,
        bias_initializer: _Init = "zeros",
    ) -> None:
        super().__init__()
        if num_heads < 1 or units < 1 or units % num_heads != 0:
            raise BlockError(
                f"[MultiHeadAttention] units must be a multiple of num_heads; got {units} and {num_heads}."
            )
        if not 0.0 <= dropout < 1.0:
            raise BlockError(
                f"[MultiHeadAttention] dropout must be at least 0 and less than 1; got {dropout}."
            )
        self._units, self._heads = units, num_heads
        self._dropout, self._causal = dropout, causal

        def dense(outputs: int) -> Dense:
            return Dense(
                outputs, None, use_bias, False, dtype, weight_initializer, bias_initializer, in_units=units
            )

        self.qkv = dense(3 * units)
        self.out = dense(units)

    def forward(self, x: Array, mask: Array | None = None) -> Array:
        """Tokens (batch, tokens, units) to the same shape.

        Args:
            x: The tokens.
            mask: Broadcasts to (batch, heads, tokens, tokens): bool, True where a token is seen, or floats
                that are added to the scores.
        """
        if x.ndim != 3 or x.shape[2] != self._units:
            raise BlockError(
                f"[MultiHeadAttention] tokens must have shape (batch, tokens, {self._units}); got {x.shape}."
            )
        packed = self.qkv(x).reshape(-2, -2, 3, self._heads, self._units // self._heads)
        gathered = npx.attention(packed, mask=mask, causal=self._causal, dropout=self._dropout)
        mixed: Array = self.out(gathered.reshape(-2, -2, self._units))
        return mixed

    def __repr__(self) -> str:
        return f"MultiHeadAttention({self._units}, heads={self._heads}, causal={self._causal})"
