"""Times one engine on one workload in a process of its own; prints one JSON line."""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.workloads import WORKLOADS, flight_data


def main() -> None:
    """Runs warm-up steps, records their losses, then times the steps one by one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["mxpipe", "torch"])
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--arguments", type=json.loads, default={})
    options = parser.parse_args()
    peer = importlib.import_module("benchmarks.peer" if options.peer == "mxpipe" else "benchmarks.torch_peer")
    peer.setup(options.threads)
    workload = WORKLOADS[options.workload]
    if workload.model == "mlp":
        step = peer.train(workload, "fp32")
    else:
        flights = importlib.import_module(
            "benchmarks.peer_flights" if options.peer == "mxpipe" else peer.__name__
        )
        step = flights.train_flights(flight_data(options.data), workload.batch, options.arguments)
    losses = [float(step(index)) for index in range(workload.warmup)]
    times = []
    for index in range(workload.steps):
        start = time.perf_counter()
        step(workload.warmup + index)
        times.append((time.perf_counter() - start) * 1e3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"milliseconds": times, "losses": losses, "peak_mb": peak}))


if __name__ == "__main__":
    main()
