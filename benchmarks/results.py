"""Stored runs: one JSON file each under benchmarks/results/, and what became slower from one to another."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("results")
REFERENCE = FOLDER / "reference.json"
FORMAT, VERSION = "mxpipe.benchmark", 1


def processor() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def document(
    rows: list[dict[str, Any]], records: Sequence[dict[str, Any]], machine: dict[str, float], threads: int
) -> dict[str, Any]:
    """What is stored of a run; times of single calls are left out."""
    versions: dict[str, str] = {}
    for record in records:
        versions |= record.get("versions", {})
    kept = [{name: value for name, value in one.items() if name != "milliseconds"} for one in records]
    return {
        "format": FORMAT,
        "version": VERSION,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "processor": processor(),
        "threads": threads,
        "limits": machine,
        "versions": versions,
        "rows": rows,
        "records": kept,
    }


def store(content: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write a file named after machine and time."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{platform.machine()}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    write(content, path)
    return path


def write(content: dict[str, Any], path: Path) -> None:
    """As JSON, over what was there."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def keep(content: dict[str, Any], path: Path = REFERENCE) -> None:
    """Make a run the one that others are compared with; what single processes said is left out."""
    short = {name: value for name, value in content.items() if name != "records"}
    path.parent.mkdir(exist_ok=True)
    write(short, path)


def load(path: Path) -> dict[str, Any]:
    """A stored run.

    Raises:
        SystemExit: The file is none.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} must be a stored run; got {error}.") from error
    if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise SystemExit(f"{path}: fields format and version must be {FORMAT} and {VERSION}.")
    return content


def newest(folder: Path = FOLDER) -> Path:
    """The run stored last.

    Raises:
        SystemExit: There is none.
    """
    paths = sorted(folder.glob("*-*-*.json"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise SystemExit(f"{folder} holds no run: make bench stores one.")
    return paths[-1]


def compare(
    new: Sequence[dict[str, Any]], old: Sequence[dict[str, Any]], tolerance: float = 0.15
) -> tuple[list[str], list[tuple[str, str]]]:
    """Lines about what both runs measured, and the (workload, dtype) that became slower than tolerated.

    Ratios are compared, ours to the peers that both runs had: machines and their moods cancel. Only where
    they share no peer, the limit's share is.
    """
    before = {(row["workload"], row["dtype"]): row for row in old}
    lines: list[str] = []
    slower: list[tuple[str, str]] = []
    for row in new:
        known = before.pop((row["workload"], row["dtype"]), None)
        if known is None:
            continue
        change = _change(row, known)
        if change is None:
            continue
        worse = change > 1 + tolerance
        if worse:
            slower.append((row["workload"], row["dtype"]))
        if worse or change < 1 / (1 + tolerance):
            verdict = "SLOWER" if worse else "faster"
            what = f"{row['workload']:<8}{row['dtype']:<6}"
            lines.append(f"{what}{change:6.2f} times the stored ratio  {verdict}")
    missing = ", ".join(f"{name} {dtype}" for name, dtype in before)
    if missing:
        lines.append(f"not measured this time: {missing}")
    return lines, slower


def _change(row: dict[str, Any], known: dict[str, Any]) -> float | None:
    """How many times the old ratio the new one is, to the best peer that both know."""
    now, then = row["milliseconds"], known["milliseconds"]
    shared = [peer for peer in now if peer in then and peer != "mxpipe"]
    if shared:
        ours, theirs = now["mxpipe"], min(now[peer] for peer in shared)
        change: float = (ours / theirs) / (then["mxpipe"] / min(then[peer] for peer in shared))
        return change
    if row["share"] and known["share"]:
        return float(known["share"] / row["share"])
    return None
