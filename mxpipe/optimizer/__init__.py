"""Optimizers: each is one formula over ops, for dense and sparse updates, eager and compiled."""

from __future__ import annotations

from .adaptive import AdaGrad, Adam, AdamW
from .ftrl import Ftrl
from .optimizer import Optimizer, create, register
from .rmsprop import RMSProp
from .sgd import NAG, SGD

__all__ = [
    "NAG",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Ftrl",
    "Optimizer",
    "RMSProp",
    "create",
    "register",
]
