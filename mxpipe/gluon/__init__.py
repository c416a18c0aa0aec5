"""Gluon: networks as Python objects, imperative or compiled, and what trains them."""

from __future__ import annotations

from . import data, loss, metric, model_zoo, nn, rnn, utils
from .block import Block
from .hybrid import BlockTrace, HybridBlock
from .parameter import Constant, Parameter
from .session import Session
from .symbol_block import SymbolBlock
from .train_step import TrainStep
from .trainer import Trainer

__all__ = [
    "Block",
    "BlockTrace",
    "Constant",
    "HybridBlock",
    "Parameter",
    "Session",
    "SymbolBlock",
    "TrainStep",
    "Trainer",
    "data",
    "loss",
    "metric",
    "model_zoo",
    "nn",
    "rnn",
    "utils",
]
