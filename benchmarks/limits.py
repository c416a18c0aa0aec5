"""The machine's limits, measured by a small native program: `python -m benchmarks.limits [THREADS]`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def measure(threads: int) -> dict[str, float]:
    """What so many threads reach.

    Returns:
        flops (fp32 fused multiply-adds) and bf16 and amx (dot products; 0 where the processor has none), all
        FLOP/s; copy and bytes (a triad), in bytes/s.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "limits"
        source = Path(__file__).with_name("limits.cpp")
        flags = ["-std=c++20", "-O3", "-march=native", "-ffp-contract=fast", "-fopenmp"]
        subprocess.run(["g++", *flags, str(source), "-o", str(program)], check=True)
        return dict(
            json.loads(subprocess.run([str(program), str(threads)], check=True, capture_output=True).stdout)
        )


def least_milliseconds(flops: float, size: float, dtype: str, machine: dict[str, float]) -> float | None:
    """What so many operations and bytes take at least; None where neither is counted.

    bf16 is held against the tiles where there are some, else against dot products, else against fp32.
    """
    if not flops and not size:
        return None
    rate = machine["flops"]
    if dtype == "bf16":
        rate = machine.get("amx") or machine.get("bf16") or rate
    return max(flops / rate, size / machine.get("copy", machine["bytes"])) * 1e3


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2)))
