"""One HTML page over all months: what was decided and why, and how good the model is.

What enters: the months' records (see records.py) and the files they point to. What leaves: a single file
without scripts or outside references. Who calls it: the report stage. A stage that failed or was skipped
leaves out its part of the page and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flights import features
from mxpipe import viz
from mxpipe.model.storage import write_aside
from mxpipe.train import evaluation, read_history

Vector = npt.NDArray[np.float64]

MODELS = {
    "candidate": "candidate",
    "champion": "champion before",
    "logistic_regression": "logistic regression",
    "hist_gradient_boosting": "boosted trees",
}
BASELINES = ("logistic_regression", "hist_gradient_boosting")
SAMPLES = 1000
DASH = "–"
# For the stages, in their order: muted, and readable on light and dark.
COLOURS = (
    "#8aa0c2",
    "#e39b52",
    "#c4b454",
    "#9db56b",
    "#3f74e0",
    "#7c8aa0",
    "#4fae90",
    "#a98bd0",
    "#c9787d",
    "#d98fb8",
    "#5aa7c4",
    "#b0946f",
)


class Month:
    """A month's record, with the files it points to read when they are asked for."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.name = str(record["partition"])
        self._stages = record.get("stages") or {}

    def stage(self, name: str) -> Mapping[str, Any]:
        """What a stage returned; empty where it did not finish or was skipped."""
        return self._stages.get(name) or {}

    @property
    def decision(self) -> str:
        """PROMOTE, HOLD or REJECT; FAILED where the gate was not reached."""
        return str(self.stage("gate").get("decision", "FAILED"))

    @cached_property
    def whole_evaluation(self) -> Mapping[str, Any]:
        """The whole evaluation, with calibration and slices."""
        return _read_json(self.stage("evaluate").get("report_uri"))

    @cached_property
    def scores(self) -> dict[str, Vector]:
        """Holdout scores (n,) by model, the ``labels``, and the ``groups`` that the bootstrap draws."""
        found: dict[str, Vector] = {}
        for stage in ("evaluate", "baselines"):
            path = self.stage(stage).get("predictions_uri")
            if path and Path(path).exists():
                with np.load(path, allow_pickle=False) as arrays:
                    found |= {name: np.asarray(arrays[name], dtype=np.float64) for name in arrays.files}
        return found

    @cached_property
    def samples(self) -> dict[str, Vector]:
        """AUC of each model in the same bootstrap samples."""
        models = [name for name in MODELS if name in self.scores]
        if not models:
            return {}
        values = evaluation.bootstrap_values(
            self.scores["labels"],
            [self.scores[name] for name in models],
            samples=SAMPLES,
            groups=self.scores.get("groups"),
        )
        return dict(zip(models, values, strict=True))

    def interval(self, model: str) -> evaluation.Interval | None:
        """AUC of a model with its interval."""
        if model not in self.samples:
            return None
        value = evaluation.auc(self.scores["labels"], self.scores[model])
        return evaluation.Interval(value, *evaluation.percentile_interval(self.samples[model]))

    def metrics(self, model: str) -> Mapping[str, float]:
        """Metrics of a model on the holdout."""
        if model in BASELINES:
            found = (self.stage("baselines").get("models") or {}).get(model)
        else:
            found = self.stage("evaluate").get(model)
        return found or {}


class Gain(NamedTuple):
    """By how much the candidate's AUC, averaged over months, lies above another model's."""

    value: float
    low: float
    high: float


