"""Plots of trainings and evaluations: loss curves, calibration, metrics with intervals, drift.

Enters: plain numbers, as events, evaluations and validation reports hold them. Leaves: matplotlib figures,
and, by :func:`to_svg`, SVG text to stand in a page. Called by reports and notebooks. Matplotlib (extra
``demo``) is imported inside the functions and draws without a display.

The colours of an SVG are CSS variables with fallbacks (``var(--viz-ink, #1f2430)``): a page that defines them
recolours its plots, say for dark mode, and the file looks the same where nothing does.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mxpipe.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mxpipe.train.evaluation import CalibrationTable, Interval

# CSS variable -> colour. The series stay apart for colour-blind readers, and by their markers in print.
COLOURS = {
    "ink": "#1f2430",
    "soft": "#6b7280",
    "line": "#d6dae1",
    "first": "#2457d6",
    "second": "#d9730d",
    "third": "#0f8a6c",
    "fourth": "#8b5fbf",
    "alarm": "#c2343c",
}
SERIES = ("first", "second", "third", "fourth")
_MARKERS = ("o", "D", "s", "^")
_LINES = ("-", "--", "-.", ":")


def loss_curves(
    runs: Mapping[str, Iterable[tuple[float, float]]], label: str = "training loss", smooth: int = 1
) -> Figure:
    """Loss over steps, a line for each run.

    Args:
        runs: (step, loss) pairs by the run's name.
        label: Of the vertical axis.
        smooth: Points of a moving average; the raw values stay visible behind it.
    """
    figure, axes = _figure(6.4, 3.2)
    for index, (name, points) in enumerate(runs.items()):
        steps, losses = _columns(points)
        colour, line = _series(index), _LINES[index % len(_LINES)]
        if smooth > 1:
            axes.plot(steps, losses, color=colour, alpha=0.25, linewidth=1)
            losses = _moving_average(losses, smooth)
        axes.plot(steps, losses, color=colour, linestyle=line, label=name)
    _finish(axes, "step", label)
    axes.grid(axis="y", color=COLOURS["line"])
    _legend(figure, axes)
    return figure


def calibration(tables: Mapping[str, CalibrationTable | Mapping[str, Any]]) -> Figure:
    """Predicted against observed rate, with the 95% interval of each bin; the diagonal is perfect.

    Args:
        tables: Calibration tables, or their JSON, by the model's name.
    """
    figure, axes = _figure(3.9, 3.9)
    greatest = 0.05
    for index, (name, table) in enumerate(tables.items()):
        bins = table["bins"] if isinstance(table, Mapping) else table.to_json()["bins"]
        x, rate, low, high = ([item[key] for item in bins] for key in ("probability", "rate", "low", "high"))
        below = [middle - bottom for middle, bottom in zip(rate, low, strict=True)]
        above = [top - middle for middle, top in zip(rate, high, strict=True)]
        axes.errorbar(
            x,
            rate,
            yerr=[below, above],
            color=_series(index),
            marker=_MARKERS[index % len(_MARKERS)],
            linestyle=_LINES[index % len(_LINES)],
            elinewidth=1,
            label=name,
        )
        greatest = max([greatest, *x, *high])
    end = min(1.0, greatest * 1.05)
    axes.plot([0, end], [0, end], color=COLOURS["soft"], linewidth=1, linestyle=(0, (2, 3)), zorder=0)
    axes.set(xlim=(0, end), ylim=(0, end), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_percent)
    _finish(axes, "predicted", "observed")
    _legend(figure, axes, inside=True)
    return figure


def intervals(series: Mapping[str, Mapping[str, Interval]], label: str = "AUC") -> Figure:
    """A metric with its interval for each group (say, month), the models of a group side by side.

    Args:
        series: Intervals by group, by the model's name. A model need not be in every group.
        label: Of the vertical axis.
    """
    groups = list(dict.fromkeys(group for values in series.values() for group in values))
    figure, axes = _figure(6.4, 3.4)
    step = 0.6 / max(len(series), 1)
    for index, (name, values) in enumerate(series.items()):
        shift = (index - (len(series) - 1) / 2) * step
        known = [(groups.index(group) + shift, value) for group, value in values.items()]
        axes.errorbar(
            [x for x, _ in known],
            [value.value for _, value in known],
            yerr=[
                [value.value - value.low for _, value in known],
                [value.high - value.value for _, value in known],
            ],
            color=_series(index),
            marker=_MARKERS[index % len(_MARKERS)],
            linestyle="none",
            elinewidth=1.5,
            label=name,
        )
    for edge in range(1, len(groups)):
        axes.axvline(edge - 0.5, color=COLOURS["line"], linewidth=1, zorder=0)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    _finish(axes, "", label)
    axes.grid(axis="y", color=COLOURS["line"])
    _legend(figure, axes)
    return figure


def drift(values: Mapping[str, float], threshold: float = 0.25, most: int = 12, width: float = 6.4) -> Figure:
    """Population stability index of columns as bars, the greatest first; a line marks the threshold.

    Args:
        values: Index by column.
        threshold: Columns above it count as shifted.
        most: So many columns are shown.
        width: Of the figure, in inches.
    """
    shown = sorted(values.items(), key=lambda item: -item[1])[:most][::-1]
    figure, axes = _figure(width, 0.9 + 0.24 * max(len(shown), 1))
    colours = [COLOURS["alarm" if value > threshold else "first"] for _, value in shown]
    axes.barh([name for name, _ in shown], [value for _, value in shown], color=colours, height=0.62)
    axes.axvline(threshold, color=COLOURS["soft"], linewidth=1, linestyle=(0, (4, 3)))
    end = max([threshold, *(value for _, value in shown)]) * 1.12
    axes.set_xlim(0, end)
    for position, (_, value) in enumerate(shown):
        axes.text(value + 0.008 * end, position, f"{value:.2f}", va="center", color=COLOURS["soft"], size=8)
    _finish(axes, "population stability index", "")
    axes.tick_params(axis="y", length=0)
    return figure


def distributions(
    labels: Sequence[str], series: Mapping[str, Sequence[float]], width: float = 4.6, most: int = 24
) -> Figure:
    """Shares of rows by bin, the bars of each series side by side.

    Args:
        labels: What each bin holds.
        series: Rows by bin, by the name of what is compared.
        width: Of the figure, in inches.
        most: So many bins are shown, from the first.
    """
    figure, axes = _figure(width, 2.6)
    shown = list(labels)[:most]
    step = 0.8 / max(len(series), 1)
    for index, (name, counts) in enumerate(series.items()):
        total = math.fsum(counts) or 1.0
        shift = (index - (len(series) - 1) / 2) * step
        places = [position + shift for position in range(len(shown))]
        shares = [count / total for count in list(counts)[:most]]
        axes.bar(places, shares, width=step, color=_series(index), label=name)
    axes.set_xticks(range(len(shown)), shown, rotation=90)
    axes.yaxis.set_major_formatter(_percent)
    _finish(axes, "", "share of rows")
    axes.tick_params(axis="x", labelsize=6.5)
    _legend(figure, axes)
    return figure


def to_svg(figure: Figure, description: str = "") -> str:
    """A figure as SVG text, ready to stand inside HTML: no prolog, text as text, colours as CSS variables.

    The same figure gives the same text.

    Args:
        figure: A figure of this module.
        description: For those who do not see it.
    """
    matplotlib = require("matplotlib", extra="demo")
    buffer = io.StringIO()
    # Ids are salted by what is described, so that they differ between the plots of one page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"mxpipe {description}"}):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would hold for the whole page
    salt = hashlib.sha256(description.encode()).hexdigest()[:6]
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>v{salt}-", text)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--viz-{name}, {colour})")
    text = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", text)
    label = _escape(description)
    opening = '<svg role="img" ' + (f'aria-label="{label}" ' if label else 'aria-hidden="true" ')
    return text.replace("<svg ", opening, 1)


def to_png(figure: Figure, dots_per_inch: int = 120) -> bytes:
    """A figure as the bytes of a PNG file, on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------- drawing


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without a display, in inches, and its axes."""
    drawing = require("matplotlib.figure", extra="demo")
    figure = drawing.Figure(figsize=(width, height), layout="constrained")
    axes: Axes = figure.add_subplot()
    axes.set_axisbelow(True)
    return figure, axes


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=COLOURS["soft"], size=9)
    axes.set_ylabel(y, color=COLOURS["soft"], size=9)
    axes.tick_params(colors=COLOURS["ink"], labelsize=8.5, color=COLOURS["line"])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(COLOURS["line"])
    for line in axes.lines:
        line.set_markersize(5)


def _legend(figure: Figure, axes: Axes, inside: bool = False) -> None:
    """Name the series: above the plot in one row, or within it."""
    place: dict[str, Any] = {"loc": "upper left"} if inside else {"loc": "outside upper left"}
    handles, names = axes.get_legend_handles_labels()
    if not names:
        return
    (axes if inside else figure).legend(
        handles,
        names,
        **place,
        ncols=1 if inside else len(names),
        frameon=False,
        labelcolor=COLOURS["ink"],
        fontsize=8.5,
        handlelength=2.2,
        columnspacing=1.6,
        borderaxespad=0.2,
    )


def _series(index: int) -> str:
    return COLOURS[SERIES[index % len(SERIES)]]


def _columns(points: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    pairs = [(float(x), float(y)) for x, y in points]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _moving_average(values: Sequence[float], width: int) -> list[float]:
    """Centred, over fewer points at the ends.

    Example:
        >>> _moving_average([1.0, 2.0, 6.0], 3)
        [1.5, 3.0, 4.0]
    """
    half = width // 2
    windows = (values[max(0, index - half) : index + half + 1] for index in range(len(values)))
    return [math.fsum(window) / len(window) for window in windows]


def _percent(value: float, _position: float) -> str:
    return f"{value:.0%}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
