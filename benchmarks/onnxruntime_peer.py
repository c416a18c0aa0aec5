"""ONNX Runtime's CPU provider as a peer, float32 inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.onnx_graphs import path_for
from benchmarks.workloads import Unsupported

_threads = 1


def setup(threads: int) -> None:
    """Called once, first."""
    global _threads
    _threads = threads


def versions() -> dict[str, str]:
    """Of everything that computes."""
    return {"onnxruntime": onnxruntime.__version__}


def sync(value: Any) -> None:
    """Calls return when they are done."""


def to_numpy(value: Any) -> np.ndarray:
    """In host memory."""
    return np.asarray(value)


def infer(workload: Any, dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """NumPy in, NumPy out."""
    if dtype != "fp32":
        raise Unsupported("the CPU provider has no bf16 kernels")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = _threads, 1
    session = onnxruntime.InferenceSession(path_for(workload), options, providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0].name
    return lambda x: session.run([output], {"x": x})[0]
