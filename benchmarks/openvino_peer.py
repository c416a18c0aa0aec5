"""OpenVINO's CPU plugin as a peer: one stream, synchronous calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino

from benchmarks.onnx_graphs import path_for

_threads = 1


def setup(threads: int) -> None:
    """Called once, first."""
    global _threads
    _threads = threads


def versions() -> dict[str, str]:
    """Of everything that computes."""
    return {"openvino": openvino.__version__}


def sync(value: Any) -> None:
    """Calls return when they are done."""


def to_numpy(value: Any) -> np.ndarray:
    """In host memory."""
    return np.asarray(value)


def infer(workload: Any, dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """NumPy in, NumPy out; fp32 must be asked for, bf16 is this engine's own choice where there is bf16."""
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": _threads,
        "NUM_STREAMS": 1,
    }
    request = openvino.Core().compile_model(path_for(workload), "CPU", settings).create_infer_request()

    def call(x: np.ndarray) -> np.ndarray:
        request.infer({0: x}, share_inputs=True)
        return request.get_output_tensor(0).data.copy()

    return call
