"""Layers: containers, the basic layers, and activations."""

from __future__ import annotations

from mxpipe.gluon.block import Block
from mxpipe.gluon.hybrid import HybridBlock
from mxpipe.gluon.symbol_block import SymbolBlock

from .activations import ELU, GELU, SELU, Activation, LeakyReLU, SiLU, Swish
from .attention_layers import MultiHeadAttention
from .basic_layers import Dense, Dropout, Embedding, Flatten
from .containers import (
    Concatenate,
    HybridConcatenate,
    HybridLambda,
    HybridSequential,
    Identity,
    Lambda,
    Sequential,
)
from .norm_layers import BatchNorm, LayerNorm

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "BatchNorm",
    "Block",
    "Concatenate",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "HybridBlock",
    "HybridConcatenate",
    "HybridLambda",
    "HybridSequential",
    "Identity",
    "Lambda",
    "LayerNorm",
    "LeakyReLU",
    "MultiHeadAttention",
    "Sequential",
    "SiLU",
    "Swish",
    "SymbolBlock",
]
