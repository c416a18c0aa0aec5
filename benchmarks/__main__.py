"""One table of our times, the best peer's and the machine's limits, from one interleaved run, kept as JSON.

`python -m benchmarks --only T3 --dtypes bf16 --peers torch_keep` runs a part. Peers are found below
build/bench (or BENCH_VENVS), where `make bench` installs them.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import limits, notes, results, runner
from benchmarks.peers import OURS, PEERS, QUICK, ROOT, USUAL
from benchmarks.table import format_table, make_rows
from benchmarks.workloads import WORKLOADS

NEWEST, AGAIN = Path("newest"), 3
BUSY = 0.5  # load a thread, before the run, above which it is said
QUICK_JOBS = [
    *((name, "fp32") for name in ("T1s", "T1", "T1b", "T4", "T5", "I1a", "I2a", "I3a", "I3b")),
    *((name, "fp32") for name in ("M1a", "M1b", "M1c", "M1d", "M1e", "M1f", "M1g")),
    *((name, "bf16") for name in ("T2b", "T3", "I1a", "I2a", "M1h")),
    ("S1", "fp32"),
]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smaller set, one round, under five minutes")
    parser.add_argument("--compare", action="store_true", help="exit with 1 where a stored ratio is exceeded")
    parser.add_argument(
        "--table",
        type=Path,
        nargs="?",
        const=NEWEST,
        metavar="JSON",
        help="print a stored run, the newest by default, instead of measuring",
    )
    parser.add_argument("--notes", action="store_true", help="write the reference's table into NOTES.md")
    parser.add_argument("--profiles", action="store_true", help="store what the steps of our plans take")
    parser.add_argument("--only", nargs="*", choices=list(WORKLOADS), help="workloads; all by default")
    parser.add_argument("--dtypes", nargs="*", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--peers", nargs="*", choices=[peer for peer in PEERS if peer != OURS])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of timed calls in one process")
    parser.add_argument("--minutes", type=float, help="no process is started after them")
    parser.add_argument("--reference", type=Path, default=results.REFERENCE, help="of --compare and --notes")
    parser.add_argument(
        "--keep", action="store_true", help="make the run the reference (with --table: that one)"
    )
    return parser.parse_args()


def make_plan(options: argparse.Namespace) -> runner.Plan:
    """What the options ask for."""
    quick = options.quick
    jobs = QUICK_JOBS if quick else [(one.id, dtype) for one in WORKLOADS.values() for dtype in one.dtypes]
    peers = (QUICK if quick else USUAL) if options.peers is None else options.peers
    return runner.Plan(
        jobs=[job for job in jobs if job[0] in (options.only or WORKLOADS) and job[1] in options.dtypes],
        peers=[OURS, *peers],
        threads=options.threads,
        rounds=options.rounds or (1 if quick else 3),
        seconds=options.seconds or (1.0 if quick else 4.0),
        minutes=options.minutes or (4.0 if quick else 240.0),
    )


def measure(plan: runner.Plan, profiles: bool) -> dict[str, Any]:
    """Run it, saying what happens; stores and returns the document."""
    machine = limits.measure(plan.threads)
    rates = ", ".join(f"{name} {machine[name] / 1e9:.0f} GFLOP/s" for name in ("flops", "bf16", "amx"))
    print(f"{results.processor()}, {plan.threads} threads: {rates}, copy {machine['copy'] / 1e9:.1f} GB/s")
    if (load := os.getloadavg()[0]) > BUSY * plan.threads:
        print(
            f"load {load:.1f}: other processes disturb the times, those of spinning threads most",
            file=sys.stderr,
        )
    records = []
    for record in runner.run(plan):
        records.append(record)
        what = f"[{record['round']}] {record['workload']:<7} {record['dtype']} {record['peer']:<19}"
        if record["status"] == "ok":
            print(f"{what} {statistics.median(record['milliseconds']):.4g} ms", file=sys.stderr)
        else:
            print(f"{what} {record['status']}: {record['reason'].splitlines()[-1][:150]}", file=sys.stderr)
    again = limits.measure(plan.threads)  # others may have disturbed one of them
    machine = {name: max(value, again[name]) for name, value in machine.items()}
    content = results.document(make_rows(records, machine), records, machine, plan.threads)
    path = results.store(content)
    print(f"\n{format_table(content['rows'])}\nstored in {path.relative_to(ROOT)}", flush=True)
    if profiles:
        content["profiles"] = {
            f"{name} {dtype}": runner.profile(name, dtype, plan.threads)
            for name, dtype in plan.jobs
            if WORKLOADS[name].kind != "startup" and WORKLOADS[name].model != "wide_and_deep"
        }
        results.write(content, path)
    return content


def compare(content: dict[str, Any], reference: dict[str, Any], plan: runner.Plan | None) -> int:
    """Say what changed; 1 where something became slower. What did is measured again first: others disturb."""
    lines, slower = results.compare(content["rows"], reference["rows"])
    if slower and plan:
        print(f"again, to be sure: {', '.join(' '.join(job) for job in slower)}", file=sys.stderr)
        plan = dataclasses.replace(plan, jobs=slower, rounds=AGAIN, minutes=math.inf)
        rows = measure(plan, profiles=False)["rows"]
        fresh = {(row["workload"], row["dtype"]): row for row in rows}
        rows = [fresh.get((row["workload"], row["dtype"]), row) for row in content["rows"]]
        lines, slower = results.compare(rows, reference["rows"])
    print("\n".join(lines) or "as fast as the stored run")
    return 1 if slower else 0


def main() -> int:
    """See --help."""
    options = parse()
    if options.notes:
        notes.write(results.load(options.reference))
        return 0
    reference = results.load(options.reference) if options.compare else None
    plan = None if options.table else make_plan(options)
    if plan:
        content = measure(plan, options.profiles)
    else:
        content = results.load(results.newest() if options.table == NEWEST else options.table)
        print(format_table(content["rows"]))
    if options.keep:
        results.keep(content)
    return compare(content, reference, plan) if reference else 0


if __name__ == "__main__":
    sys.exit(main())
