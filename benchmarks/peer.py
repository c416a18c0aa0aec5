"""mxpipe as a peer: the programs that a user would write, over given weights and data.

The functions are those that a benchmark harness asks of every engine: setup, versions, sync, to_numpy, and
train / infer / micro, which return what is timed. Each model's program is in the module that `MODULES` names;
`Unsupported` says what is missing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mxpipe as mx

ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:  # a harness loads this file by its path
    sys.path.insert(0, ROOT)

from benchmarks.workloads import Unsupported  # noqa: E402

MODULES = {
    "mlp": "peer_mlp",
    "resnet50": "peer_vision",
    "resnet18c": "peer_vision",
    "encoder": "peer_encoder",
    "lstm": "peer_rnn",
    "dlrm": "peer_tabular",
    "spmm": "peer_tabular",
    "wide_and_deep": "peer_flights",
    "add": "peer_micro",
    "fused": "peer_micro",
    "fused_grad": "peer_micro",
    "xent": "peer_micro",
    "layernorm": "peer_micro",
    "matmul": "peer_micro",
}


def setup(threads: int, **options: Any) -> None:
    """Called once, first."""
    mx.set_num_threads(threads)


def versions() -> dict[str, str]:
    """Of everything that computes."""
    return {"mxpipe": mx.__version__}


def sync(value: Any) -> None:
    """Calls return when they are done."""


def to_numpy(value: Any) -> np.ndarray:
    """A copy in host memory, of float32 where it held bfloat16."""
    return value.asnumpy()


def _program(kind: str, workload: Any, dtype: str) -> Callable[..., Any]:
    name = MODULES.get(workload.model)
    if name is None or not Path(__file__).with_name(f"{name}.py").exists():
        raise Unsupported(workload.model)
    make = getattr(importlib.import_module(f"benchmarks.{name}"), kind, None)
    if make is None:
        raise Unsupported(f"{workload.model}: {kind}")
    program: Callable[..., Any] = make(workload, dtype)
    return program


def train(workload: Any, dtype: str) -> Callable[[int], Any]:
    """step(index) runs one compiled step on a staged batch and returns the mean loss."""
    return _program("train", workload, dtype)


def infer(workload: Any, dtype: str) -> Callable[..., np.ndarray]:
    """call(inputs): NumPy in, NumPy out."""
    return _program("infer", workload, dtype)


def micro(workload: Any, dtype: str) -> Callable[..., Any]:
    """call() computes one expression over staged inputs."""
    return _program("micro", workload, dtype)
