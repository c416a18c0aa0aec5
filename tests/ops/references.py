"""What ops must compute, written in NumPy and SciPy as plainly as possible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Values = NDArray[np.generic]


# ---------------------------------------------------------------------------------------------- elementwise


def gelu(x: Values, approximate: bool = False) -> Values:
    if approximate:
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x * special.ndtr(x)


def floor_mod(a: Values, b: Values) -> Values:
    with np.errstate(all="ignore"):
        return np.mod(a, b)


def floor_divide(a: Values, b: Values) -> Values:
    with np.errstate(all="ignore"):
        return np.floor_divide(a, b)


def cast(x: Values, dtype: str) -> Values:
    return x if dtype == "bfloat16" else x.astype(dtype)


# ------------------------------------------------------------------------------------------ shape and index


def region(begin: list[int], end: list[int], step: list[int]) -> tuple[slice, ...]:
    """NumPy's slices; -1 as an end of a falling slice means before the front."""
    return tuple(
        slice(b, None if s < 0 and e < 0 else e, s) for b, e, s in zip(begin, end, step, strict=True)
    )


def slice_scatter(g: Values, shape: list[int], begin: list[int], end: list[int], step: list[int]) -> Values:
    return slice_assign(np.zeros(shape, g.dtype), g, begin, end, step)


def slice_assign(target: Values, value: Values, begin: list[int], end: list[int], step: list[int]) -> Values:
    result = target.copy()
    result[region(begin, end, step)] = value
    return result


def take_grad(indices: Values, g: Values, shape: list[int], axis: int) -> Values:
    result = np.zeros(shape, g.dtype)
    np.add.at(result, (slice(None),) * (axis % len(shape)) + (indices,), g)
    return result


def pick(x: Values, index: Values, axis: int = -1, keepdims: bool = False) -> Values:
    wide = index if index.ndim == x.ndim else np.expand_dims(index, axis)
    found = np.take_along_axis(x, wide, axis)
    return found if keepdims else np.squeeze(found, axis)


def pick_grad(index: Values, g: Values, shape: list[int], axis: int = -1, keepdims: bool = False) -> Values:
    result = np.zeros(shape, g.dtype)
    wide = index if index.ndim == len(shape) else np.expand_dims(index, axis)
    np.put_along_axis(result, wide, g if keepdims else np.expand_dims(g, axis), axis)
    return result


def one_hot(ids: Values, depth: int, dtype: str = "float32") -> Values:
    return cast(ids[..., None] == np.arange(depth), dtype)


def embedding_grad(ids: Values, g: Values, rows: int) -> Values:
    result = np.zeros((rows, g.shape[-1]), g.dtype)
    np.add.at(result, ids, g)
    return result


def unique_rows(ids: Values, rows: Values) -> tuple[Values, Values]:
    unique = np.full_like(ids, -1)
    sums = np.zeros_like(rows)
    for place, one in enumerate(sorted({int(i) for i in ids if i >= 0})):
        unique[place] = one
        sums[place] = rows[ids == one].sum(0)
    return unique, sums


def take_rows(a: Values, ids: Values) -> Values:
    result = a[np.maximum(ids, 0)] if a.shape[0] else np.zeros((len(ids), *a.shape[1:]))
    result[ids < 0] = 0
    return result


def scatter_rows(target: Values, ids: Values, rows: Values) -> Values:
    result = target.copy()
    result[ids[ids >= 0]] = rows[ids >= 0]
    return result


def row_sparse_to_dense(ids: Values, values: Values, rows: int) -> Values:
    result = np.zeros((rows, *values.shape[1:]), values.dtype)
    np.add.at(result, ids[ids >= 0], values[ids >= 0])
    return result


# --------------------------------------------------------------------------------------- matrices, networks


def matmul(a: Values, b: Values, transpose_a: bool = False, transpose_b: bool = False) -> Values:
    return np.matmul(a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b)


def fully_connected(x: Values, weight: Values, bias: Values | float = 0.0, activation: str = "") -> Values:
    y = x @ weight.T + bias
    functions = {
        "relu": lambda y: np.maximum(y, 0),
        "gelu": lambda y: y * special.ndtr(y),
        "tanh": np.tanh,
        "sigmoid": special.expit,
    }
    return functions[activation](y) if activation else y


def softmax_backward(g: Values, y: Values, axis: int = -1) -> Values:
    return y * (g - (g * y).sum(axis, keepdims=True))


def log_softmax_backward(g: Values, y: Values, axis: int = -1) -> Values:
    return g - np.exp(y) * g.sum(axis, keepdims=True)


def softmax_cross_entropy(logits: Values, labels: Values) -> tuple[Values, ...]:
    log_sum = special.logsumexp(logits, axis=1)
    return log_sum - np.take_along_axis(logits, labels[:, None], 1)[:, 0], log_sum


def softmax_cross_entropy_backward(g: Values, logits: Values, labels: Values, log_sum: Values) -> Values:
    return g[:, None] * (np.exp(logits - log_sum[:, None]) - one_hot(labels, logits.shape[1], "float64"))


def softmax_cross_entropy_and_gradient(logits: Values, labels: Values, g: Values) -> tuple[Values, ...]:
    loss, log_sum = softmax_cross_entropy(logits, labels)
    return loss, log_sum, softmax_cross_entropy_backward(g, logits, labels, log_sum)


