"""Encoders of token sequences in the manner of BERT (Devlin et al. 2019)."""

from __future__ import annotations

from mxpipe import initializer, npx
from mxpipe._native import Array
from mxpipe.errors import SpecificationError
from mxpipe.gluon import nn
from mxpipe.gluon.hybrid import HybridBlock
from mxpipe.gluon.parameter import Parameter

from .registry import register

__all__ = ["EncoderLayer", "TransformerEncoder", "transformer_encoder"]


class EncoderLayer(HybridBlock):
    """Attention, then two dense layers with gelu between; each is added to its input and normalized after.

    Args:
        units: Numbers of a token.
        num_heads: Heads of the attention.
        hidden_units: Outputs of the first dense layer.
        dropout: Rate for what is added, and for the probabilities of attention.
        epsilon: Of the normalizations.
        causal: Token i sees the tokens 0 to i only.
    """

    def __init__(
        self,
        units: int,
        num_heads: int,
        hidden_units: int,
        dropout: float = 0.1,
        epsilon: float = 1e-5,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self._units = units
        self.attention = nn.MultiHeadAttention(units, num_heads, dropout, causal=causal)
        self.norm1 = nn.LayerNorm(epsilon=epsilon, in_channels=units)
        self.up = nn.Dense(hidden_units, flatten=False, in_units=units)
        self.down = nn.Dense(units, flatten=False, in_units=hidden_units)
        self.norm2 = nn.LayerNorm(epsilon=epsilon, in_channels=units)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Array, mask: Array | None = None) -> Array:
        """Tokens (batch, tokens, units) to the same shape; mask as `MultiHeadAttention` takes it."""
        # Tokens of all samples one below the other: one shape throughout, so that passes over them fuse.
        rows = x.reshape(-1, self._units)
        rows = self.norm1(rows + self.dropout(self.attention(x, mask).reshape(-1, self._units)))
        rows = self.norm2(rows + self.dropout(self.down(npx.gelu(self.up(rows)))))
        result: Array = rows.reshape(-1, *x.shape[1:])
        return result


class TransformerEncoder(HybridBlock):
    """Token and position embeddings, encoder layers, and a classifier over the first token.

    Args:
        vocabulary: Number of token ids.
        classes: Number of logits; 0 returns the tokens of the last layer.
        layers: Number of `EncoderLayer`s.
        units: Numbers of a token.
        num_heads: Heads of the attention.
        hidden_units: Outputs of each layer's first dense layer.
        max_length: Longest sequence: positions are learned.
        dropout: Rate for embeddings, for what layers add, and for the probabilities of attention.
        epsilon: Of the normalizations.
        causal: Token i sees the tokens 0 to i only.
        embedding_sigma: Standard deviation of initial embeddings.

    Example:
        >>> import mxpipe as mx
        >>> net = TransformerEncoder(10, 2, layers=1, units=8, num_heads=2, hidden_units=16, max_length=4)
        >>> net.initialize()
        >>> net(mx.np.array([[1, 2, 3]])).shape
        (1, 2)
    """

    def __init__(
        self,
        vocabulary: int,
        classes: int = 2,
        layers: int = 12,
        units: int = 768,
        num_heads: int = 12,
        hidden_units: int = 3072,
        max_length: int = 512,
        dropout: float = 0.1,
        epsilon: float = 1e-5,
        causal: bool = False,
        embedding_sigma: float = 0.02,
    ) -> None:
        super().__init__()
        self._max_length = max_length
        normal = initializer.Normal(embedding_sigma)
        self.tokens = nn.Embedding(vocabulary, units, weight_initializer=normal)
        self.positions = Parameter(shape=(max_length, units), init=normal)
        self.norm = nn.LayerNorm(epsilon=epsilon, in_channels=units)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.HybridSequential()
        for _ in range(layers):
            self.layers.add(EncoderLayer(units, num_heads, hidden_units, dropout, epsilon, causal))
        self.pooler = nn.Dense(units, "tanh", in_units=units) if classes else None
        self.classifier = nn.Dense(classes, in_units=units) if classes else None

    def forward(self, ids: Array, mask: Array | None = None) -> Array:
        """Logits (batch, classes), or tokens (batch, tokens, units) where there are no classes.

        Args:
            ids: Integers (batch, tokens).
            mask: bool (batch, tokens), False where a token is padding; or of 4 axes, as `MultiHeadAttention`
                takes it.
        """
        length = ids.shape[1]
        if length > self._max_length:
            raise SpecificationError(
                f"[TransformerEncoder] sequences must have at most {self._max_length} tokens; got {length}."
            )
        if mask is not None and mask.ndim == 2:
            mask = mask.reshape(-2, 1, 1, -1)
        positions = self.positions.data()
        if length < self._max_length:
            positions = positions[:length]
        x: Array = self.dropout(self.norm(self.tokens(ids) + positions))
        for layer in self.layers:
            x = layer(x, mask)
        if self.pooler is None or self.classifier is None:
            return x
        logits: Array = self.classifier(self.pooler(x[:, 0]))
        return logits


@register
def transformer_encoder(
    vocabulary: int,
    classes: int = 2,
    layers: int = 12,
    units: int = 768,
    num_heads: int = 12,
    hidden_units: int = 3072,
    max_length: int = 512,
    dropout: float = 0.1,
    causal: bool = False,
) -> TransformerEncoder:
    """An encoder in the manner of BERT; arguments as in `TransformerEncoder`, defaults as in BERT-base."""
    return TransformerEncoder(
        vocabulary, classes, layers, units, num_heads, hidden_units, max_length, dropout, causal=causal
    )
