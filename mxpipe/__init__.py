"""mxpipe: a deep-learning engine in the spirit of Apache MXNet, and the pipeline around it.

::

    import mxpipe as mx

    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(64, activation="relu"), mx.gluon.nn.Dense(1))
    net.initialize()

Importing it loads NumPy, the standard library and one shared library; what is heavier loads at its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import (
    amp,
    autograd,
    errors,
    gluon,
    initializer,
    lr_scheduler,
    np,
    npx,
    optimizer,
    random,
    sparse,
    symbol,
)
from . import initializer as init
from . import symbol as sym
from ._native import get_num_threads, set_num_threads
from .device import Device, cpu, num_gpus
from .errors import MxpipeError

if TYPE_CHECKING:
    from . import data, inspection, jobs, model, serve, testing, train, viz

__version__ = "0.1.0"

__all__ = [
    "Device",
    "MxpipeError",
    "__version__",
    "amp",
    "autograd",
    "cpu",
    "data",
    "errors",
    "get_num_threads",
    "gluon",
    "init",
    "initializer",
    "inspection",
    "jobs",
    "lr_scheduler",
    "model",
    "np",
    "npx",
    "num_gpus",
    "optimizer",
    "random",
    "serve",
    "set_num_threads",
    "sparse",
    "sym",
    "symbol",
    "testing",
    "train",
    "viz",
]

_LAZY = ("data", "inspection", "jobs", "model", "serve", "testing", "train", "viz")


def __getattr__(name: str) -> Any:
    """Import a part of the pipeline when it is first named."""
    if name in _LAZY:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'mxpipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
