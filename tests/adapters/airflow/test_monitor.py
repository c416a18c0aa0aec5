"""Monitor and canary on a real Airflow: one event a window, and a share that goes back unless all is well."""

from __future__ import annotations

import datetime
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WEEK = {"window": "2013-W07", "start": "2013-02-11", "end": "2013-02-18"}
NEXT_WEEK = {"window": "2013-W08", "start": "2013-02-18", "end": "2013-02-25"}
LATER = {"window": "2013-W10", "start": "2013-03-04", "end": "2013-03-11"}


def flights(rows: int, first_day: str, farther: float = 1.0, truthful: bool = True) -> dict[str, Any]:
    """Rows of a week, as those that the models of ``trained_models`` were trained on."""
    random = np.random.default_rng(7)
    carriers = ["UA", "DL", "AA", "B6", "EV"]
    carrier, hour = random.integers(0, 5, rows), random.integers(5, 24, rows)
    distance = random.gamma(2.0, 500.0, rows)
    chance = 1 / (1 + np.exp(1.5 - 0.15 * (hour - 12) - 0.4 * (carrier - 2) + distance / 3000))
    late = (random.random(rows) < chance).astype(np.int64)
    start = datetime.date.fromisoformat(first_day)
    return {
        "day": [start + datetime.timedelta(days=row % 7) for row in range(rows)],
        "distance": distance * farther,
        "hour": hour,
        "carrier": [carriers[place] for place in carrier],
        "late": late if truthful else 1 - late,
    }


@pytest.fixture(scope="module")
def version(trained_models: Any, airflow_database: None) -> str:
    """The first model, registered and champion."""
    from mxpipe_mlflow import registry

    uri = json.loads(os.environ["AIRFLOW_CONN_MXPIPE_DEFAULT"])["extra"]["tracking_uri"]
    registered = registry.publish_once("monitored", trained_models.first, "a" * 64, tracking_uri=uri)
    registry.promote("monitored", registered.version, None, tracking_uri=uri)
    return registered.version


def write(tmp_path: Path, name: str, *weeks: dict[str, Any]) -> str:
    from mxpipe.data import write_snapshot

    rows = {column: [value for week in weeks for value in week[column]] for column in weeks[0]}
    return write_snapshot(tmp_path / name, rows).uri


