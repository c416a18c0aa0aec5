"""mxpipe: a deep-learning engine in the spirit of Apache MXNet, and the pipeline around it.

::

    import mxpipe as mx

    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(64, activation="relu"), mx.gluon.nn.Dense(1))
    net.initialize()

Importing it loads next to nothing: each part, NumPy and the shared library among them, loads at its first
use. An orchestrator that only reads a pipeline's definition needs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        amp,
        autograd,
        data,
        errors,
        gluon,
        initializer,
        inspection,
        jobs,
        lr_scheduler,
        model,
        np,
        npx,
        optimizer,
        random,
        serve,
        sparse,
        symbol,
        testing,
        train,
        viz,
    )
    from . import initializer as init
    from . import symbol as sym
    from ._native import get_num_threads, set_num_threads
    from .device import Device, cpu, num_gpus
    from .errors import MxpipeError

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

# Names that are no modules of their own: where they are, and what they are called there.
_MEMBERS = {
    "Device": ("device", "Device"),
    "MxpipeError": ("errors", "MxpipeError"),
    "cpu": ("device", "cpu"),
    "get_num_threads": ("_native", "get_num_threads"),
    "init": ("initializer", ""),
    "num_gpus": ("device", "num_gpus"),
    "set_num_threads": ("_native", "set_num_threads"),
    "sym": ("symbol", ""),
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first named."""
    if name not in __all__:
        raise AttributeError(f"module 'mxpipe' has no attribute {name!r}")
    module_name, member = _MEMBERS.get(name, (name, ""))
    module = importlib.import_module(f".{module_name}", __name__)
    value = getattr(module, member) if member else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
