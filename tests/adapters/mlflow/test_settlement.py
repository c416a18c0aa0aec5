"""Whoever finds a job ended tells MLflow so, where the job itself could not."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mxpipe.jobs import JobState, LocalLauncher
from mxpipe.jobs.reaper import reap
from mxpipe.train import TrainSpec
from mxpipe_mlflow import tracking
from mxpipe_mlflow.settlement import is_settled, main, settle


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def write(folder: Path, *records: dict[str, Any], torn: str = "") -> None:
    """A spool as a training leaves it."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "mlflow.jsonl").write_text(lines + torn)


def start(name: str, **fields: Any) -> dict[str, Any]:
    known = {"experiment": name, "key": name, "run_name": name, "tags": {}, "attempt": 1, "step": 0}
    return {"event": "start", "time": time.time(), "parameters": {"seed": "7"}, **known, **fields}


def status_of(client: Any, name: str, uri: str) -> str:
    run_id = tracking.find_run(name, name, tracking_uri=uri)
    return str(client.get_run(run_id).info.status)


@pytest.fixture
def client(tracking_uri: str) -> Any:
    return mlflow.MlflowClient(tracking_uri)


def test_a_training_that_lost_its_last_words_is_killed_in_mlflow(
    tmp_path: Path, client: Any, tracking_uri: str, name: str
) -> None:
    metrics = {"event": "metrics", "time": time.time(), "step": 3, "values": {"loss": 0.5}}
    write(tmp_path, start(name), metrics, torn='{"event": "end", "sta')
    assert not is_settled(tmp_path)
    assert settle(tmp_path, JobState.INTERRUPTED, tracking_uri=tracking_uri)
    assert status_of(client, name, tracking_uri) == "KILLED"
    run_id = tracking.find_run(name, name, tracking_uri=tracking_uri)
    assert client.get_run(run_id).data.metrics == {"loss": 0.5}
    assert is_settled(tmp_path)
    assert not settle(tmp_path, JobState.FAILED, tracking_uri=tracking_uri), "once is enough"
    assert status_of(client, name, tracking_uri) == "KILLED"


def test_a_run_that_is_at_work_again_is_left_alone(
    tmp_path: Path, client: Any, tracking_uri: str, name: str
) -> None:
    from mxpipe.train.run_directory import RunDirectory

    write(tmp_path, start(name))
    with RunDirectory(tmp_path).acquire_lease():
        assert not settle(tmp_path, JobState.CANCELLED, tracking_uri=tracking_uri)
    assert tracking.find_run(name, name, tracking_uri=tracking_uri) is None


def test_it_works_as_a_command_and_says_when_the_server_is_away(
    tmp_path: Path, client: Any, tracking_uri: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    write(tmp_path, start(name, tracking_uri="http://127.0.0.1:9"))
    assert main([str(tmp_path), "FAILED"]) == 1
    assert not is_settled(tmp_path)
    assert settle(tmp_path, JobState.FAILED, tracking_uri=tracking_uri), "the words are kept until it is back"
    assert status_of(client, name, tracking_uri) == "FAILED"


def test_an_address_with_a_password_is_not_kept(tmp_path: Path) -> None:
    from mxpipe_mlflow.tracking import _kept

    assert _kept("http://user:secret@mlflow:5000") is None
    assert _kept("http://mlflow:5000") == "http://mlflow:5000"


@pytest.mark.slow
def test_the_reaper_closes_the_run_of_a_job_that_nobody_retries(
    trained_models: Any, client: Any, tracking_uri: str, name: str, tmp_path: Path
) -> None:
    stored = json.loads((trained_models.first.parent / "spec.json").read_text())["spec"]
    launcher = LocalLauncher(tmp_path / "jobs")
    spec = TrainSpec.from_json(stored | {"epochs": 100_000})
    callbacks = {"mlflow": {"tracking_uri": tracking_uri, "experiment": name, "key": name}}
    job = launcher.submit(spec, name, callbacks=callbacks)
    wait_until(lambda: tracking.find_run(name, name, tracking_uri=tracking_uri))
    os.kill(launcher.poll(job.id).pid or 0, signal.SIGKILL)
    wait_until(lambda: launcher.poll(job.id).state is JobState.INTERRUPTED)
    assert status_of(client, name, tracking_uri) == "RUNNING"

    would = reap(launcher.root, grace_seconds=0.0, dry_run=True)
    assert "tell mlflow that it is INTERRUPTED" in [finding.action for finding in would]
    assert status_of(client, name, tracking_uri) == "RUNNING"
    reap(launcher.root, grace_seconds=0.0)
    assert status_of(client, name, tracking_uri) == "KILLED"
    assert reap(launcher.root, grace_seconds=0.0) == []
