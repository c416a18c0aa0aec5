"""Batch prediction as a stage on a real Airflow: every engine, repeats, refusals, a worker killed at work."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MARK = "MXPIPE_TEST_MARK"


def make_snapshot(place: Path, rows: int, rows_per_shard: int) -> Any:
    from mxpipe.data import write_snapshot

    random = np.random.default_rng(3)
    columns = {
        "id": np.arange(rows),
        "distance": [None if row % 10 == 0 else row * 1.5 for row in range(rows)],
        "hour": random.integers(5, 24, rows),
        "carrier": [("UA", "DL", None)[code] for code in random.integers(0, 3, rows)],
    }
    return write_snapshot(place, columns, rows_per_shard=rows_per_shard)


@pytest.fixture
def snapshot(tmp_path: Path) -> Any:
    return make_snapshot(tmp_path / "rows", 1000, 300)


def predicted(start_run: Any, engine: str, **conf: Any) -> dict[str, Any]:
    run = start_run("batch", files="", **{name: str(value) for name, value in conf.items()})
    outcome = run.attempt(f"predict_{engine}")
    assert outcome.state == "success", outcome.error
    manifest: dict[str, Any] = run.xcom(f"predict_{engine}")
    assert len(json.dumps(manifest)) < 8192
    return manifest


def test_the_same_rows_and_model_are_predicted_once(
    root: Path, start_run: Any, snapshot: Any, trained_models: Any
) -> None:
    from mxpipe.batch import Predictions

    first = predicted(start_run, "local", snapshot=snapshot.uri, model=trained_models.first)
    again = predicted(start_run, "local", snapshot=snapshot.uri, model=trained_models.first)
    other = predicted(start_run, "local", snapshot=snapshot.uri, model=trained_models.second)
    assert (first["rows"], first["predicted"], first["refused"]) == (1000, 1000, 0)
    assert first["input_digest"] == snapshot.digest
    assert (first["reused"], again["reused"]) == (False, True)
    assert (again["uri"], again["digest"]) == (first["uri"], first["digest"])
    assert other["uri"] != first["uri"]
    done = Predictions.open(first["uri"])
    assert done.snapshot.to_table()["id"].to_pylist() == list(range(1000))
    assert done.statistics.rows == 1000


@pytest.mark.slow
def test_every_engine_gives_the_same_predictions(
    root: Path, start_run: Any, snapshot: Any, trained_models: Any
) -> None:
    import shutil

    digests = set()
    for engine in ("local", "dask", "spark"):
        shutil.rmtree(root / "predictions", ignore_errors=True)
        manifest = predicted(start_run, engine, snapshot=snapshot.uri, model=trained_models.first)
        assert not manifest["reused"]
        digests.add(manifest["digest"])
    assert len(digests) == 1


def test_an_alias_is_pinned_to_its_version(
    root: Path, start_run: Any, snapshot: Any, trained_models: Any
) -> None:
    from mxpipe_airflow.hooks.mxpipe import MxpipeHook
    from mxpipe_mlflow import registry

    tracking_uri = MxpipeHook().settings.tracking_uri
    versions = [
        registry.publish_once("batch", path, str(path), tracking_uri=tracking_uri).version
        for path in (trained_models.first, trained_models.second)
    ]
    registry.promote("batch", versions[1], expected=None, tracking_uri=tracking_uri)
    manifest = predicted(start_run, "local", snapshot=snapshot.uri, model="models:/batch@champion")
    assert manifest["model_uri"] == f"models:/batch/{versions[1]}"
    by_version = predicted(start_run, "local", snapshot=snapshot.uri, model=f"models:/batch/{versions[1]}")
    assert by_version["reused"]


def test_rows_that_do_not_fit_fail_at_once(
    root: Path, start_run: Any, tmp_path: Path, trained_models: Any
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from mxpipe.data import Snapshot, write_snapshot

    short = write_snapshot(tmp_path / "short", {"id": [1], "hour": [7]})
    run = start_run("batch", files="", snapshot=short.uri, model=str(trained_models.first))
    outcome = run.attempt("predict_local")
    assert isinstance(outcome.error, AirflowFailException)
    assert "column 'distance' must be in the rows" in str(outcome.error)

    rows = {"id": [1, 2], "distance": ["733", "far"], "hour": [7, 8], "carrier": ["UA", "UA"]}
    poisoned = write_snapshot(tmp_path / "poisoned", rows)
    conf = {"snapshot": poisoned.uri, "model": str(trained_models.first)}
    manifest = predicted(start_run, "local", **conf)
    assert (manifest["predicted"], manifest["reasons"]) == (1, {"distance: not a number": 1})
    assert Snapshot.open(manifest["errors_uri"]).to_table()["id"].to_pylist() == [2]
    outcome = start_run("batch", files="", max_refused="0.1", **conf).attempt("predict_local")
    assert isinstance(outcome.error, AirflowFailException)
    assert "at most 10.00% of the rows may be refused; got 1 of 2" in str(outcome.error)


def processes_with(mark: str) -> list[int]:
    """Processes that carry a mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(entry.name)] if state not in "ZX" else []
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "dask"])
def test_a_task_that_is_killed_leaves_no_process_and_its_retry_goes_on(
    root: Path,
    start_run: Any,
    tmp_path: Path,
    trained_models: Any,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
) -> None:
    from mxpipe.batch import PredictionOptions, predict_snapshot, resolve_model

    snapshot = make_snapshot(tmp_path / "many", 80_000, 2000)
    monkeypatch.setenv(MARK, tmp_path.name)
    run = start_run("batch", files="", snapshot=snapshot.uri, model=str(trained_models.first))
    run.queue(f"predict_{engine}")
    worker = run.start_worker(f"predict_{engine}")
    place = root / "predictions" / "batch"
    deadline = time.monotonic() + 120
    while not list(place.glob(".*.writing/part-*.json")):
        assert worker.poll() is None, worker.stdout.read().decode() if worker.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.005)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert not list(place.glob("*/manifest.json")), "nothing half made can be read"
    me = os.getpid()
    while left := [process for process in processes_with(tmp_path.name) if process != me]:
        assert time.monotonic() < deadline, f"{left} are left"
        time.sleep(0.05)

    kept = {path: path.stat().st_mtime_ns for path in place.glob(".*.writing/part-*.json")}
    assert 0 < len(kept) < 40
    outcome = run.attempt(f"predict_{engine}", retry=True)
    assert outcome.state == "success", outcome.error
    manifest = run.xcom(f"predict_{engine}")
    model, options = resolve_model(trained_models.first), PredictionOptions(keys=["id"])
    undisturbed = predict_snapshot(snapshot, model, tmp_path / "undisturbed", options)
    assert (manifest["rows"], manifest["digest"]) == (80_000, undisturbed.digest)
    assert [path.name for path in place.iterdir()] == [Path(manifest["uri"]).name]
