"""A study as one page: its history, where the good trials lie, and a table of all trials."""

from __future__ import annotations

import html
import io
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mxpipe.errors import require
from mxpipe.model.storage import write_aside
from mxpipe.tune.study import Study, Trial, TrialState

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {TrialState.COMPLETE: "#2b6cb0", TrialState.PRUNED: "#dd8a2e", TrialState.FAILED: "#c53030"}
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2rem;max-width:70rem}table{border-collapse:collapse}"
    "td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ddd}svg{max-width:100%;height:auto}"
)


def write_report(study: Study, path: str | os.PathLike[str], title: str = "Search") -> None:
    """Write the page; the same study gives the same bytes.

    Args:
        study: The study, finished or not.
        path: An HTML file; it needs nothing beside it.
        title: Stands above it.

    Raises:
        MissingExtraError: Matplotlib is not installed.
        StorageError: The file cannot be written.
    """
    trials = sorted(study.trials(), key=lambda trial: trial.number)
    valued = [trial for trial in trials if trial.value is not None]
    best = study.best()
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(_summary(study, trials, best))}</p>",
    ]
    if valued:
        plots = {"History": _history, "Learning curves": _curves, "Dimensions": _slices}
        parts += [f"<h2>{name}</h2>{plot(study, valued)}" for name, plot in plots.items()]
    parts += ["<h2>Trials</h2>", _table(study, trials, best), "</html>\n"]
    with write_aside(path) as file:
        file.write("".join(parts).encode())


def _summary(study: Study, trials: Sequence[Trial], best: Trial | None) -> str:
    counts = {state: sum(trial.state is state for trial in trials) for state in TrialState}
    text = ", ".join(f"{count} {state.lower()}" for state, count in counts.items() if count)
    text = f"{len(trials)} trials ({text}); {study.direction} {study.metric}."
    if best is not None:
        text += f" Best: trial {best.number} with {best.value:.6g}: {json.dumps(best.parameters)}"
    return text


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    require("matplotlib", extra="demo")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _svg(figure: Any) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "mxpipe", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _points(axes: Axes, trials: Sequence[Trial], places: Sequence[float]) -> None:
    for state, colour in _COLOURS.items():
        chosen = [position for position, trial in enumerate(trials) if trial.state is state]
        if chosen:
            values = [trials[position].value or 0.0 for position in chosen]
            axes.scatter([places[position] for position in chosen], values, s=18, color=colour, label=state)


def _history(study: Study, trials: Sequence[Trial]) -> str:
    figure, ((axes,),) = _figure(1, 1, 8, 3)
    _points(axes, trials, [trial.number for trial in trials])
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    best: list[float] = []
    for trial in complete:
        assert trial.value is not None
        pick = min if study.direction == "minimize" else max
        best.append(pick([*best[-1:], trial.value]))
    axes.step([trial.number for trial in complete], best, where="post", color="#555", label="best so far")
    axes.set(xlabel="trial", ylabel=study.metric)
    axes.legend(fontsize=8)
    return _svg(figure)


def _curves(study: Study, trials: Sequence[Trial]) -> str:
    figure, ((axes,),) = _figure(1, 1, 8, 3)
    for trial in trials:
        epochs = sorted(trial.values)
        values = [trial.values[epoch] for epoch in epochs]
        axes.plot(epochs, values, "o-", markersize=3, linewidth=1, alpha=0.7, color=_COLOURS[trial.state])
    axes.set(xlabel="epoch", ylabel=study.metric)
    return _svg(figure)


def _slices(study: Study, trials: Sequence[Trial]) -> str:
    """One plot a dimension: the trials' values over it."""
    dimensions = list(study.space.dimensions.items())
    columns = min(3, len(dimensions))
    rows = -(-len(dimensions) // columns)
    figure, grid = _figure(rows, columns, 3.6 * columns, 2.8 * rows)
    for axes in grid.flat[len(dimensions) :]:
        axes.remove()
    for axes, (path, dimension) in zip(grid.flat, dimensions, strict=False):
        if dimension["type"] == "choices":
            options = dimension["options"]
            _points(axes, trials, [options.index(trial.parameters[path]) for trial in trials])
            axes.set_xticks(range(len(options)), [json.dumps(option) for option in options], fontsize=7)
        else:
            _points(axes, trials, [trial.parameters[path] for trial in trials])
            if dimension["type"] == "log_uniform" or dimension.get("log"):
                axes.set_xscale("log")
        axes.set_xlabel(path, fontsize=8)
        axes.set_ylabel(study.metric, fontsize=8)
    return _svg(figure)


def _table(study: Study, trials: Sequence[Trial], best: Trial | None) -> str:
    paths = list(study.space.dimensions)
    names = ("trial", "state", study.metric, *paths, "epochs")
    rows = ["".join(f"<th>{html.escape(name)}</th>" for name in names)]
    for trial in trials:
        value = "" if trial.value is None else f"{trial.value:.6g}"
        shown = [_shown(trial.parameters[path]) for path in paths]
        note = str(len(trial.values)) if trial.error is None else trial.error
        weight = "bold" if best is not None and trial.number == best.number else "normal"
        texts = (str(trial.number), trial.state.value, value, *shown, note)
        rows.append("".join(f'<td style="font-weight:{weight}">{html.escape(text)}</td>' for text in texts))
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
