"""Times one engine on one workload in a process of its own; prints one JSON line behind a marker."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import resource
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS

MARK = "@@ "
LOSSES, LEAST_SAMPLES = 4, 3


def main() -> None:
    """Runs warm-up calls, records losses or outputs, then times calls one by one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=list(PEERS))
    parser.add_argument("workload")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="of the timed calls")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--arguments", type=json.loads, default={})
    options = parser.parse_args()
    try:
        record = measure(options) | {"status": "ok"}
    except Exception as error:
        if type(error).__name__ == "Unsupported":
            record = {"status": "unsupported", "reason": str(error)}
        else:
            raise
    print(MARK + json.dumps(record), flush=True)
    os._exit(0)  # no engine's teardown is timed or may hang


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The record of one process."""
    entry = PEERS[options.peer]
    start = time.perf_counter()
    importlib.import_module(entry.package)
    record: dict[str, Any] = {"import_seconds": time.perf_counter() - start}
    from benchmarks.workloads import WORKLOADS, flight_data

    workload = WORKLOADS[options.workload]
    if options.dtype not in workload.dtypes:
        raise SystemExit(f"{workload.id} is not defined in {options.dtype}")
    peer = importlib.import_module(f"benchmarks.{entry.module}")
    peer.setup(options.threads, **entry.options)
    record["versions"] = peer.versions()
    start = time.perf_counter()
    if workload.model == "wide_and_deep":
        flights = importlib.import_module(
            "benchmarks.peer_flights" if entry.module == "peer" else peer.__name__
        )
        call = flights.train_flights(flight_data(options.data), workload.batch, options.arguments)
    elif workload.kind == "infer":
        program, inputs = peer.infer(workload, options.dtype), workload.batch_data()[0]
        call = lambda index: program(inputs)  # noqa: E731
    else:
        call = (peer.micro if workload.kind == "micro" else peer.train)(workload, options.dtype)
    return record | timed(workload, call, peer, options.seconds, start, entry.package)


def timed(
    workload: Any, call: Callable[[int], Any], peer: Any, seconds: float, start: float, package: str
) -> dict[str, Any]:
    """First results, then times. A startup ends with its first step."""
    record: dict[str, Any] = {}
    first = call(0)
    peer.sync(first)
    record["ready_seconds"] = time.perf_counter() - start
    if workload.kind == "startup":
        since = float(os.environ.get("BENCH_STARTED", "nan"))
        record["milliseconds"] = [(time.monotonic() - since) * 1e3]
        record["check"] = [number(first, peer)]
        record["installed_mb"] = installed_megabytes(package)
        return record | memory()
    if workload.kind == "train":
        count = min(LOSSES, workload.warmup) if workload.model != "wide_and_deep" else 0
        record["check"] = [number(first, peer), *(number(call(i), peer) for i in range(1, count))][:count]
        done = max(count, 1)
    else:
        outputs = first if isinstance(first, (tuple, list)) else (first,)
        record["check"] = fingerprint(
            peer.to_numpy(one) if workload.kind == "micro" else one for one in outputs
        )
        done = 1
    del first
    for index in range(done, max(workload.warmup, done + 1)):
        peer.sync(call(index))
    reset_peak()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < max(workload.steps, LEAST_SAMPLES):
        if len(times) >= LEAST_SAMPLES and time.perf_counter() > end:
            break
        begin = time.perf_counter()
        for index in range(workload.inner):
            out = call(len(times) + index)
        peer.sync(out)
        times.append((time.perf_counter() - begin) * 1e3 / workload.inner)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    record |= {"milliseconds": times, "faults": faults / len(times), "step_peak_mb": status("VmHWM")}
    return record | memory()


def number(value: Any, peer: Any) -> float:
    """A loss."""
    return float(peer.to_numpy(value).ravel()[0])


def fingerprint(arrays: Iterable[Any]) -> list[float]:
    """Seven numbers an array: its root mean square and six of its elements."""
    import numpy as np

    numbers = []
    for array in arrays:
        flat = np.asarray(array, dtype=np.float32).ravel()
        numbers.append(float(np.sqrt(np.mean(np.square(flat, dtype=np.float64)))))
        numbers += [float(flat[int(part * (len(flat) - 1))]) for part in (0, 0.17, 0.39, 0.61, 0.83, 1)]
    return numbers


def memory() -> dict[str, float]:
    """Of the whole process."""
    return {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def status(name: str) -> float:
    """A field of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def reset_peak() -> None:
    """So that VmHWM tells the peak of the timed steps; some kernels do not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def installed_megabytes(package: str) -> float:
    """On disk: a distribution with all that it needs, by their lists of files."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        from pip._vendor.packaging.requirements import Requirement  # type: ignore[assignment]
    seen: set[str] = set()
    waiting, total = [package], 0
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        paths = [str(file.locate()) for file in distribution.files or ()]
        total += sum(os.path.getsize(path) for path in paths if os.path.exists(path))
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return total / 2**20


if __name__ == "__main__":
    main()
