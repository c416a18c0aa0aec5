"""Batch prediction in one process: counts, order, refused rows, what is repeated and what is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mxpipe.batch import (
    PredictionOptions,
    Predictions,
    PredictionWriter,
    predict_rows,
    predict_shard,
    predict_snapshot,
    resolve_model,
)
from mxpipe.data import Snapshot, write_snapshot
from mxpipe.errors import DataError, ModelFormatError, SchemaError, SpecificationError, StorageError
from mxpipe.model import load_model

from .conftest import poison


@pytest.fixture
def model(trained_models: Any) -> Any:
    return resolve_model(trained_models.first)


@pytest.fixture
def snapshot(flights: pa.Table, tmp_path: Path) -> Snapshot:
    return write_snapshot(tmp_path / "flights", flights, rows_per_shard=300)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_row_out_for_each_row_in_the_same_order(
    flights: pa.Table, snapshot: Snapshot, model: Any, tmp_path: Path
):
    options = PredictionOptions(keys=["id", "note"], rows_per_batch=128)
    done = predict_snapshot(snapshot, model, tmp_path / "late", options)
    table = done.snapshot.to_table()
    assert table.column_names == ["id", "note", "probability"]
    assert table.select(["id", "note"]).equals(flights.select(["id", "note"]))
    expected = load_model(model.path).predict(flights)
    np.testing.assert_allclose(table["probability"].to_numpy(), expected, rtol=1e-5)
    assert (done.rows, done.predicted, done.refused, done.errors) == (1000, 1000, {}, None)
    assert names_in(tmp_path) == ["flights", "late"]
    statistics = done.statistics
    assert (statistics.rows, statistics.failed) == (1000, 0)
    assert statistics.inputs["distance"].nulls == flights["distance"].null_count
    assert statistics.predictions["probability"].mean == pytest.approx(expected.mean(), rel=1e-5)
    json.dumps(done.to_json(), allow_nan=False)


def test_the_same_again_computes_nothing(
    snapshot: Snapshot, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = predict_snapshot(snapshot, model, tmp_path / "late")
    monkeypatch.setattr("mxpipe.batch.predictor.Predictor.score", None)
    again = predict_snapshot(snapshot, model, tmp_path / "late")
    assert (again.reused, again.digest, first.reused) == (True, first.digest, False)


def test_another_model_is_not_published_over_the_first(
    snapshot: Snapshot, model: Any, trained_models: Any, tmp_path: Path
):
    first = predict_snapshot(snapshot, model, tmp_path / "late")
    with pytest.raises(DataError, match="must not hold another snapshot"):
        predict_snapshot(snapshot, resolve_model(trained_models.second), tmp_path / "late")
    assert Predictions.open(tmp_path / "late").digest == first.digest


def test_poisoned_rows_are_put_aside_with_reasons(flights: pa.Table, model: Any, tmp_path: Path):
    rows = poison(
        flights,
        {
            "distance": {3: "far", 4: "1e3", 5: " ", 6: "inf", 11: "1e300"},
            "hour": {3: "noon", 7: "7.5", 8: "7.0", 9: "99999999999999999999", 10: None},
        },
    )
    options = PredictionOptions(keys=["id"], required=["hour"], rows_per_batch=128)
    done = predict_rows(rows, model, tmp_path / "late", options)
    assert done.rows == 1000
    assert done.predicted == 995
    errors = done.errors
    assert errors is not None
    assert errors.to_table().to_pydict() == {
        "id": [3, 7, 9, 10, 11],
        "error_partition": [0] * 5,
        "error_row": [3, 7, 9, 10, 11],
        "error_column": ["distance", "hour", "hour", "hour", "distance"],
        "error_reason": [
            "not a number",
            "not an integer",
            "out of range",
            "missing",
            "out of range",
        ],
        "error_value": ["far", "7.5", "99999999999999999999", None, "1e300"],
    }
    assert done.refused == {
        "distance: not a number": 1,
        "hour: not an integer": 1,
        "hour: missing": 1,
        "hour: out of range": 1,
        "distance: out of range": 1,
    }
    predicted = done.snapshot.to_table()["id"].to_pylist()
    assert predicted == [row for row in range(1000) if row not in (3, 7, 9, 10, 11)]
    assert done.statistics.failed == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop_columns(["carrier"]), "column 'carrier' must be in the rows; they have id"),
        (
            lambda rows: rows.set_column(4, "carrier", rows["hour"]),
            "column 'carrier' must hold string.*int64",
        ),
        (
            lambda rows: rows.set_column(2, "distance", [[[1.0]] * len(rows)]),
            r"column 'distance' must hold float64.*list",
        ),
    ],
)
def test_rows_of_another_shape_are_refused_at_once(
    flights: pa.Table, model: Any, tmp_path: Path, change: Any, message: str
):
    with pytest.raises(SchemaError, match=message):
        predict_rows(change(flights), model, tmp_path / "late")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "options",
    [{"keys": ["probability"]}, {"required": ["id"]}, {"output_names": ["a", "b"]}, {"keys": ["id", "id"]}],
)
def test_names_that_do_not_go_together_are_refused(
    snapshot: Snapshot, model: Any, tmp_path: Path, options: dict[str, Any]
):
    with pytest.raises(SpecificationError):
        predict_snapshot(snapshot, model, tmp_path / "late", PredictionOptions(**options))
    assert names_in(tmp_path) == ["flights"]


def test_no_rows_are_an_error_that_says_why(flights: pa.Table, model: Any, tmp_path: Path):
    with pytest.raises(DataError, match="at least one row must be predicted; got 0 rows"):
        predict_rows(flights.slice(0, 0), model, tmp_path / "late")
    rows = poison(flights.slice(0, 2), {"hour": {0: "x", 1: "y"}})
    with pytest.raises(DataError, match="got 2 rows, refused: 2 x hour: not an integer"):
        predict_rows(rows, model, tmp_path / "late")
    assert names_in(tmp_path) == []


DRIVER = """
import sys
from mxpipe.batch import PredictionOptions, predict_snapshot, resolve_model
import mxpipe.batch.local as local
predict_shard = local.predict_shard
def told(task, uri, index):
    name = predict_shard(task, uri, index)
    print(index, flush=True)
    return name
