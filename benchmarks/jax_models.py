"""The benchmark models as JAX functions of their parameters, by the names of benchmarks/models.py.

Images are channels-last; dense weights are transposed and convolution weights (height, width, in, out) when
they are loaded. `Mode` says in which type the matrix work is done; sums and norms stay float32.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.models import ENCODER, FORECASTER, RECOMMENDER, RESNETS, Convolution, residual_blocks

Arrays = dict[str, Any]


@dataclasses.dataclass
class Mode:
    """How a forward pass runs; it leaves new running statistics here when it trains."""

    dtype: Any = jnp.float32
    training: bool = False
    statistics: Arrays = dataclasses.field(default_factory=dict)


def load(parameters: dict[str, np.ndarray]) -> Arrays:
    """Parameters in JAX's layouts."""

    def placed(name: str, value: np.ndarray) -> Any:
        if value.ndim == 4:
            return jnp.array(value.transpose(2, 3, 1, 0))
        dense = value.ndim == 2 and name.endswith(".weight")
        return jnp.array(value.T if dense else value)

    return {name: placed(name, value) for name, value in parameters.items()}


def dense(p: Arrays, name: str, x: Any, mode: Mode) -> Any:
    """x @ weight + bias."""
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    return x.astype(mode.dtype) @ weight.astype(mode.dtype) + bias.astype(mode.dtype)


def mlp(p: Arrays, prefix: str, x: Any, mode: Mode, relu_last: bool = False) -> Any:
    """Dense layers prefix0, prefix1 ... with relu between."""
    count = sum(name.startswith(prefix) and name.endswith(".weight") for name in p)
    for index in range(count):
        x = dense(p, f"{prefix}{index}", x, mode)
        if relu_last or index < count - 1:
            x = jax.nn.relu(x)
    return x


