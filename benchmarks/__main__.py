"""`make bench`: one table of our steps, PyTorch's and the machine's limit, its JSON stored beside it.

Engines run in processes of their own, in turn, several rounds; the median of the rounds' medians is shown.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import flights, limits
from benchmarks.workloads import WORKLOADS, Workload

ROOT = Path(__file__).resolve().parents[1]


def run_worker(python: str, peer: str, workload: Workload, threads: int, extra: list[str]) -> dict[str, Any]:
    """One process; its JSON line."""
    command = [
        python,
        str(ROOT / "benchmarks" / "worker.py"),
        peer,
        workload.id,
        "--threads",
        str(threads),
        *extra,
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if result.returncode != 0:
        raise SystemExit(f"{peer} failed on {workload.id}:\n{result.stderr}")
    return dict(json.loads(result.stdout.splitlines()[-1]))


def measure(
    workload: Workload, peers: dict[str, str], threads: int, rounds: int, extra: list[str]
) -> dict[str, Any]:
    """Median milliseconds a peer, with the runs interleaved; the largest difference of the first losses."""
    medians: dict[str, list[float]] = {peer: [] for peer in peers}
    losses: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    for _ in range(rounds):
        for peer, python in peers.items():
            record = run_worker(python, peer, workload, threads, extra)
            medians[peer].append(statistics.median(record["milliseconds"]))
            losses[peer], peaks[peer] = record["losses"], record["peak_mb"]
    row: dict[str, Any] = {
        "id": workload.id,
        "milliseconds": {peer: statistics.median(values) for peer, values in medians.items()},
        "rounds": medians,
        "peak_mb": peaks,
    }
    if workload.model == "mlp" and "torch" in losses:  # the flight step draws its own dropout
        row["loss_difference"] = max(
            abs(a - b) for a, b in zip(losses["mxpipe"], losses["torch"], strict=True)
        )
    return row


def describe(row: dict[str, Any], workload: Workload, machine: dict[str, float]) -> str:
    """One line of the table."""
    times = row["milliseconds"]
    ours, theirs = times["mxpipe"], times.get("torch")
    ratio = f"{ours / theirs:6.2f}" if theirs else "     -"
    torch = f"{theirs:9.3f}" if theirs else "        -"
    limit = "        -"
    share = "     -"
    if workload.model == "mlp":
        least = workload.flops() / machine["flops"] * 1e3
        limit, share = f"{least:9.3f}", f"{least / ours:6.2f}"
    difference = f"{row['loss_difference']:.1e}" if "loss_difference" in row else "-"
    memory = "/".join(f"{value:.0f}" for value in row["peak_mb"].values())
    figures = f"{ours:9.3f} {torch} {ratio} {limit} {share} {memory:>9} {difference:>8}"
    return f"{workload.id:8} {figures}  {workload.description}"


def main() -> None:
    """Measures and prints; see --help."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that can import torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(WORKLOADS), default=list(WORKLOADS))
    options = parser.parse_args()
    peers = {"mxpipe": sys.executable} | ({"torch": options.torch} if options.torch else {})
    machine = limits.measure(options.threads)
    print(
        f"{options.threads} threads: {machine['flops'] / 1e9:.0f} GFLOP/s fp32,"
        f" {machine['bytes'] / 1e9:.1f} GB/s\n"
    )
    print("step      ours ms  torch ms  ratio  limit ms  share   MB o/t  |dloss|  what")
    rows = []
    for name in options.only:
        workload = WORKLOADS[name]
        extra = flights.worker_arguments() if workload.model == "wide_and_deep" else []
        if extra is None:
            print(f"{name:8} (needs the snapshot that `make run` makes)")
            continue
        rows.append(measure(workload, peers, options.threads, options.rounds, extra))
        print(describe(rows[-1], workload, machine), flush=True)
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    path = results / f"{platform.machine()}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(
        json.dumps({"limits": machine, "threads": options.threads, "rows": rows}, indent=1) + "\n"
    )
    print(f"\nratio: ours / torch; share: the limit's part of our time. Stored in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
