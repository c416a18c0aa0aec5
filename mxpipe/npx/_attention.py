"""Attention."""

from __future__ import annotations

from typing import Any

from mxpipe import _native
from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError
from mxpipe.np._common import ArrayLike, as_array, public


@public
def attention(
    q: ArrayLike,
    k: ArrayLike | None = None,
    v: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Array:
    """softmax(scale q k^T + mask) v for each head (Vaswani et al. 2017); scores are never all in memory.

    Args:
        q: Array (batch, queries, heads, depth) of a floating dtype; or, without k and v, all three packed as
            (batch, tokens, 3, heads, depth).
        k: Array (batch, keys, heads, depth).
        v: Array (batch, keys, heads, depth).
        mask: Broadcasts to (batch, heads, queries, keys): bool, True where a key is seen, or floats that are
            added to the scores.
        causal: Query i sees the keys 0 to i only.
        scale: Factor of the scores; None means 1 / sqrt(depth).
        dropout: Share of probabilities that become 0 within `autograd.record` or `train_mode`, in [0, 1).

    Returns:
        Array (batch, queries, heads, depth) of q's dtype; sums are taken in float32 at least. A query that
        sees no key gives 0.

    Raises:
        OperatorError: The shapes do not fit, the dtypes differ, or one of k and v is given alone.

    Example:
        >>> q = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        >>> npx.attention(q, q, q, causal=True, scale=1000.0).reshape(2, 2)
        array([[1., 0.],
               [0., 1.]])
    """
    if (k is None) != (v is None):
        raise OperatorError("[attention] k and v must be given together; got one of them.")
    if scale is not None and scale <= 0:
        raise OperatorError(f"[attention] scale must be positive; got {scale}.")
    drops = dropout > 0 and _native.is_training()
    inputs: list[Any] = [as_array(q)]
    if k is not None and v is not None:
        inputs += [as_array(k), as_array(v)]
    if mask is not None:
        inputs.append(as_array(mask))
    if drops:
        inputs.append(invoke("random_key", (), {}))
    attributes = {"causal": causal, "scale": scale or 0.0, "dropout": dropout if drops else 0.0}
    return invoke("attention", inputs, attributes)[0]
