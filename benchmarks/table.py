"""From records of processes to rows, and from rows to text.

Enters: records, one a process: peer, workload, dtype, status, milliseconds, check, memory. Leaves: rows, one
a workload and dtype, which are plain JSON: our time and the peers', the machine's limit, ratios, memory, and
how far the numbers are apart.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.limits import least_milliseconds
from benchmarks.peers import OURS
from benchmarks.workloads import WORKLOADS, Workload

Record = Mapping[str, Any]
Row = dict[str, Any]

# At most this part of the best peer's time, by workload and dtype.
TARGETS: dict[str, tuple[float, ...]] = {  # fp32, bf16
    "T1s": (0.4,),
    "T1": (0.6,),
    "T1b": (0.8,),
    "T2": (0.7, 0.4),
    "T2b": (0.7, 0.4),
    "T3": (0.8, 0.45),
    "T4": (0.5,),
    "T5": (0.6,),
    **dict.fromkeys(("I1a", "I1b", "I2a", "I2b", "M1g", "M1h"), (1.0, 1.0)),
    "I3a": (0.6,),
    "I3b": (0.8,),
    **dict.fromkeys(("M1a", "M1b", "M1c", "M1e", "M1f"), (0.8,)),
    "M1d": (0.4,),
    "S1": (0.15,),
}
MEMORY_TARGETS = {"T2": 0.6, "T3": 0.6}  # of the best peer's peak
INSTALLED_TARGET = 0.2  # of the size of PyTorch's
HEADER = (
    "work   dtype   ours ms   best ms  peer               ratio target  limit ms share"
    "   MB ours/best  ratio     diff"
)


def target(workload: str, dtype: str) -> float | None:
    """What the ratio is to be at most; None where nothing was set."""
    values = TARGETS.get(workload, ())
    index = ("fp32", "bf16").index(dtype)
    return values[index] if index < len(values) else None


def median_of(records: Sequence[Record]) -> float:
    """Median over the rounds of the medians of the rounds."""
    return statistics.median(statistics.median(record["milliseconds"]) for record in records)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The largest difference, relative to the largest magnitude of the array that the numbers are from.

    Outputs come as seven numbers an array, losses as one group.
    """
    if not ours or len(ours) != len(theirs):
        return None
    size = 7 if len(ours) % 7 == 0 else len(ours)
    worst = 0.0
    for start in range(0, len(ours), size):
        pairs = list(zip(ours[start : start + size], theirs[start : start + size], strict=True))
        scale = max(max(abs(b) for _, b in pairs), 1e-30)
        gap = max((abs(a - b) for a, b in pairs), default=0.0)
        worst = math.inf if math.isnan(gap) else max(worst, gap / scale)
    return worst


def make_rows(records: Iterable[Record], machine: Mapping[str, float]) -> list[Row]:
    """One row for each workload and dtype that we ran."""
    groups: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for record in records:
        if record["status"] == "ok":
            peers = groups.setdefault((record["workload"], record["dtype"]), {})
            peers.setdefault(record["peer"], []).append(record)
    order = {name: position for position, name in enumerate(WORKLOADS)}
    keys = sorted(groups, key=lambda key: (order.get(key[0], len(order)), key[1] != "fp32"))
    return [_row(*key, groups[key], machine) for key in keys if OURS in groups[key]]


def _row(name: str, dtype: str, peers: dict[str, list[Record]], machine: Mapping[str, float]) -> Row:
    workload = WORKLOADS[name]
    times = {peer: median_of(records) for peer, records in peers.items()}
    others = {peer: value for peer, value in times.items() if peer != OURS}
    best = min(others, key=lambda peer: others[peer]) if others else None
    floor = None
    if workload.kind != "startup":
        floor = least_milliseconds(workload.flops(), workload.bytes(), dtype, dict(machine))
    row: Row = {
        "workload": name,
        "dtype": dtype,
        "milliseconds": times,
        "best": best,
        "ratio": times[OURS] / times[best] if best else None,
        "target": target(name, dtype),
        "limit": floor,
        "share": floor / times[OURS] if floor else None,
        "memory": {peer: _memory(records) for peer, records in peers.items()},
        "rounds": len(peers[OURS]),
    }
    row["installed"] = {peer: r[0]["installed_mb"] for peer, r in peers.items() if "installed_mb" in r[0]}
    if best:
        row["difference"] = difference(peers[OURS][0]["check"], peers[best][0]["check"])
        row["mismatch"] = _mismatch(workload, dtype, row["difference"])
    return row


def _memory(records: Sequence[Record]) -> float:
    """Peak of the timed steps where it could be measured, else of the process."""
    return statistics.median(record.get("step_peak_mb", record["peak_mb"]) for record in records)


def _mismatch(workload: Workload, dtype: str, gap: float | None) -> bool:
    return dtype == "fp32" and workload.model != "wide_and_deep" and gap is not None and gap > workload.rtol


def format_row(row: Row) -> str:
    """One line of the table."""

    def number(value: float | None, width: int, places: int) -> str:
        if value is None:
            return "-".rjust(width)
        return f"{value:{width}.{places}f}" if value >= 0.01 else f"{value:{width}.{places + 2}f}"

    times, best = row["milliseconds"], row["best"]
    ours = times[OURS]
    memory = row["memory"]
    theirs = memory.get(best) if best else None
    share, limit = memory[OURS] / theirs if theirs else None, MEMORY_TARGETS.get(row["workload"], math.inf)
    parts = [
        f"{row['workload']:<7}{row['dtype']:<5}",
        number(ours, 10, 3),
        number(times.get(best) if best else None, 9, 3),
        f" {best or '-':<18}",
        number(row["ratio"], 5, 2),
        ("!" if row["ratio"] and row["target"] and row["ratio"] > row["target"] else " "),
        number(row["target"], 5, 2),
        number(row["limit"], 9, 3),
        number(row["share"], 5, 2),
        f"{memory[OURS]:8.0f}/{theirs or 0:<6.0f}",
        number(share, 5, 2) + ("!" if share and share > limit else " "),
        f"{row['difference']:9.1e}" if row.get("difference") is not None else "        -",
        " MISMATCH" if row.get("mismatch") else "",
    ]
    return " ".join(parts).rstrip()


def format_table(rows: Iterable[Row]) -> str:
    """The whole table with its legend."""
    rows = list(rows)
    lines = [HEADER, *map(format_row, rows), "", LEGEND]
    for row in rows:
        sizes = row.get("installed") or {}
        if sizes:
            said = ", ".join(f"{peer} {size:.0f} MB" for peer, size in sizes.items())
            lines.append(f"installed: {said} (target {INSTALLED_TARGET:g} of torch)")
    return "\n".join(lines)


LEGEND = (
    "ratio: ours / the best peer, ! where above the target. limit: what the counted operations (bytes where\n"
    "there is no matrix work) take at the machine's measured rate; share: limit / ours. MB: peak of the\n"
    "timed steps. diff: of the first losses or outputs."
)
