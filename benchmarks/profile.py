"""`python -m benchmarks.profile T3 --dtype bf16`: what the steps of a workload's plans take.

Needs a workload of `benchmarks/workloads.py` and its program (see `peer.py`). Prints the plans that one run
of the workload uses: sizes, predicted peak memory, the steps by kernel, and the slowest steps.
"""

from __future__ import annotations

import argparse

import mxpipe as mx
from benchmarks import peer
from benchmarks.workloads import WORKLOADS


def main() -> None:
    """See --help."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5, help="the shortest time of each step is shown")
    parser.add_argument("--steps", type=int, default=25, help="how many of the slowest steps are listed")
    parser.add_argument("--draw", metavar="FILE", help="also draw the largest plan: .svg or .html")
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
    for plan in sorted(seen.plans, key=lambda plan: -(plan.run_seconds or 0.0)):
        print(f"{plan}\n".split("\n   step")[0])
        print(f"\n{plan.kinds()}\n\n{plan.table(by_time=True, limit=options.steps)}\n")
    if options.draw:
        max(seen.plans, key=lambda plan: plan.run_seconds or 0.0).draw(options.draw, workload.description)


if __name__ == "__main__":
    main()