local.predict_shard = told
predict_snapshot(sys.argv[1], resolve_model(sys.argv[2]), sys.argv[3], PredictionOptions(keys=["id"]))
"""


def test_a_killed_prediction_goes_on_where_it_was(snapshot: Snapshot, model: Any, tmp_path: Path):
    reference = predict_snapshot(snapshot, model, tmp_path / "reference", PredictionOptions(keys=["id"]))
    target = tmp_path / "late"
    command = [sys.executable, "-c", DRIVER, snapshot.uri, model.path, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGKILL)
    with pytest.raises(DataError, match="must be a published snapshot"):
        Predictions.open(target)
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / ".late.writing").glob("part-*.json")}
    assert parts, "the finished partition is there"
    options = PredictionOptions(keys=["id"])
    with PredictionWriter(target, model, options, input_digest=snapshot.digest) as writer:
        names = [predict_shard(writer.task, snapshot.uri, index) for index in range(4)]
        assert all(path.stat().st_mtime_ns == written for path, written in parts.items())
        done = writer.commit(names)
    assert done.digest == reference.digest
    assert names_in(tmp_path) == ["flights", "late", "reference"]


def test_a_repeated_task_writes_the_same_bytes(snapshot: Snapshot, model: Any, tmp_path: Path):
    options = PredictionOptions(keys=["id"])
    with PredictionWriter(tmp_path / "late", model, options, input_digest=snapshot.digest) as writer:
        staging = Path(writer.task.staging_uri)
        first = predict_shard(writer.task, snapshot.uri, 1)
        before = {path.name: path.read_bytes() for path in staging.glob("*.*")}
        (staging / first).unlink()  # as if killed just before its last step
        assert predict_shard(writer.task, snapshot.uri, 1) == first
        assert {path.name: path.read_bytes() for path in staging.glob("*.*")} == before


def test_two_drivers_do_not_mix(snapshot: Snapshot, model: Any, tmp_path: Path):
    options = PredictionOptions()
    with (
        PredictionWriter(tmp_path / "late", model, options, input_digest=snapshot.digest),
        pytest.raises(StorageError, match="one writer at a time"),
    ):
        PredictionWriter(tmp_path / "late", model, options, input_digest=snapshot.digest)


def test_a_model_that_changes_meanwhile_is_noticed(snapshot: Snapshot, trained_models: Any, tmp_path: Path):
    import dataclasses

    pinned = resolve_model(trained_models.first)
    other = dataclasses.replace(pinned, path=str(trained_models.second), digest="0" * 64)
    with pytest.raises(ModelFormatError, match="the folder must hold the model of digest 0000"):
        predict_snapshot(snapshot, other, tmp_path / "late")


def test_a_host_without_the_folder_keeps_one_copy(
    trained_models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import dataclasses

    from mxpipe.batch import load_pinned
    from mxpipe.batch import model as module

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "_loaded", {})
    pinned = resolve_model(trained_models.first)
    away = dataclasses.replace(pinned, path="/no/such/folder")
    loaded = load_pinned(away, pinned.files)
    assert loaded.digest == pinned.digest
    assert loaded.path == tmp_path / "mxpipe" / "models" / pinned.digest
    module._loaded.clear()
    assert load_pinned(away, None).path == loaded.path, "the next process finds it there"


def test_references_are_checked(tmp_path: Path):
    for reference in ("models:/name", "runs:/abc/model", "models:/name/1/2"):
        with pytest.raises(SpecificationError, match="models:/name@alias or models:/name/version"):
            resolve_model(reference)
    with pytest.raises(ModelFormatError):
        resolve_model(tmp_path / "none")


def test_pruning_takes_predictions_as_a_whole(flights: pa.Table, model: Any, tmp_path: Path):
    from mxpipe.jobs.retention import Policy, prune

    rows = poison(flights, {"hour": {3: "noon"}})
    done = predict_rows(rows, model, tmp_path / "predictions" / "late")
    assert done.errors is not None
    for manifest in Path(done.uri).rglob("manifest.json"):
        os.utime(manifest, (0, 0))
    found = prune(tmp_path / "runs", Policy(keep_last=0), snapshots=[tmp_path / "predictions"])
    assert [item.path for item in found] == [done.uri]
    assert names_in(tmp_path / "predictions") == []
