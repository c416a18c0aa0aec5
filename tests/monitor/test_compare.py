"""A window against training: what has moved is named, what has not is left alone, few rows say nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mxpipe.data import Snapshot, write_snapshot
from mxpipe.errors import DataError, SpecificationError
from mxpipe.model import Model
from mxpipe.monitor import (
    Labelled,
    MonitorDirectory,
    MonitorPolicy,
    Outcome,
    PredictionStatistics,
    Reference,
    Verdict,
    Window,
    check_window,
    compare,
    label_pairs,
)

WEEK = Window.of("2013-W07", "2013-02-11", "2013-02-18")


def statistics(model: Model, columns: dict[str, Any]) -> PredictionStatistics:
    found = PredictionStatistics.of_model(model)
    found.update(columns, model.predict(columns))
    return found


def test_a_model_says_what_it_was_trained_on(model: Model) -> None:
    reference = Reference.of_model(model)
    assert set(reference.inputs) == {"distance", "hour", "carrier"}
    assert reference.inputs["distance"].rows == 600
    assert reference.predictions["probability"].rows == 600
    assert reference.source == model.metadata["train_snapshot_digest"]


def test_rows_like_those_of_training_are_stable(model: Model, flights: Callable[..., Any]) -> None:
    found = compare(statistics(model, flights(5000)), Reference.of_model(model), MonitorPolicy())
    assert found.verdict is Verdict.STABLE, found.reasons
    assert found.reasons == ()
    assert {column.name for column in found.columns} == {"distance", "hour", "carrier", "probability"}
    assert max(column.psi for column in found.columns) < 0.15


@pytest.mark.parametrize(
    ("change", "column"), [({"farther": 2.0}, "distance"), ({"newcomer": 0.5}, "carrier")]
)
def test_what_has_moved_is_named(
    model: Model, flights: Callable[..., Any], change: dict[str, float], column: str
) -> None:
    found = compare(statistics(model, flights(5000, **change)), Reference.of_model(model), MonitorPolicy())
    assert found.verdict is Verdict.DRIFT
    inputs = [item.name for item in found.columns if item.drifted and item.role == "input"]
    assert inputs == [column]
    assert any(reason.startswith(f"input {column!r}: PSI") for reason in found.reasons)


def test_missing_values_are_drift_too(model: Model, flights: Callable[..., Any]) -> None:
    columns = flights(5000)
    columns["distance"][::2] = np.nan
    found = compare(statistics(model, columns), Reference.of_model(model), MonitorPolicy(predictions=False))
    assert set(found.drifted) == {"distance"}


def test_few_rows_say_nothing_and_chance_is_no_drift(model: Model, flights: Callable[..., Any]) -> None:
    reference = Reference.of_model(model)
    few = compare(statistics(model, flights(200, farther=2.0)), reference, MonitorPolicy())
    assert few.verdict is Verdict.TOO_FEW_ROWS
    assert few.drifted == {}
    # The PSI of forty rows in twenty bins is large by chance alone; the test knows.
    noisy = compare(statistics(model, flights(40)), reference, MonitorPolicy(minimum_rows=1))
    assert max(column.psi for column in noisy.columns) > 0.25
    assert noisy.verdict is Verdict.STABLE, noisy.reasons


def test_a_policy_says_which_columns_and_how_many(model: Model, flights: Callable[..., Any]) -> None:
    current, reference = statistics(model, flights(5000, farther=2.0)), Reference.of_model(model)
    for policy, verdict in (
        ({"columns": ["hour"]}, Verdict.STABLE),
        ({"minimum_columns": 2}, Verdict.STABLE),
        ({"psi_columns": {"distance": 99.0}}, Verdict.STABLE),
        ({"psi_columns": {"distance": 99.0}, "ks": 0.2}, Verdict.DRIFT),
        ({}, Verdict.DRIFT),
    ):
        given = MonitorPolicy.from_json({"predictions": False} | policy)
        assert compare(current, reference, given).verdict is verdict, policy
    with pytest.raises(DataError, match="'tailnum' must be in the snapshot"):
        compare(current, reference, MonitorPolicy(columns=["tailnum"]))
    for bad in ({"limit": 1}, {"performance": {"gain": 0.5}}, {"minimum_rows": 0}):
        with pytest.raises(SpecificationError):
            MonitorPolicy.from_json(bad)


def test_labels_that_come_later_are_joined_by_id_and_judged(
    model: Model, flights: Callable[..., Any], tmp_path: Path
) -> None:
    columns = flights(3000)
    predictions = model.predict(columns)
    directory = MonitorDirectory(tmp_path / "late")
    ids = [f"flight-{row}" for row in range(3000)]
    kept = dict(zip(ids, predictions.reshape(-1, 1).tolist(), strict=True))
    directory.append_predictions("1", WEEK.start, "server-1", kept)
    good = {key: int(values[0] > 0.2) for key, values in kept.items()}
    bad = {key: 1 - label for key, label in good.items()} | {"another": 1}
    current, policy = statistics(model, columns), MonitorPolicy(performance={"auc": 0.6})
    verdicts = []
    for labels in (good, bad):
        labelled = Labelled(*label_pairs(directory.predictions("1", WEEK), labels))
        found = compare(current, Reference.of_model(model), policy, labelled)
        assert found.performance is not None
        assert found.performance["rows"] == 3000
        verdicts.append(found.verdict)
    assert verdicts == [Verdict.STABLE, Verdict.DRIFT]
    assert found.reasons == ("auc 0.0000 over 3000 labelled rows, at least 0.6",)


def test_a_model_without_training_statistics_is_compared_with_its_snapshot(
    model: Model, flights: Callable[..., Any], tmp_path: Path
) -> None:
    snapshot = write_snapshot(tmp_path / "rows", flights(1000))
    older = dataclasses.replace(Reference.of_snapshot(Snapshot.open(snapshot.uri)))
    found = compare(statistics(model, flights(3000, seed=5, farther=2.0)), older, MonitorPolicy())
    assert set(found.drifted) == {"distance"}
    assert found.reference == snapshot.digest


def test_a_window_is_looked_at_twice_and_has_one_event(
    model: Model, flights: Callable[..., Any], tmp_path: Path
) -> None:
    directory, reference = MonitorDirectory(tmp_path / "late"), Reference.of_model(model)
    current, policy = statistics(model, flights(5000, farther=2.0)), MonitorPolicy(cool_down_days=10)
    outcomes = []
    for window in (WEEK, WEEK, Window.of("2013-W08", "2013-02-18", "2013-02-25")):
        checked = check_window(directory, window, current, reference, policy, model="late", version="1")
        outcomes.append((checked.outcome, checked.event is not None))
    assert outcomes == [
        (Outcome.APPENDED, True),
        (Outcome.PRESENT, True),
        (Outcome.COOLING_DOWN, False),
    ]
    (event,) = directory.events.read()[0]
    assert (event.window, event.version, event.rows) == ("2013-W07", "1", 5000)
    assert "distance" in event.columns
    page = Path(str(event.report)).read_text()
    assert page.count("<svg") >= 3
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "input &#x27;distance&#x27;" in page
    stored = json.loads(directory.report_path("2013-W07", ".json").read_text())
    assert stored["verdict"] == "drift"
    assert sum(stored["columns"][0]["bins"]["observed"]) == pytest.approx(5000, abs=2)
    assert len(json.dumps(checked.to_json())) < 4000


def test_the_command_line_compares_what_servers_left(
    model: Model, flights: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mxpipe.cli import main

    directory = MonitorDirectory(tmp_path / "late")
    for writer, farther in (("one", 1.0), ("two", 2.0)):
        current = statistics(model, flights(3000, farther=farther))
        directory.write("1", WEEK.start, WEEK.end, writer, current)
    window = ["--window", "2013-W07", "--start", "2013-02-11", "--end", "2013-02-18"]
    command = ["monitor", str(directory.path), "--model", str(model.path), *window]
    assert main(command) == 3
    printed = json.loads(capsys.readouterr().out)
    assert (printed["verdict"], printed["rows"], printed["event"]) == ("drift", 6000, "appended")
    assert main([*command, "--version", "7"]) == 2
    assert "must have statistics of 2013-W07" in capsys.readouterr().err


def test_windows_long_before_are_removed_and_later_ones_kept(
    model: Model, flights: Callable[..., Any], tmp_path: Path
) -> None:
    directory = MonitorDirectory(tmp_path / "late")
    current = statistics(model, flights(50))
    weeks = [Window.of(f"d{day}", f"2013-02-{day:02d}", f"2013-02-{day + 1:02d}") for day in (1, 9, 12)]
    for week in weeks:
        directory.write("1", week.start, week.end, "one", current)
    policy = MonitorPolicy(keep_days=7)
    check_window(directory, WEEK, current, Reference.of_model(model), policy)
    assert [directory.collect("1", week) is not None for week in weeks] == [False, True, True]
