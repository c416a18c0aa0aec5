"""Whom we are measured against: each peer's module, interpreter and environment.

A peer named `..._keep` runs with glibc told to keep freed blocks and to ask for huge pages: some engines give
every large block back to the kernel and fault it in again, which costs them up to half of a step.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENVS = Path(os.environ.get("BENCH_VENVS", ROOT / "build" / "bench"))

_NEVER = 1 << 40
_KEEP = {
    "GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={_NEVER}:glibc.malloc.trim_threshold={_NEVER}"
    f":glibc.malloc.top_pad={64 << 20}:glibc.malloc.hugetlb=1"
}


@dataclasses.dataclass(frozen=True)
class Peer:
    """How to run one engine.

    Attributes:
        module: In benchmarks/, with setup, versions, sync, to_numpy, train, infer, micro.
        package: What is imported, and whose installed size is counted.
        venv: Folder of its interpreter below VENVS; ours is the one that runs the benchmarks.
        environment: More variables.
        options: Of setup().
        kinds: Of the workloads that it can run.
    """

    module: str
    package: str
    venv: str = ""
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    options: dict[str, bool] = dataclasses.field(default_factory=dict)
    kinds: tuple[str, ...] = ("train", "infer", "micro", "startup")

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return VENVS / self.venv / "bin" / "python" if self.venv else Path(sys.executable)


_COMPILE, _NO_START = {"compile": True}, ("train", "infer", "micro")
PEERS = {
    "mxpipe": Peer("peer", "mxpipe"),
    "torch": Peer("torch_peer", "torch", "torch"),
    "torch_keep": Peer("torch_peer", "torch", "torch", _KEEP),
    "torch_compile": Peer("torch_peer", "torch", "torch", {}, _COMPILE, _NO_START),
    "torch_compile_keep": Peer("torch_peer", "torch", "torch", _KEEP, _COMPILE, _NO_START),
    "jax": Peer("jax_peer", "jax", "jax", {}, {}, _NO_START),
    "jax_keep": Peer("jax_peer", "jax", "jax", _KEEP, {}, _NO_START),
    "openvino": Peer("openvino_peer", "openvino", "openvino", {}, {}, ("infer",)),
    "onnxruntime": Peer("onnxruntime_peer", "onnxruntime", "onnxruntime", {}, {}, ("infer",)),
}
OURS = "mxpipe"
USUAL = ("torch", "torch_keep", "torch_compile_keep", "jax_keep", "openvino", "onnxruntime")
QUICK = ("torch_keep", "openvino", "onnxruntime")


def environment(peer: str, threads: int) -> dict[str, str]:
    """Variables of a peer's process: thread counts, caches, and when it was started."""
    ours = ("OMP_", "MKL_", "KMP_", "GOMP_", "PYTHON", "GLIBC_")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        variables[name] = str(threads)
    variables["TORCHINDUCTOR_CACHE_DIR"] = os.environ.get(
        "TORCHINDUCTOR_CACHE_DIR", str(ROOT / "build" / "bench" / "inductor")
    )
    variables["BENCH_STARTED"] = repr(time.monotonic())
    return variables | PEERS[peer].environment