def _convolved(p: Arrays, one: Convolution, x: Any, mode: Mode, padding: int | None = None) -> Any:
    pad = one.kernel // 2 if padding is None else padding
    y = lax.conv_general_dilated(
        x.astype(mode.dtype),
        p[f"{one.name}.weight"].astype(mode.dtype),
        (one.stride, one.stride),
        [(pad, pad)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    ).astype(jnp.float32)
    if mode.training:
        mean = y.mean((0, 1, 2))
        variance = jnp.square(y).mean((0, 1, 2)) - mean * mean
        count = y.size // y.shape[-1]
        for kind, new in (("mean", mean), ("var", variance * count / (count - 1))):
            name = f"{one.norm}.running_{kind}"
            mode.statistics[name] = 0.9 * p[name] + 0.1 * new
    else:
        mean, variance = p[f"{one.norm}.running_mean"], p[f"{one.norm}.running_var"]
    scale = p[f"{one.norm}.weight"] * lax.rsqrt(variance + 1e-5)
    return (y * scale + (p[f"{one.norm}.bias"] - mean * scale)).astype(mode.dtype)


def resnet(p: Arrays, name: str, x: Any, mode: Mode) -> Any:
    """Logits of images (n, height, width, 3)."""
    net = RESNETS[name]
    kernel, stride, padding = net.stem
    x = jax.nn.relu(_convolved(p, Convolution("stem.conv0", 3, 64, kernel, stride), x, mode, padding))
    if net.pool:
        least = np.array(-np.inf, x.dtype)
        edges = [(0, 0), (1, 1), (1, 1), (0, 0)]
        x = lax.reduce_window(x, least, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edges)
    for block in residual_blocks(net):
        y = x
        for one in block.convolutions:
            y = _convolved(p, one, y, mode)
            y = y if one is block.convolutions[-1] else jax.nn.relu(y)
        x = jax.nn.relu(y + (_convolved(p, block.shortcut, x, mode) if block.shortcut else x))
    return dense(p, "fc", x.astype(jnp.float32).mean((1, 2)), mode)


def layer_norm(x: Any, gamma: Any, beta: Any, mode: Mode, eps: float) -> Any:
    """Over the last axis."""
    x = x.astype(jnp.float32)
    centred = x - x.mean(-1, keepdims=True)
    return (centred * lax.rsqrt(x.var(-1, keepdims=True) + eps) * gamma + beta).astype(mode.dtype)


def encoder(p: Arrays, ids: Any, mode: Mode) -> Any:
    """Logits of token ids (n, length)."""
    heads, depth = ENCODER.heads, ENCODER.hidden // ENCODER.heads

    def norm(x: Any, name: str) -> Any:
        return layer_norm(x, p[f"{name}.gamma"], p[f"{name}.beta"], mode, ENCODER.eps)

    def attention(x: Any, layer: str) -> Any:
        batch, length, hidden = x.shape
        qkv = dense(p, f"{layer}.qkv", x, mode).reshape(batch, length, 3, heads, depth)
        query, key, value = jnp.moveaxis(qkv, 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key).astype(jnp.float32) * depth**-0.5
        shares = jax.nn.softmax(scores).astype(mode.dtype)
        joined = jnp.einsum("bhqk,bkhd->bqhd", shares, value).reshape(batch, length, hidden)
        return dense(p, f"{layer}.out", joined, mode)

    x = norm(p["tok"][ids] + p["pos"], "ln")
    for index in range(ENCODER.layers):
        layer = f"l{index}"
        x = norm(x + attention(x, layer), f"{layer}.ln1")
        y = jax.nn.gelu(dense(p, f"{layer}.up", x, mode), approximate=False)
        x = norm(x + dense(p, f"{layer}.down", y, mode), f"{layer}.ln2")
    return dense(p, "cls", jnp.tanh(dense(p, "pool", x[:, 0], mode)), mode)


def forecaster(p: Arrays, x: Any, mode: Mode) -> Any:
    """The horizon after series (n, length, features)."""
    zeros = jnp.zeros((x.shape[0], FORECASTER.hidden))
    x, last = jnp.swapaxes(x, 0, 1), zeros
    for layer in range(FORECASTER.layers):
        bias = p[f"lstm.bias_ih_l{layer}"] + p[f"lstm.bias_hh_l{layer}"]
        gates = x @ p[f"lstm.weight_ih_l{layer}"].T + bias
        recurrent = p[f"lstm.weight_hh_l{layer}"].T

        def cell(state: Any, given: Any, recurrent: Any = recurrent) -> Any:
            hidden, memory = state
            enter, forget, new, leave = jnp.split(given + hidden @ recurrent, 4, -1)
            memory = jax.nn.sigmoid(forget) * memory + jax.nn.sigmoid(enter) * jnp.tanh(new)
            hidden = jax.nn.sigmoid(leave) * jnp.tanh(memory)
            return (hidden, memory), hidden

        (last, _), x = lax.scan(cell, (zeros, zeros), gates)
    return dense(p, "head", last, mode)


def recommender(p: Arrays, features: Any, rows: Any, mode: Mode) -> Any:
    """Logits of dense features and gathered rows (n, tables, dim)."""
    bottom = mlp(p, "bot", features, mode, relu_last=True)
    vectors = jnp.concatenate([bottom[:, None], rows], 1)
    i, j = np.tril_indices(RECOMMENDER.tables + 1, -1)
    products = jnp.einsum("bik,bjk->bij", vectors, vectors)[:, i, j]
    return mlp(p, "top", jnp.concatenate([bottom, products], 1), mode)


def forward(p: Arrays, model: str, inputs: Any, mode: Mode) -> Any:
    """Any model but the recommender."""
    if model in RESNETS:
        return resnet(p, model, inputs, mode)
    if model == "mlp":
        return mlp(p, "fc", inputs, mode)
    return {"encoder": encoder, "lstm": forecaster}[model](p, inputs, mode)