def asset_events(name: str) -> list[str]:
    """Windows of the events that Airflow has of a monitor's asset."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = (
            select(AssetEvent.extra)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetModel.uri == f"mxpipe://monitors/{name}")
            .order_by(AssetEvent.id)
        )
        return [extra["window"] for extra in session.scalars(query)]


def events(root: Path, name: str) -> list[str]:
    from mxpipe.monitor import MonitorDirectory

    return [event.window for event in MonitorDirectory(root / "monitors" / name).events.read()[0]]


def test_a_window_that_has_drifted_schedules_retraining_once(
    root: Path, start_run: Any, version: str, tmp_path: Path
) -> None:
    from airflow.models.asset import AssetDagRunQueue
    from airflow.utils.session import create_session
    from sqlalchemy import select

    rows = write(
        tmp_path,
        "rows",
        flights(2000, "2013-02-11"),
        flights(2000, "2013-02-18", farther=2.5),
        flights(2000, "2013-02-25", farther=2.5),
    )
    stable = start_run("monitoring", snapshot=rows, **WEEK)
    outcome = stable.attempt("snapshot")
    assert outcome.state == "success", outcome.error
    manifest = stable.xcom("snapshot")
    assert (manifest["verdict"], manifest["rows"], manifest["version"]) == ("stable", 2000, version)
    assert (manifest["event"], manifest["announced"]) == (None, False)
    assert manifest["performance"]["auc"] > 0.6
    assert asset_events("monitored") == [], "no event of the asset where nothing has drifted"

    drifted = start_run("monitoring", snapshot=rows, **NEXT_WEEK)
    assert drifted.attempt("snapshot").state == "success"
    manifest = drifted.xcom("snapshot")
    assert (manifest["verdict"], manifest["event"], manifest["announced"]) == ("drift", "appended", True)
    assert "distance" in manifest["drifted"]
    assert Path(manifest["report_uri"]).read_text().count("<svg") >= 3
    assert asset_events("monitored") == events(root, "monitored") == ["2013-W08"]
    with create_session() as session:
        waiting = session.scalars(select(AssetDagRunQueue.target_dag_id)).all()
    assert list(waiting) == ["retrain_on_drift"]

    # Cleared and run again, and once more by another run: nothing is added.
    drifted.clear("snapshot")
    assert drifted.attempt("snapshot").state == "success"
    again = start_run("monitoring", snapshot=rows, **NEXT_WEEK)
    assert again.attempt("snapshot").state == "success"
    assert (again.xcom("snapshot")["event"], again.xcom("snapshot")["announced"]) == ("present", False)
    # The week after is too close.
    close = start_run("monitoring", snapshot=rows, window="2013-W09", start="2013-02-25", end="2013-03-04")
    assert close.attempt("snapshot").state == "success"
    assert close.xcom("snapshot")["event"] == "cooling_down"
    assert asset_events("monitored") == events(root, "monitored") == ["2013-W08"]


def test_a_kill_between_event_and_success_loses_no_retraining(
    root: Path, start_run: Any, version: str, tmp_path: Path
) -> None:
    """The line is on the disk, the task ended before Airflow heard of it: the retry tells it."""
    from mxpipe.monitor import DriftEvent, MonitorDirectory

    end = "2013-03-11T00:00:00+00:00"
    MonitorDirectory(root / "monitors" / "monitored").events.append(
        DriftEvent("monitored", LATER["window"], "2013-03-04T00:00:00+00:00", end, 2000)
    )
    known = asset_events("monitored")
    rows = write(tmp_path, "rows", flights(2000, LATER["start"], farther=2.5))
    run = start_run("monitoring", snapshot=rows, **LATER)
    assert run.attempt("snapshot").state == "success"
    manifest = run.xcom("snapshot")
    assert (manifest["event"], manifest["announced"]) == ("present", True)
    assert events(root, "monitored") == [LATER["window"]]
    assert asset_events("monitored") == [*known, LATER["window"]]


def test_a_model_that_has_become_bad_is_drift_without_any_column(
    root: Path, start_run: Any, version: str, tmp_path: Path
) -> None:
    rows = write(tmp_path, "rows", flights(2000, "2013-05-06", truthful=False))
    window = {"window": "2013-W19", "start": "2013-05-06", "end": "2013-05-13"}
    run = start_run("monitoring", snapshot=rows, **window)
    assert run.attempt("snapshot").state == "success"
    manifest = run.xcom("snapshot")
    assert (manifest["verdict"], manifest["drifted"]) == ("drift", {})
    assert manifest["reasons"][0].startswith("auc 0.")


def test_windows_of_servers_and_of_batch_predictions(
    root: Path, start_run: Any, version: str, trained_models: Any, tmp_path: Path
) -> None:
    from mxpipe.batch import predict_snapshot, resolve_model
    from mxpipe.data import Snapshot
    from mxpipe.model import load_model
    from mxpipe.monitor import MonitorDirectory, PredictionStatistics, Window

    model = load_model(trained_models.first)
    directory = MonitorDirectory(root / "monitors" / "served")
    window = Window.of(WEEK["window"], WEEK["start"], WEEK["end"])
    for writer in ("one", "two"):
        columns = flights(600, WEEK["start"], farther=2.5)
        statistics = PredictionStatistics.of_model(model)
        statistics.update(columns, model.predict(columns))
        directory.write(version, window.start, window.end, writer, statistics)
    run = start_run("monitoring", version=version, **WEEK)
    assert run.attempt("served").state == "success"
    assert (run.xcom("served")["verdict"], run.xcom("served")["rows"]) == ("drift", 1200)
    quiet = start_run("monitoring", version=version, **NEXT_WEEK)
    assert quiet.attempt("served").state == "success"
    assert quiet.xcom("served")["verdict"] == "too_few_rows"

    rows = write(tmp_path, "rows", flights(800, WEEK["start"]))
    predictions = predict_snapshot(
        Snapshot.open(rows), resolve_model(str(trained_models.first)), tmp_path / "predictions"
    )
    run = start_run("monitoring", predictions=predictions.uri, **WEEK)
    assert run.attempt("batch").state == "success"
    assert (run.xcom("batch")["verdict"], run.xcom("batch")["rows"]) == ("stable", 800)


def test_without_a_champion_there_is_nothing_to_look_at(root: Path, start_run: Any) -> None:
    assert start_run("monitoring", **WEEK).attempt("nothing").state == "skipped"


# ------------------------------------------------------------------------------------------------- canary


class Traffic:
    """Clients that ask a server all the time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.statuses: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        import httpx

        with httpx.Client(trust_env=False, timeout=30.0) as client:
            seed = 0
            while not self._stop.is_set():
                seed += 1
                random = np.random.default_rng(seed)
                columns = {
                    "distance": random.gamma(2.0, 500.0, 8).tolist(),
                    "hour": random.integers(5, 24, 8).tolist(),
                    "carrier": random.choice(["UA", "DL"], 8).tolist(),
                }
                self.statuses.append(
                    client.post(f"{self.url}/invocations", json={"inputs": columns}).status_code
                )

    def end(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def server(trained_models: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The first model is served; the second one and a bad one are candidates."""
    from mxpipe.serve import process

    folder = tmp_path_factory.mktemp("server")
    handle = process.start(
        model=trained_models.first,
        name="late",
        state_file=folder / "server.json",
        arguments=[f"--candidate={trained_models.second}"],
    )
    yield handle
    process.stop(handle.state_file)


@pytest.fixture
def traffic(server: Any) -> Iterator[Traffic]:
    from mxpipe.serve import client

    client.write_split(server.url, "late", {})
    clients = Traffic(server.url)
    yield clients
    clients.end()
    assert set(clients.statuses) == {200}


def split(server: Any) -> dict[str, Any]:
    from mxpipe.serve import client

    return client.read_split(server.url, "late")


NONE = {"canary": None, "share": 0.0, "shadow": None}


def test_a_canary_that_does_well_keeps_its_share(
    root: Path, start_run: Any, server: Any, traffic: Traffic, trained_models: Any
) -> None:
    from mxpipe.model import model_digest

    second = model_digest(trained_models.second)[:12]
    conf = {"url": server.url, "version": second, "share": "0.4"}
    run = start_run("monitoring", **conf)
    outcome = run.attempt("canary")
    assert outcome.state == "success", outcome.error
    manifest = run.xcom("canary")
    assert (manifest["passed"], manifest["reused"], manifest["before"]) == (True, False, NONE)
    assert manifest["measured"]["canary"]["rows"] >= 100
    assert manifest["measured"]["canary"]["errors"] == 0
    now = split(server)
    assert (now["split"], now["before"]) == ({**NONE, "canary": second, "share": 0.4}, None)
    again = start_run("monitoring", **conf)
    assert again.attempt("canary").state == "success"
    assert again.xcom("canary")["reused"]
    assert again.xcom("canary")["key"] == manifest["key"]


def test_a_canary_that_fails_gives_its_share_back_and_is_not_retried(
    root: Path, start_run: Any, server: Any, traffic: Traffic, trained_models: Any, monkeypatch: Any
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from mxpipe.model import model_digest
    from mxpipe.serve import canary, client

    kept = {**NONE, "canary": model_digest(trained_models.second)[:12], "share": 0.1}
    client.write_split(server.url, "late", kept)
    # No model fails on demand: the bound is put where any latency is too much.
    monkeypatch.setattr(canary, "_latency_failures", lambda *_: ["the latency is too high"])
    run = start_run("monitoring", url=server.url, version=kept["canary"], share="0.5")
    outcome = run.attempt("canary")
    assert isinstance(outcome.error, AirflowFailException)
    assert "GateRejectedError" in str(outcome.error)
    assert "the latency is too high" in str(outcome.error)
    now = split(server)
    assert (now["split"], now["before"]) == (kept, None)


@pytest.mark.slow
def test_a_canary_whose_worker_is_killed_gives_its_share_back(
    root: Path, start_run: Any, server: Any, trained_models: Any
) -> None:
    """SIGTERM: by the task. SIGKILL: the server keeps the lease, which a test need not sit out."""
    from mxpipe.model import model_digest
    from mxpipe.serve import client

    client.write_split(server.url, "late", {})
    second = model_digest(trained_models.second)[:12]
    for number, leased in ((signal.SIGTERM, False), (signal.SIGKILL, True)):
        run = start_run("monitoring", url=server.url, version=second, share="0.3")
        run.queue("canary")
        worker = run.start_worker("canary")
        deadline = time.monotonic() + 120
        while split(server)["split"]["canary"] != second:  # no traffic: it waits for its sample
            assert worker.poll() is None, worker.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(worker.pid, number)
        worker.communicate()
        now = split(server)
        if leased:
            assert (now["split"]["canary"], now["before"]) == (second, NONE)
        else:
            assert (now["split"], now["before"]) == (NONE, None)
    # The retry starts from what was there before the killed attempt.
    traffic = Traffic(server.url)
    outcome = run.attempt("canary", retry=True)
    traffic.end()
    assert outcome.state == "success", outcome.error
    assert run.xcom("canary")["before"] == NONE