def layer_norm(x: Values, gamma: Values, beta: Values, eps: float = 1e-5) -> tuple[Values, ...]:
    mean = x.mean(-1)
    rstd = 1 / np.sqrt(x.var(-1) + eps)
    return (x - mean[..., None]) * rstd[..., None] * gamma + beta, mean, rstd


def layer_norm_backward(
    g: Values, x: Values, gamma: Values, mean: Values, rstd: Values
) -> tuple[Values, ...]:
    normal = (x - mean[..., None]) * rstd[..., None]
    weighted = g * gamma
    inner = weighted - weighted.mean(-1, keepdims=True) - normal * (weighted * normal).mean(-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    return inner * rstd[..., None], (g * normal).sum(rows), g.sum(rows)


def rms_norm(x: Values, gamma: Values, eps: float = 1e-6) -> tuple[Values, ...]:
    rstd = 1 / np.sqrt((x * x).mean(-1) + eps)
    return x * rstd[..., None] * gamma, rstd


def rms_norm_backward(g: Values, x: Values, gamma: Values, rstd: Values) -> tuple[Values, ...]:
    normal = x * rstd[..., None]
    weighted = g * gamma
    inner = weighted - normal * (weighted * normal).mean(-1, keepdims=True)
    return inner * rstd[..., None], (g * normal).sum(tuple(range(x.ndim - 1)))


def _channels(values: Values, axis: int, ndim: int) -> Values:
    return values.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])


def batch_norm(
    x: Values,
    gamma: Values,
    beta: Values,
    residual: Values | float = 0.0,
    axis: int = 1,
    eps: float = 1e-5,
    activation: str = "",
) -> tuple[Values, ...]:
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    mean, variance = x.mean(others), x.var(others)
    m, v, s, b = (_channels(values, axis, x.ndim) for values in (mean, variance, gamma, beta))
    y = (x - m) / np.sqrt(v + eps) * s + b + residual
    return np.maximum(y, 0) if activation else y, mean, variance


def batch_norm_backward(
    g: Values,
    x: Values,
    gamma: Values,
    mean: Values,
    variance: Values,
    beta: Values | None = None,
    y: Values | None = None,
    axis: int = 1,
    eps: float = 1e-5,
    activation: str = "",
) -> tuple[Values, ...]:
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    m, v, s = (_channels(values, axis, x.ndim) for values in (mean, variance, gamma))
    rstd = 1 / np.sqrt(v + eps)
    normal = (x - m) * rstd
    if beta is not None:
        g = g * ((normal * s + _channels(beta, axis, x.ndim) if y is None else y) > 0)
    inner = g - g.mean(others, keepdims=True) - normal * (g * normal).mean(others, keepdims=True)
    results = (s * rstd * inner, (g * normal).sum(others), g.sum(others))
    return results if y is None else (*results, g)


# --------------------------------------------------------------------------------------------------- random


def philox(key: Values, offset: int, count: int) -> Values:
    """Words (uint32) of elements 0 to count - 1: Philox4x32-10 (Salmon et al. 2011).

    Word w of the generator's call 16 g + j is element 64 g + 16 w + j.
    """
    seed, counter = int(key[0]), (int(key[1]) + offset) % 2**64
    calls = np.arange(-(-count // 64) * 16, dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    c0, c1 = calls & low, calls >> shift
    c2 = np.full_like(calls, counter & 0xFFFFFFFF)
    c3 = np.full_like(calls, counter >> 32)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1 = (b >> shift) ^ c1 ^ np.uint64(k0), b & low
        c2, c3 = (a >> shift) ^ c3 ^ np.uint64(k1), a & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    words = np.stack([c0, c1, c2, c3]).reshape(4, -1, 16).swapaxes(0, 1)
    return words.reshape(-1)[:count].astype(np.uint32)


def _integers(key: Values, offset: int, count: int) -> Values:
    return (philox(key, offset, count) >> np.uint32(8)).astype(np.float64)  # 24 bits


def uniform(
    key: Values, shape: list[int], low: float = 0, high: float = 1, dtype: str = "float32", offset: int = 0
) -> Values:
    numbers = _integers(key, offset, int(np.prod(shape, dtype=int))) * 2.0**-24
    return cast((numbers * (high - low) + low).reshape(shape), dtype)


def bernoulli(key: Values, shape: list[int], p: float, dtype: str = "float32", offset: int = 0) -> Values:
    return cast(uniform(key, shape, dtype="float64", offset=offset) < np.float32(p), dtype)


def normal(
    key: Values, shape: list[int], loc: float = 0, scale: float = 1, dtype: str = "float32", offset: int = 0
) -> Values:
    count = int(np.prod(shape, dtype=int))
    words = _integers(key, offset, -(-count // 64) * 64).reshape(-1, 2, 2, 16)
    radius = np.sqrt(-2 * np.log((words[:, :, 0] + 1) * 2.0**-24))
    angle = words[:, :, 1] * 2 * np.pi * 2.0**-24
    numbers = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2).reshape(-1)[:count]
    return cast((numbers * scale + loc).reshape(shape), dtype)


def dropout(x: Values, key: Values, p: float, offset: int = 0) -> Values:
    kept = uniform(key, list(x.shape), dtype="float64", offset=offset) >= np.float32(p)
    return np.where(kept, x / (1 - p) if p < 1 else 0.0, 0.0)
