"""One HTML page over one window: what has moved and by how much. No scripts, nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mxpipe.errors import MissingExtraError
from mxpipe.model.storage import write_aside

MOST_PLOTS = 12

_STYLE = """
:root { color-scheme: light dark; --page: #f5f6f8; --card: #fff; --ink: #1f2430; --soft: #5d6675;
  --line: #e2e5ea; --viz-ink: #1f2430; --viz-soft: #6b7280; --viz-line: #e2e5ea; --viz-first: #2457d6;
  --viz-second: #d9730d; --viz-alarm: #c2343c; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1a1e26; --ink: #e7eaf0;
  --soft: #9aa4b4; --line: #2c323d; --viz-ink: #e7eaf0; --viz-soft: #9aa4b4; --viz-line: #343b47;
  --viz-first: #7fa5ff; --viz-second: #f2a356; --viz-alarm: #ff8a8f; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 36px 24px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 22px;
  margin: 14px 0; overflow-x: auto; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 0 0 8px; } h3 { font-size: 14px; }
p { color: var(--soft); margin: 0 0 10px; max-width: 74ch; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 9px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; } th:first-child, td:first-child { text-align: left; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 16px; }
figure { margin: 0; } svg { width: 100%; height: auto; } .drift { color: var(--viz-alarm); font-weight: 650; }
"""


def write_report(found: Mapping[str, Any], page: Path) -> None:
    """Write a window's page as a whole, or leave the one that is there.

    Args:
        found: What :func:`mxpipe.monitor.check.check_window` stores as JSON.
        page: The HTML file. Where matplotlib is not installed it has tables only.

    Raises:
        StorageError: The disk is full or read-only.
    """
    window = found["window"]
    title = f"{found['monitor']}: {window['id']}"
    parts = [_head(title, found), _columns(found), _plots(found), _performance(found)]
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )
    with write_aside(page) as file:
        file.write(text.encode())


def _head(title: str, found: Mapping[str, Any]) -> str:
    window, served = found["window"], found["model"] or "the model"
    version = f" version {found['version']}" if found["version"] else ""
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in found["reasons"])
    verdict = str(found["verdict"]).replace("_", " ")
    mark = ' class="drift"' if found["verdict"] == "drift" else ""
    return (
        f"<h1>{escape(title)}</h1><p>{escape(served)}{escape(version)} from {escape(window['start'])} to "
        f"{escape(window['end'])}, {found['rows']:,} rows ({found['failed']:,} failed, {found['dropped']:,} "
        f"not counted), against its training.</p>"
        f"<section><h2{mark}>{escape(verdict)}</h2><ul>{reasons}</ul></section>"
    )


def _columns(found: Mapping[str, Any]) -> str:
    rows = [
        [
            _marked(column["name"], column["drifted"]),
            column["role"],
            f"{column['psi']:.3f}",
            f"{column['limit']:g}",
            column["test"].replace("_", "-"),
            f"{column['statistic']:.4g}",
            f"{column['p_value']:.2g}",
            _missing(column["bins"]["expected"]),
            _missing(column["bins"]["observed"]),
        ]
        for column in found["columns"]
    ]
    header = ["Column", "Role", "PSI", "Limit", "Test", "Statistic", "p", "Missing before", "Missing now"]
    intro = (
        "The population stability index compares shares of rows by bin: below 0.1 is stable, above 0.25 has "
        "shifted. The tests say whether chance alone explains it."
    )
    return f"<section><h2>Columns</h2><p>{intro}</p>{_table(header, rows)}</section>"


def _plots(found: Mapping[str, Any]) -> str:
    from mxpipe import viz

    if not found["columns"]:
        return ""
    values = {column["name"]: column["psi"] for column in found["columns"]}
    shown = sorted(found["columns"], key=lambda column: (column["role"] == "input", -column["psi"]))
    try:
        drawn = [viz.to_svg(viz.drift(values, found["policy"]["psi"]), "Drift of all columns")]
        for column in shown[:MOST_PLOTS]:
            bins = column["bins"]
            series = {"training": bins["expected"], "now": bins["observed"]}
            plot = viz.to_svg(viz.distributions(bins["labels"], series), f"Rows of {column['name']} by bin")
            drawn.append(f"<figure><h3>{_marked(column['name'], column['drifted'])}</h3>{plot}</figure>")
    except MissingExtraError as error:
        return f"<section><h2>Plots</h2><p>{escape(str(error))}</p></section>"
    return f'<section><h2>Plots</h2>{drawn[0]}<div class="plots">{"".join(drawn[1:])}</div></section>'


def _performance(found: Mapping[str, Any]) -> str:
    metrics = found["performance"]
    if metrics is None:
        return ""
    bounds = found["policy"]["performance"]
    rows = [
        [
            escape(name),
            "-" if value is None else f"{value:.5g}",
            f"{bounds[name]:g}" if name in bounds else "",
        ]
        for name, value in metrics.items()
    ]
    intro = "Over the rows whose label is known by now."
    return (
        f"<section><h2>Performance</h2><p>{intro}</p>{_table(['Metric', 'Value', 'Bound'], rows)}</section>"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{text}</th>" for text in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _marked(name: str, drifted: bool) -> str:
    return f'<span class="drift">{escape(name)}</span>' if drifted else escape(name)


def _missing(counts: Sequence[float]) -> str:
    return f"{counts[0] / (sum(counts) or 1.0):.1%}"
