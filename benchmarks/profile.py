"""`python -m benchmarks.profile T3 --dtype bf16`: what the steps of a workload's plans take.

Needs a workload of `benchmarks/workloads.py` and its program (see `peer.py`). Prints the plans that one run
of the workload uses: sizes, predicted peak memory, the steps by kernel, and the slowest steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

import mxpipe as mx
from benchmarks import peer
from benchmarks.workloads import WORKLOADS
from mxpipe.inspection import PlanView, summary

TOP = 6


def summarize(plan: PlanView) -> dict[str, Any]:
    """What is stored of a profile: sizes and the kinds of steps that take the most."""
    return {
        "steps": len(plan.steps),
        "flops": plan.flops,
        "bytes": plan.bytes,
        "peak_bytes": plan.peak_bytes,
        "arena_bytes": plan.arena_bytes,
        "seconds": plan.seconds,
        "kinds": [dataclasses.asdict(kind) for kind in plan.by_kind()[:TOP]],
    }


def main() -> None:
    """See --help."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5, help="the shortest time of each step is shown")
    parser.add_argument("--steps", type=int, default=25, help="how many of the slowest steps are listed")
    parser.add_argument("--draw", metavar="FILE", help="also draw the largest plan: .svg or .html")
    parser.add_argument("--json", action="store_true", help="print a summary of the largest plan as JSON")
    options = parser.parse_args()
    workload = WORKLOADS[options.workload]
    peer.setup(options.threads)
    if workload.kind == "train":
        call = peer.train(workload, options.dtype)
    elif workload.kind == "infer":
        program, inputs = peer.infer(workload, options.dtype), workload.batch_data()[0]
        call = lambda index: program(inputs)  # noqa: E731
    else:
        call = peer.micro(workload, options.dtype)
    call(0)
    call(1)
    with mx.inspection.profile() as seen:
        for index in range(options.runs):
            call(index)
    plans = sorted(seen.plans, key=lambda plan: -(plan.run_seconds or 0.0))
    if options.json:
        print(json.dumps(summarize(plans[0]) if plans else None))
        return
    for plan in plans:
        print(f"{summary(plan)}\n\n{plan.kinds()}\n\n{plan.table(by_time=True, limit=options.steps)}\n")
    if options.draw:
        plans[0].draw(options.draw, workload.description)


if __name__ == "__main__":
    main()
