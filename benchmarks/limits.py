"""The machine's limits, measured by a small native program: fp32 FLOP/s and streaming bytes/s."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path


def measure(threads: int) -> dict[str, float]:
    """FLOP/s of fused multiply-adds and bytes/s of a triad on so many threads."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "limits"
        source = Path(__file__).with_name("limits.cpp")
        flags = ["-std=c++20", "-O3", "-march=native", "-ffp-contract=fast", "-fopenmp"]
        subprocess.run(["g++", *flags, str(source), "-o", str(program)], check=True)
        return dict(
            json.loads(subprocess.run([str(program), str(threads)], check=True, capture_output=True).stdout)
        )