def write_report(records: Sequence[Mapping[str, Any]], page: Path) -> None:
    """Write the page as a whole, or leave the one that is there.

    Args:
        records: The months' records, oldest first.
        page: The HTML file.

    Raises:
        StorageError: The disk is full.
    """
    months = [Month(record) for record in records]
    parts = (
        _head,
        _decisions,
        _comparison,
        _calibration,
        _training,
        _drift,
        _slices,
        _times,
        _sources,
    )
    body = "\n".join(part(months) for part in parts)
    style = Path(__file__).with_suffix(".css").read_text()
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Flight delays, month by month</title><style>{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(page) as file:
        file.write(text.encode())


def mean_gain(months: Sequence[Month], other: str) -> Gain | None:
    """The candidate's AUC above another model's, averaged over the months, with its 95% interval.

    Months are drawn independently: their samples are averaged, one by one.
    """
    known = [month for month in months if {"candidate", other} <= set(month.samples)]
    if not known:
        return None
    values = np.mean([month.samples["candidate"] - month.samples[other] for month in known], axis=0)
    exact = [
        evaluation.auc(month.scores["labels"], month.scores["candidate"])
        - evaluation.auc(month.scores["labels"], month.scores[other])
        for month in known
    ]
    return Gain(float(np.mean(exact)), *evaluation.percentile_interval(values))


# ---------------------------------------------------------------------------------------------- the parts


def _head(months: Sequence[Month]) -> str:
    promoted = [month for month in months if month.stage("promote")]
    cards = []
    if promoted:
        last = promoted[-1]
        version = last.stage("promote").get("version")
        cards.append(_card("Champion", f"version {version}", f"promoted in {last.name}"))
    values = [item.value for month in months if (item := month.interval("candidate"))]
    if values:
        over = f"mean of {len(values)} months" if len(values) > 1 else "of one month"
        cards.append(_card("AUC of the candidates", f"{np.mean(values):.3f}", over))
    for baseline in BASELINES:
        gain = mean_gain(months, baseline)
        if gain is not None:
            label = f"AUC above {MODELS[baseline]}"
            cards.append(_card(label, f"{gain.value:+.3f}", f"95%: {gain.low:+.3f} to {gain.high:+.3f}"))
    return (
        "<h1>Will the flight be late?</h1>"
        "<p>Each month a wide-and-deep network is trained on all flights that left New York so far, except "
        "those of the month's last seven days. These judge it, next to the champion of the month before and "
        "to two baselines: did a flight arrive more than 15 minutes late, told from what was known at its "
        f'scheduled departure?</p><div class="cards">{"".join(cards)}</div>'
    )


def _decisions(months: Sequence[Month]) -> str:
    header = ["Month", "Trained on", "Judged on", "Late", "Candidate", "Champion", "Gain", "Decision", ""]
    rows, reasons = [], []
    for month in months:
        split, judged = month.stage("split"), month.metrics("candidate")
        comparison = month.stage("evaluate").get("comparison") or {}
        registered = month.stage("register")
        version = f"version {registered['version']}" if registered.get("version") else "not registered"
        if registered and not registered.get("created", True):
            version += " (as before)"
        gain = DASH
        if comparison:
            interval = _range(comparison["low"], comparison["high"])
            gain = f"{comparison['difference']:+.4f}<small>{interval}</small>"
        rows.append(
            [
                f"<b>{escape(month.name)}</b>",
                _count(split.get("train_rows")),
                _count(split.get("holdout_rows")),
                _percent(judged.get("rate")),
                _decimal(judged.get("auc")),
                _decimal(month.metrics("champion").get("auc")),
                gain,
                f'<span class="badge {escape(month.decision)}">{escape(month.decision)}</span>',
                f'<span class="soft">{escape(version)}</span>',
            ]
        )
        reasons += [
            f"<li><b>{escape(month.name)}</b><span>{escape(reason)}</span></li>"
            for reason in month.stage("gate").get("reasons", ["A stage failed before the gate was reached."])
        ]
    intro = (
        "A candidate becomes champion when its AUC on the holdout lies above the champion's beyond chance: "
        "the whole 95% interval of the gain must be above zero. Both models meet the same resampled flights "
        "(a paired bootstrap), and the flights of one airport and hour are drawn together: they share "
        "their weather."
    )
    return _section("Decisions", intro, _table(header, rows), f'<ul class="reasons">{"".join(reasons)}</ul>')


def _comparison(months: Sequence[Month]) -> str:
    series = {
        title: {month.name: item for month in months if (item := month.interval(model))}
        for model, title in MODELS.items()
    }
    series = {title: values for title, values in series.items() if values}
    if not series:
        return ""
    judged = [month for month in months if month.samples]
    tables = []
    for metric, title, pick in (
        ("auc", "AUC (more is better)", max),
        ("log_loss", "Log loss (less is better)", min),
        ("ece", "Calibration error (less is better)", min),
    ):
        header = [title, *(month.name for month in judged), "mean"]
        tables.append(_table(header, _metric_rows(judged, metric, pick), classes=["ours"]))
    plot = viz.to_svg(viz.intervals(series), "AUC by month of candidate, champion and baselines")
    intro = (
        "The same holdout flights for all. Bars are 95% bootstrap intervals of a single model; models are "
        "compared pairwise above, which is sharper. The baselines are scikit-learn's, with its defaults, on "
        "the same rows and features."
    )
    return _section("Against champion and baselines", intro, f'<div class="wide">{plot}</div>', *tables)


def _metric_rows(
    months: Sequence[Month], metric: str, pick: Callable[[Sequence[float]], float]
) -> list[list[str]]:
    """A row for each model that every or some month has; the best of each column is marked by a class."""
    values = {
        model: [month.metrics(model).get(metric) for month in months]
        for model in MODELS
        if any(month.metrics(model) for month in months)
    }
    table: dict[str, list[float | None]] = {}
    for model, known in values.items():
        complete = [value for value in known if value is not None]
        table[model] = [*known, float(np.mean(complete)) if len(complete) == len(months) else None]
    best = []
    for column in zip(*table.values(), strict=True):
        present = [value for value in column if value is not None]
        best.append(pick(present) if present else None)
    return [
        [MODELS[model]]
        + [
            f"\0best\0{_decimal(value)}" if value is not None and value == top else _decimal(value)
            for value, top in zip(row, best, strict=True)
        ]
        for model, row in table.items()
    ]


def _calibration(months: Sequence[Month]) -> str:
    plots = []
    for month in months:
        tables = {
            MODELS[role]: month.whole_evaluation[role]["calibration"]
            for role in ("candidate", "champion")
            if month.whole_evaluation.get(role)
        }
        if tables:
            drawn = viz.to_svg(
                viz.calibration(tables), f"Predicted and observed rate of delays in {month.name}"
            )
            plots.append(f"<figure><h3>{escape(month.name)}</h3>{drawn}</figure>")
    intro = (
        "Of the flights given a 30% chance of delay, 30% should be late: on the diagonal a probability means "
        "what it says. Each point is a tenth of the holdout with its 95% interval. A week with weather that "
        "its training days did not have lifts or lowers the whole curve."
    )
    return _section("Is a probability what it says?", intro, f'<div class="plots">{"".join(plots)}</div>')


def _training(months: Sequence[Month]) -> str:
    runs, rows = {}, []
    for month in months:
        stage = month.stage("train")
        events = stage.get("events")
        history = read_history(Path(events)) if events else []
        if history:
            runs[month.name] = [(event["step"], event["loss"]) for event in history]
        if stage:
            rate = stage.get("rows_per_second")
            rows.append(
                [
                    escape(month.name),
                    _count(stage.get("steps")),
                    f"{stage.get('seconds', 0):.1f} s",
                    _count(rate and round(rate)),
                    _decimal((stage.get("metrics") or {}).get("train_loss")),
                    _decimal(month.metrics("candidate").get("log_loss")),
                    str(stage.get("attempt", 1)),
                ]
            )
    header = ["Month", "Steps", "Time", "Rows/s", "Training loss", "Holdout loss", "Attempts"]
    plot = ""
    if runs:
        width = max(1, min(map(len, runs.values())) // 12)
        plot = viz.to_svg(viz.loss_curves(runs, smooth=width), "Training loss over steps, by month")
    intro = "Every month has the same number of steps; the loss is smoothed, the raw values lie behind it."
    return _section("Training", intro, f'<div class="wide">{plot}</div>', _table(header, rows))


def _drift(months: Sequence[Month]) -> str:
    threshold = features.EXPECTATIONS["drift"]["threshold"]
    plots, rows = [], []
    for month in months:
        stage = month.stage("validate")
        if not stage:
            continue
        warnings = stage.get("warnings") or []
        drift = stage.get("drift") or {}
        shifted = ", ".join(name for name, value in drift.items() if value > threshold)
        rows.append(
            [
                escape(month.name),
                str(stage.get("checks", DASH)),
                "passed" if stage.get("ok") else "failed",
                str(len(warnings)),
                "!" + (escape(shifted) or ("none" if drift else "no champion to compare with")),
            ]
        )
        if drift:
            drawn = viz.to_svg(
                viz.drift(drift, threshold, most=8, width=4.6), f"Drift of columns in {month.name}"
            )
            plots.append(f"<figure><h3>{escape(month.name)}</h3>{drawn}</figure>")
    intro = (
        "The month's snapshot against the rows that its champion was trained on, as population stability "
        f"index: below 0.1 is stable, above {threshold} has shifted. Weather moves with the seasons, so "
        "drift warns and does not stop a month; types, nulls and ranges do."
    )
    header = ["Month", "Checks", "Verdict", "Warnings", "!Shifted columns"]
    return _section(
        "Has the data moved?", intro, f'<div class="plots">{"".join(plots)}</div>', _table(header, rows)
    )


def _slices(months: Sequence[Month]) -> str:
    judged = [month for month in months if month.whole_evaluation]
    if not judged:
        return ""
    last = judged[-1]
    tables = []
    for column, items in (last.whole_evaluation["candidate"].get("slices") or {}).items():
        rows = []
        for item in items:
            known = item["auc"] is not None
            width = round(160 * max(0.0, item["auc"] - 0.5) / 0.5) if known else 0
            rows.append(
                [
                    escape(item["value"]),
                    _count(item["rows"]),
                    _percent(item["rate"]),
                    _percent(item["probability"]),
                    _decimal(item["log_loss"]),
                    f'!{_decimal(item["auc"])}<span class="bar" style="width:{width}px"></span>',
                ]
            )
        header = [column.capitalize(), "Flights", "Late", "Predicted", "Log loss", "!AUC (bar from 0.5)"]
        tables.append(_table(header, rows))
    intro = f"The candidate of {escape(last.name)} on its holdout. Under 100 flights are not shown."
    return _section("Where is it good?", intro, *tables)


def _times(months: Sequence[Month]) -> str:
    stages = [
        name
        for name in dict.fromkeys(name for month in months for name in month._stages)
        if any(month.stage(name).get("seconds") for month in months)
    ]
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(stages)}
    totals = {month.name: sum(month.stage(name).get("seconds") or 0.0 for name in stages) for month in months}
    longest = max(totals.values(), default=0.0) or 1.0
    rows = []
    for month in months:
        parts = "".join(
            f'<i style="width:{100 * seconds / longest:.2f}%;background:{colours[name]}" '
            f'title="{escape(name)}: {seconds:.1f} s"></i>'
            for name in stages
            if (seconds := month.stage(name).get("seconds") or 0.0)
        )
        rows.append([escape(month.name), f"{totals[month.name]:.1f} s", f'!<div class="time">{parts}</div>'])
    names = "".join(
        f'<span><i style="background:{colours[name]}"></i>{escape(name.replace("_", " "))}</span>'
        for name in stages
    )
    table = _table(["Month", "Total", "!Seconds by stage"], rows, widths=["6em", "6em", ""])
    return _section("Where did the time go?", "", table, f'<div class="legend">{names}</div>')


def _sources(months: Sequence[Month]) -> str:
    rows, digests = [], []
    for month in months:
        notes = month.stage("ingest").get("notes") or {}
        rows.append(
            [escape(month.name)]
            + [_count(notes.get(name)) for name in ("flights", "cancelled", "diverted", "rows", "late")]
        )
        for title, value in (
            ("training rows", month.stage("split").get("train_digest")),
            ("holdout", month.stage("split").get("holdout_digest")),
            ("model", month.stage("train").get("model_digest")),
        ):
            if value:
                digests.append([escape(month.name), f"!{title}", f"!<code>{escape(value)}</code>"])
    header = ["Month", "Scheduled so far", "Cancelled", "Diverted", "Arrived", "Late"]
    intro = (
        "Cancelled and diverted flights never arrived as planned: they count as scheduled, and have no "
        f"label. The model reads {len(features.NUMERIC)} numbers and {len(features.CATEGORICAL)} categories "
        "of a flight, none of them from how other flights fared."
    )
    shown = _table(["Month", "!What", "!SHA-256"], digests)
    details = f"<details><summary>Digests: the same rows, the same model</summary>{shown}</details>"
    return _section("The flights", intro, _table(header, rows), details)


# ----------------------------------------------------------------------------------------------- building


def _section(title: str, intro: str, *parts: str) -> str:
    told = f"<p>{intro}</p>" if intro else ""
    return f"<section><h2>{escape(title)}</h2>{told}{''.join(parts)}</section>"


def _card(label: str, value: str, detail: str) -> str:
    return (
        f'<div class="card"><div class="label">{escape(label)}</div><div class="value">{escape(value)}</div>'
        f'<div class="detail">{escape(detail)}</div></div>'
    )


def _table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    classes: Sequence[str] = (),
    widths: Sequence[str] = (),
) -> str:
    """A table of HTML cells. A leading ``!`` aligns a cell to the left, a leading mark makes it the best."""
    if not rows:
        return ""
    columns = "".join(f'<col style="width:{width}">' for width in widths)
    head = "".join(_cell(text, "th") for text in header)
    body = "".join(
        f"<tr{_class(classes[index] if index < len(classes) else '')}>{''.join(map(_cell, row))}</tr>"
        for index, row in enumerate(rows)
    )
    table = f"<table>{columns}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _cell(text: str, tag: str = "td") -> str:
    kind = ""
    if text.startswith("!"):
        kind, text = "text", text[1:]
    elif text.startswith("\0best\0"):
        kind, text = "best", text.removeprefix("\0best\0")
    return f"<{tag}{_class(kind)}>{text}</{tag}>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _count(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{value:.1%}"


def _decimal(value: float | None) -> str:
    return DASH if value is None else f"{value:.4f}"


def _range(low: float | None, high: float | None) -> str:
    return DASH if low is None or high is None else f"{low:+.4f} to {high:+.4f}"


def _read_json(path: str | None) -> Mapping[str, Any]:
    if not path or not Path(path).exists():
        return {}
    value: Mapping[str, Any] = json.loads(Path(path).read_text())
    return value
