"""Functions for neural networks, beyond NumPy."""

from __future__ import annotations

from mxpipe.device import cpu, num_gpus

from . import random
from ._activation import (
    activation,
    erf,
    gelu,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    masked_softmax,
    mish,
    relu,
    rsqrt,
    sigmoid,
    silu,
    softmax,
    softplus,
    softrelu,
)
from ._compatibility import current_device, is_np_array, load, reset_np, save, set_np
from ._layers import (
    batch_flatten,
    batch_norm,
    dropout,
    embedding,
    fully_connected,
    layer_norm,
    reshape,
    smooth_l1,
    softmax_cross_entropy,
    stop_gradient,
    waitall,
)
from ._rows import dot_interaction, one_hot, pick, scatter_rows, take_rows, unique_rows

__all__ = [
    "activation",
    "batch_flatten",
    "batch_norm",
    "cpu",
    "current_device",
    "dot_interaction",
    "dropout",
    "embedding",
    "erf",
    "fully_connected",
    "gelu",
    "is_np_array",
    "layer_norm",
    "leaky_relu",
    "load",
    "log_sigmoid",
    "log_softmax",
    "masked_softmax",
    "mish",
    "num_gpus",
    "one_hot",
    "pick",
    "random",
    "relu",
    "reset_np",
    "reshape",
    "rsqrt",
    "save",
    "scatter_rows",
    "set_np",
    "sigmoid",
    "silu",
    "smooth_l1",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "softrelu",
    "stop_gradient",
    "take_rows",
    "unique_rows",
    "waitall",
]
