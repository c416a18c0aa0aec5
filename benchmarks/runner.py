"""Runs the processes of a benchmark: every peer in its own, in turn, several rounds within a time."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import flights
from benchmarks.peers import OURS, PEERS, ROOT, environment
from benchmarks.worker import MARK
from benchmarks.workloads import WORKLOADS

FAR = 1.3  # a peer that took so many times the best one's time is not run again: it will not be the best
TIMEOUT = 900.0


@dataclasses.dataclass
class Plan:
    """What is run.

    Attributes:
        jobs: (workload, dtype) in order.
        peers: Names, ours among them.
        threads: Of every process.
        rounds: How often all is run.
        seconds: Timed calls of one process.
        minutes: No process is started after them.
    """

    jobs: Sequence[tuple[str, str]]
    peers: Sequence[str]
    threads: int
    rounds: int
    seconds: float
    minutes: float


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Records as they are made; the first round of all workloads comes before the second of any."""
    end = time.monotonic() + 60 * plan.minutes
    times: dict[tuple[str, str], dict[str, float]] = {job: {} for job in plan.jobs}
    for turn in range(plan.rounds):
        for job in plan.jobs:
            for peer in _order(plan.peers, turn, times[job], job):
                if time.monotonic() > end:
                    print(f"after {plan.minutes:g} minutes: the rest is left out", file=sys.stderr)
                    return
                record = run_one(peer, *job, plan.threads, plan.seconds)
                ok = record["status"] == "ok"
                times[job][peer] = statistics.median(record["milliseconds"]) if ok else math.inf
                yield record | {"round": turn}


def _order(peers: Sequence[str], turn: int, times: dict[str, float], job: tuple[str, str]) -> Sequence[str]:
    """Who can run the job, each time another one first; after the first round only who may be the best."""
    kind = WORKLOADS[job[0]].kind
    able = [peer for peer in peers if kind in PEERS[peer].kinds]
    if turn:
        best = min((value for peer, value in times.items() if peer != OURS), default=math.inf)
        able = [
            peer
            for peer in able
            if math.isfinite(times[peer]) and (peer == OURS or times[peer] <= FAR * best)
        ]
    shift = turn % max(len(able), 1)
    return [*able[shift:], *able[:shift]]


def run_one(peer: str, workload: str, dtype: str, threads: int, seconds: float) -> dict[str, Any]:
    """One process; its record, or why there is none."""
    python = PEERS[peer].python
    record: dict[str, Any] = {"peer": peer, "workload": workload, "dtype": dtype, "load": os.getloadavg()[0]}
    extra = _flight_arguments() if WORKLOADS[workload].model == "wide_and_deep" else []
    if not python.exists() or extra is None:
        reason = f"no {python}" if extra is not None else "needs the snapshot that `make run` makes"
        return record | {"status": "unsupported", "reason": reason}
    command = [str(python), "-m", "benchmarks.worker", peer, workload, "--dtype", dtype]
    command += ["--threads", str(threads), "--seconds", str(seconds), *extra]
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    pin = functools.partial(os.sched_setaffinity, 0, cores)
    try:
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(peer, threads),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            preexec_fn=pin,
        )
    except subprocess.TimeoutExpired:
        return record | {"status": "error", "reason": f"more than {TIMEOUT:g} s"}
    line = next((one for one in reversed(result.stdout.splitlines()) if one.startswith(MARK)), None)
    if line is None:
        return record | {
            "status": "error",
            "reason": result.stderr.strip()[-400:] or f"exit {result.returncode}",
        }
    return record | json.loads(line.removeprefix(MARK))


def profile(workload: str, dtype: str, threads: int) -> dict[str, Any] | None:
    """What the steps of our plan take; None where there is no plan, or no program."""
    command = [sys.executable, "-m", "benchmarks.profile", workload, "--dtype", dtype, "--json"]
    command += ["--threads", str(threads)]
    variables = environment(OURS, threads)
    result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=TIMEOUT)
    if result.returncode != 0:
        return None
    found: dict[str, Any] | None = json.loads(result.stdout.splitlines()[-1])
    return found


@functools.cache
def _flight_arguments() -> list[str] | None:
    return flights.worker_arguments()
