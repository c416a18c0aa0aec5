"""Rows of attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import references as ref
from rows import KEY, Row, Values, call, compute, fixed, real, same, statistics, truths


def _split(
    inputs: tuple[Values, ...], dropout: float
) -> tuple[Values, Values, Values, Values | None, Values | None]:
    """q, k, v as (batch, heads, tokens, depth); mask and key where there are any."""
    if inputs[0].ndim == 5:
        arrays, others = tuple(np.moveaxis(inputs[0], 2, 0)), inputs[1:]
    else:
        arrays, others = inputs[:3], inputs[3:]
    key = others[-1] if dropout else None
    masks = others[:-1] if dropout else others
    q, k, v = (np.swapaxes(x, 1, 2) for x in arrays)
    return q, k, v, (masks[0] if masks else None), key


def _probabilities(
    inputs: tuple[Values, ...], causal: bool, scale: float, dropout: float
) -> tuple[Values, Values, Values]:
    """Probabilities, the factors of dropout and the logarithms of the sums."""
    q, k, _, mask, key = _split(inputs, dropout)
    scores = np.asarray((scale or q.shape[-1] ** -0.5) * (q @ np.swapaxes(k, -1, -2)))
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(scores - np.where(top == -np.inf, 0, top))
    total = exponentials.sum(-1, keepdims=True)
    factors = np.ones(scores.shape)
    if dropout:
        factors = ref.dropout(factors, np.asarray(key), dropout)
    log_sum = np.where(total == 0, np.inf, top + np.log(total))[..., 0]
    return exponentials / np.where(total == 0, 1, total), factors, log_sum


def attention(
    *inputs: Values, causal: bool = False, scale: float = 0.0, dropout: float = 0.0
) -> tuple[Values, Values]:
    p, factors, log_sum = _probabilities(inputs, causal, scale, dropout)
    v = _split(inputs, dropout)[2]
    return np.swapaxes((p * factors) @ v, 1, 2), log_sum


def attention_backward(
    g: Values,
    y: Values,
    log_sum: Values,
    *inputs: Values,
    causal: bool = False,
    scale: float = 0.0,
    dropout: float = 0.0,
    scores: bool = False,
) -> Any:
    """With y and log_sum as given: they need not be forward's."""
    q, k, v, _, _ = _split(inputs, dropout)
    p, factors, own = _probabilities(inputs, causal, scale, dropout)
    p = p * np.exp(np.where(np.isinf(own), 0, own) - log_sum)[..., None]
    g, y = np.swapaxes(g, 1, 2), np.swapaxes(y, 1, 2)
    of_scores = p * (factors * (g @ np.swapaxes(v, -1, -2)) - (g * y).sum(-1, keepdims=True))
    factor = scale or q.shape[-1] ** -0.5
    results = [
        factor * of_scores @ k,
        factor * np.swapaxes(of_scores, -1, -2) @ q,
        np.swapaxes(p * factors, -1, -2) @ g,
    ]
    results = [np.swapaxes(x, 1, 2) for x in results]
    if inputs[0].ndim == 5:
        results = [np.stack(results, 2)]
    return (*results, of_scores) if scores else (tuple(results) if len(results) > 1 else results[0])


def _separate(batch: int, queries: int, keys: int, heads: int, depth: int) -> tuple[Any, ...]:
    kv = real(batch, keys, heads, depth)
    return real(batch, queries, heads, depth), kv, kv


def _backward(batch: int, queries: int, heads: int, depth: int) -> tuple[Any, ...]:
    y = real(batch, queries, heads, depth)
    return y, y, statistics(batch, heads, queries, low=2.0, high=4.0)


_NOTHING_SEEN = fixed([[[[True, False, True], [False, False, False]]]], "bool")

ROWS: list[Row] = [
    Row(
        "attention",
        attention,
        (
            call(real(2, 5, 3, 2, 4)),
            call(*_separate(2, 3, 7, 2, 5), scale=0.3),
            call(*_separate(1, 7, 3, 1, 17), causal=True),
            call(real(1, 9, 3, 2, 3), truths(2, 9, 9), causal=True),
            call(*_separate(2, 2, 3, 1, 4), _NOTHING_SEEN),
            call(*_separate(2, 4, 3, 2, 4), real(2, 1, 1, 3)),
            call(*_separate(2, 4, 3, 2, 4), statistics(4, 1)),
            call(*_separate(2, 5, 6, 2, 4), KEY, dropout=0.3),
            call(real(1, 3, 3, 2, 4), truths(), KEY, dropout=0.5, causal=True),
            call(real(1, 131, 3, 2, 20), smooth=False),  # more than a tile
            call(*_separate(1, 150, 260, 1, 64), real(260, low=-9, high=9), causal=True, smooth=False),
            call(*_separate(1, 130, 133, 1, 40), KEY, dropout=0.2, smooth=False),
            call(real(0, 4, 3, 2, 4)),
            call(real(2, 0, 3, 2, 4)),
            call(*_separate(2, 3, 0, 2, 4)),
        ),
        result=(same, compute),
        loose=10,
        differentiated=(0,),
    ),
    Row(
        "attention_backward",
        attention_backward,
        (
            call(*_backward(2, 3, 2, 5), *_separate(2, 3, 7, 2, 5), scale=0.3),
            call(*_backward(2, 5, 2, 4), real(2, 5, 3, 2, 4)),
            call(*_backward(1, 7, 1, 17), *_separate(1, 7, 3, 1, 17), causal=True),
            call(*_backward(2, 2, 1, 4), *_separate(2, 2, 3, 1, 4), _NOTHING_SEEN),
            call(*_backward(2, 4, 2, 4), *_separate(2, 4, 3, 2, 4), real(2, 1, 1, 3), scores=True),
            call(*_backward(2, 4, 2, 4), *_separate(2, 4, 3, 2, 4), statistics(4, 1)),
            call(*_backward(2, 5, 2, 4), *_separate(2, 5, 6, 2, 4), KEY, dropout=0.3),
            call(*_backward(1, 131, 2, 20), real(1, 131, 3, 2, 20)),
            call(*_backward(1, 150, 1, 64), *_separate(1, 150, 260, 1, 64), real(260), causal=True),
            call(*_backward(1, 130, 1, 40), *_separate(1, 130, 133, 1, 40), KEY, dropout=0.2),
            call(*_backward(2, 0, 2, 4), *_separate(2, 0, 3, 2, 4)),
        ),
        result=same,
        loose=60,
    ),
    Row(
        "random_key",
        lambda key, offset=0: key + np.array([0, offset], "uint64"),
        (call(KEY), call(KEY, offset=3)),
        dtypes=("float32",),
        result=lambda _: "uint64",
        exact=True,
    ),
]
