"""The table of NOTES.md, written from the reference run: `python -m benchmarks --notes`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import OURS
from benchmarks.table import MEMORY_TARGETS
from benchmarks.workloads import WORKLOADS

NOTES = Path(__file__).with_name("NOTES.md")
LEAST_SHARE = 0.02  # of a plan's time, to be listed
BEGIN, END = "<!-- measured: written by `python -m benchmarks --notes` -->\n", "<!-- end of measured -->\n"


def table(content: Mapping[str, Any]) -> str:
    """Markdown: what was measured where, a line a workload and dtype."""
    machine = content["limits"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(content["versions"].items()))
    lines = [
        f"{content['processor']}, {content['threads']} threads, {content['time'][:10]}: fp32"
        f" {machine['flops'] / 1e9:.0f} GFLOP/s, bf16 dot products {machine['bf16'] / 1e9:.0f} GFLOP/s, AMX"
        f" {machine['amx'] / 1e9:.0f} GFLOP/s, copy {machine['copy'] / 1e9:.1f} GB/s. {versions}.",
        "",
        "| work | dtype | GFLOP | MB | ours ms | best ms | which | ratio | target | limit ms | of limit"
        " | memory | diff |",
        "|---|---|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|",
        *[_line(row) for row in content["rows"]],
    ]
    profiles = [
        line
        for name, profile in (content.get("profiles") or {}).items()
        if profile
        for line in _profile(name, profile)
    ]
    if profiles:
        lines += [
            "",
            "Our plans, step by step (shortest of five runs), the kernels that take the most:",
            *profiles,
        ]
    return "\n".join(lines) + "\n"


def _profile(name: str, profile: Mapping[str, Any]) -> list[str]:
    seconds = profile["seconds"] or math.inf
    head = (
        f"**{name}**: {profile['steps']} steps, {profile['flops'] / 1e9:.3g} GFLOP,"
        f" {profile['bytes'] / 1e6:.4g} MB of operands, predicted peak {profile['peak_bytes'] / 1e6:.4g} MB,"
        f" {seconds * 1e3:.4g} ms"
    )
    kinds = [
        f"| {kind['op']}: {kind['kernel']} | {kind['steps']} | {kind['seconds'] * 1e3:.3g} |"
        f" {kind['seconds'] / seconds:.0%} | {kind['flops'] / max(kind['seconds'], 1e-9) / 1e9:.0f} |"
        f" {kind['bytes'] / max(kind['seconds'], 1e-9) / 1e9:.1f} |"
        for kind in profile["kinds"]
        if kind["seconds"] >= LEAST_SHARE * seconds
    ]
    columns = ["| kernel | steps | ms | share | GFLOP/s | GB/s |", "|---|--:|--:|--:|--:|--:|"]
    return ["", head, "", *columns, *kinds]


def _line(row: Mapping[str, Any]) -> str:
    workload, times, best = WORKLOADS[row["workload"]], row["milliseconds"], row["best"]
    ratio = row["ratio"]
    met = ratio is None or row["target"] is None or ratio <= row["target"]
    cells = [
        row["workload"],
        row["dtype"],
        _number(workload.flops() / 1e9),
        _number(workload.bytes() / 1e6),
        _number(times[OURS]),
        _number(times[best] if best else None),
        best or "-",
        _number(ratio) if met else f"**{_number(ratio)}**",
        _number(row["target"]),
        _number(row["limit"]),
        f"{row['share']:.0%}" if row["share"] else "-",
        _memory(row),
        f"{row['difference']:.0e}" if row.get("difference") is not None else "-",
    ]
    return f"| {' | '.join(cells)} |"


def _memory(row: Mapping[str, Any]) -> str:
    """Ours over the best peer's, bold above the target."""
    if not row["best"]:
        return "-"
    part = row["memory"][OURS] / row["memory"][row["best"]]
    above = part > MEMORY_TARGETS.get(row["workload"], math.inf)
    return f"**{part:.2f}**" if above else f"{part:.2f}"


def _number(value: float | None) -> str:
    """Three figures; a dash for nothing counted."""
    return f"{value:.3g}" if value else "-"


def replace(text: str, fresh: str) -> str:
    """The notes with a new table between the marks.

    Raises:
        ValueError: The marks are not there.
    """
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{NOTES.name} must hold the lines {BEGIN.strip()} and {END.strip()}.")
    return f"{before}{BEGIN}{fresh}{END}{after}"


def write(content: Mapping[str, Any], path: Path = NOTES) -> Sequence[str]:
    """Put the table of a stored run into the notes; returns its lines."""
    fresh = table(content)
    path.write_text(replace(path.read_text(), fresh))
    return fresh.splitlines()
