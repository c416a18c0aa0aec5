"""`python -m benchmarks.kernels`: single kernels against what the machine can do.

Elementwise programs are held against a plain copy (bytes each operand once), matrix products against fused
multiply-adds, both measured in the same run. The best of many runs is shown: others disturb, nobody helps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks import limits
from mxpipe import _native as native

LARGE = 1 << 24
MATRICES = [  # rows, inner, columns
    (256, 64, 256),
    (256, 256, 256),
    (8192, 256, 256),
    (8192, 256, 1),
    (1, 256, 256),
    (1024, 1024, 1024),
]


def best_seconds(function: Callable[[], object], seconds: float = 0.5) -> float:
    """The shortest of as many calls as fit the time."""
    function()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def array(*shape: int) -> native.Array:
    """Normal float32 numbers."""
    return native.array(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def elementwise() -> None:
    """Bytes a second of a copy, and of programs over large arrays, as a share of it."""
    source, target = np.ones(LARGE, np.float32), np.ones(LARGE, np.float32)
    a, b = array(LARGE), array(LARGE)
    add = native.trace(lambda x, y: x + y, [a, b])
    chain = native.trace(lambda x, y: (x * 2 + y) * x - 1, [a, b])
    operations: dict[str, tuple[int, Callable[[], object]]] = {
        "copy (NumPy, one thread)": (2, lambda: np.copyto(target, source)),
        "a + b": (3, lambda: add(a, b)),
        "(2 a + b) a - 1": (3, lambda: chain(a, b)),
        "exp": (2, lambda: native.invoke("exp", [a])),
        "sum": (1, lambda: native.invoke("sum", [a], {"axis": [0]})),
    }
    for name, (operands, function) in operations.items():
        rate = 4 * operands * LARGE / best_seconds(function)
        print(f"{name:28} {rate / 1e9:8.1f} GB/s")


def matrices(peak: float) -> None:
    """FLOP/s of the three products of a dense layer: forward with bias, to the input, to the weight."""
    for rows, inner, columns in MATRICES:
        x, weight, bias = array(rows, inner), array(columns, inner), array(columns)
        g = array(rows, columns)
        products: dict[str, tuple[str, list[native.Array], dict[str, bool]]] = {
            "forward": ("fully_connected", [x, weight, bias], {}),
            "input": ("matmul", [g, weight], {}),
            "weight": ("matmul", [g, x], {"transpose_a": True}),
        }
        for name, (op, inputs, attributes) in products.items():
            seconds = best_seconds(partial(native.invoke, op, inputs, attributes))
            rate = 2 * rows * inner * columns / seconds
            shape = f"{rows} x {inner} x {columns}"
            print(f"{shape:20} {name:8} {rate / 1e9:8.1f} GFLOP/s  {rate / peak:6.2f} of peak")


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    native.set_num_threads(threads)
    machine = limits.measure(threads)
    print(
        f"{threads} threads: {machine['flops'] / 1e9:.0f} GFLOP/s, triad {machine['bytes'] / 1e9:.1f} GB/s\n"
    )
    elementwise()
    print()
    matrices(machine["flops"])


if __name__ == "__main__":
    main()
