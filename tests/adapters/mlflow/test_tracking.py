"""The callback: one run for a key, each step once, whatever happens to the training or to the server."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mxpipe.errors import SpecificationError, TrackingError
from mxpipe.jobs import LocalLauncher
from mxpipe.train import JobState, JobStatus, RunContext, TrainSpec, fit
from mxpipe_mlflow import tracking
from mxpipe_mlflow.sender import Sender
from mxpipe_mlflow.spool import Spool

STEPS = 20


@pytest.fixture
def spec() -> TrainSpec:
    return TrainSpec({"builder": "mlp"}, {"train": "snapshot", "features": {"label": "late"}}, epochs=1)


@pytest.fixture
def context(spec: TrainSpec, name: str, tmp_path: Path) -> Callable[[int], RunContext]:
    """The context of an attempt."""
    return lambda attempt: RunContext(spec, name, tmp_path, attempt, STEPS)


@pytest.fixture
def client(tracking_uri: str) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri)


def report(callback: tracking.MlflowCallback, context: RunContext, first: int, last: int) -> None:
    for step in range(first, last + 1):
        callback.on_step(context, step, {"loss": 1.0 / step, "rows_per_second": 1000.0 * context.attempt})


def steps(client: mlflow.MlflowClient, run_id: str, metric: str = "loss") -> list[int]:
    return [point.step for point in client.get_metric_history(run_id, metric)]


class TestRun:
    def test_a_training_becomes_a_finished_run(
        self, context: Callable[[int], RunContext], client: Any, tracking_uri: str, name: str
    ) -> None:
        callback = tracking.MlflowCallback(tracking_uri, name, run_name="january", tags={"month": "2013-01"})
        callback.on_start(context(1), 0)
        report(callback, context(1), 1, STEPS)
        callback.on_epoch(context(1), 1, STEPS, {"validation_auc": 0.71})
        callback.on_end(context(1), JobStatus(JobState.SUCCEEDED, name))

        assert callback.run_id == tracking.find_run(name, name, tracking_uri=tracking_uri)
        run = client.get_run(callback.run_id)
        assert (run.info.status, run.info.run_name) == ("FINISHED", "january")
        assert run.data.params["model.builder"] == "mlp"
        assert (
            run.data.tags.items() >= {"month": "2013-01", "mxpipe.key": name, "mxpipe.attempt": "1"}.items()
        )
        assert run.data.metrics["validation_auc"] == 0.71
        assert steps(client, callback.run_id) == list(range(1, STEPS + 1))

    @pytest.mark.parametrize(
        ("state", "status"),
        [(JobState.FAILED, "FAILED"), (JobState.CANCELLED, "KILLED"), (JobState.INTERRUPTED, "KILLED")],
    )
    def test_how_a_run_ends(
        self,
        context: Callable[[int], RunContext],
        client: Any,
        tracking_uri: str,
        name: str,
        state: Any,
        status: str,
    ) -> None:
        callback = tracking.MlflowCallback(tracking_uri, name)
        callback.on_start(context(1), 0)
        callback.on_end(context(1), JobStatus(state, name))
        assert client.get_run(callback.run_id).info.status == status

    def test_a_resumed_training_goes_on_in_the_same_run(
        self, context: Callable[[int], RunContext], client: Any, tracking_uri: str, name: str
    ) -> None:
        """It repeats the steps after its checkpoint; MLflow gets each of them once, with its first value."""
        first = tracking.MlflowCallback(tracking_uri, name)
        first.on_start(context(1), 0)
        report(first, context(1), 1, 12)
        first.on_end(context(1), JobStatus(JobState.INTERRUPTED, name))
        second = tracking.MlflowCallback(tracking_uri, name)
        second.on_start(context(2), 8)
        report(second, context(2), 9, STEPS)
        second.on_end(context(2), JobStatus(JobState.SUCCEEDED, name))

        assert second.run_id == first.run_id
        run = client.get_run(second.run_id)
        assert (run.info.status, run.data.tags["mxpipe.attempt"]) == ("FINISHED", "2")
        assert steps(client, second.run_id) == list(range(1, STEPS + 1))
        rates = [point.value for point in client.get_metric_history(second.run_id, "rows_per_second")]
        assert rates == [1000.0] * 12 + [2000.0] * (STEPS - 12)

    def test_a_run_whose_training_was_killed_hard_can_be_closed(
        self, context: Callable[[int], RunContext], client: Any, tracking_uri: str, name: str
    ) -> None:
        assert tracking.end_run(name, name, tracking_uri=tracking_uri) is False
        run_id = tracking.find_or_create_run(client, name, name)
        assert tracking.end_run(name, name, tracking_uri=tracking_uri) is True
        assert client.get_run(run_id).info.status == "KILLED"
        assert tracking.end_run(name, name, tracking_uri=tracking_uri) is False

    def test_real_training(
        self, trained_models: Any, tracking_uri: str, client: Any, name: str, tmp_path: Path
    ) -> None:
        spec_file = json.loads((trained_models.first.parent / "spec.json").read_text())
        spec = TrainSpec.from_json(spec_file["spec"])
        callback = tracking.from_config({"tracking_uri": tracking_uri, "experiment": name})
        result = fit(spec, tmp_path / "run", key=name, callbacks=[callback])
        assert result.status.state is JobState.SUCCEEDED
        run = client.get_run(callback.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.metrics["train_loss"] == pytest.approx(result.metrics["train_loss"])
        assert steps(client, callback.run_id)[-1] == result.steps

    def test_a_run_names_the_airflow_task_that_made_it(
        self, client: Any, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "flight_delays")
        monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "train")
        tags = client.get_run(tracking.find_or_create_run(client, name, name)).data.tags
        assert (tags["airflow.dag_id"], tags["airflow.task_id"]) == ("flight_delays", "train")

    @pytest.mark.slow
    def test_a_detached_job_that_is_killed_and_submitted_again(
        self, trained_models: Any, tracking_uri: str, client: Any, name: str, tmp_path: Path
    ) -> None:
        """SIGKILL in the middle: the same run goes on, ends FINISHED, and has every step once."""
        stored = json.loads((trained_models.first.parent / "spec.json").read_text())["spec"]
        checkpoint = {"every_steps": 20, "every_seconds": None}
        spec = TrainSpec.from_json(stored | {"epochs": 60, "checkpoint": checkpoint})
        launcher = LocalLauncher(tmp_path)
        callbacks = {"mlflow": {"tracking_uri": tracking_uri, "experiment": name}}
        job = launcher.submit(spec, name, callbacks=callbacks)
        wait_until(lambda: launcher.poll(job.id).step >= 50)
        status = launcher.poll(job.id)
        assert status.pid is not None
        os.kill(status.pid, signal.SIGKILL)
        wait_until(lambda: launcher.poll(job.id).state is JobState.INTERRUPTED)

        launcher.submit(spec, name, callbacks=callbacks)
        wait_until(lambda: launcher.poll(job.id).state is JobState.SUCCEEDED)
        wait_until(
            lambda: (
                (found := tracking.find_run(name, name, tracking_uri=tracking_uri)) is not None
                and client.get_run(found).info.status == "FINISHED"
            )
        )
        run_id = tracking.find_run(name, name, tracking_uri=tracking_uri)
        assert run_id is not None
        logged = steps(client, run_id)
        assert len(client.search_runs([client.get_run(run_id).info.experiment_id])) == 1
        assert logged == sorted(set(logged))
        assert logged[-1] == launcher.poll(job.id).total_steps
        assert client.get_run(run_id).data.tags["mxpipe.attempt"] == "2"

    def test_configuration_must_be_known(self) -> None:
        with pytest.raises(SpecificationError, match="password"):
            tracking.from_config({"password": "x"})


class TestOutage:
    def test_training_goes_on_and_the_spool_is_replayed_in_order(
        self,
        context: Callable[[int], RunContext],
        client: Any,
        tracking_uri: str,
        name: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        away = tracking.MlflowCallback("http://127.0.0.1:9", name, flush_seconds=0.5)
        started = time.monotonic()
        for attempt, first, last, state in (
            (1, 1, 12, JobState.INTERRUPTED),
            (2, 9, STEPS, JobState.SUCCEEDED),
        ):
            away.on_start(context(attempt), first - 1)
            report(away, context(attempt), first, last)
            away.on_end(context(attempt), JobStatus(state, name))
        assert time.monotonic() - started < 10
        wait_until_free(tmp_path)

        assert tracking.replay(tmp_path, tracking_uri=tracking_uri) > 0
        run_id = tracking.find_run(name, name, tracking_uri=tracking_uri)
        assert run_id is not None
        assert client.get_run(run_id).info.status == "FINISHED"
        assert steps(client, run_id) == list(range(1, STEPS + 1))
        assert tracking.replay(tmp_path, tracking_uri=tracking_uri) == 0

    def test_what_was_sent_but_not_noted_is_not_sent_twice(
        self, context: Callable[[int], RunContext], client: Any, tracking_uri: str, name: str, tmp_path: Path
    ) -> None:
        """As when the process is killed between the server's answer and the note of it."""
        callback = tracking.MlflowCallback(tracking_uri, name)
        callback.on_start(context(1), 0)
        report(callback, context(1), 1, STEPS)
        callback.on_end(context(1), JobStatus(JobState.SUCCEEDED, name))
        (tmp_path / "mlflow.json").unlink()
        wait_until_free(tmp_path)
        assert tracking.replay(tmp_path, tracking_uri=tracking_uri) > 0
        assert tracking.find_run(name, name, tracking_uri=tracking_uri) == callback.run_id
        assert steps(client, callback.run_id) == list(range(1, STEPS + 1))

    def test_a_server_that_comes_back_gets_everything(
        self,
        context: Callable[[int], RunContext],
        client: Any,
        tracking_uri: str,
        name: str,
        monkeypatch: Any,
    ) -> None:
        """The server refuses the connection at first; the sender tries again by itself."""
        outage, tries = threading.Event(), []
        outage.set()
        send = Sender._send

        def send_unless_away(self: Sender, batch: Any) -> None:
            if outage.is_set():
                tries.append(batch)
                raise ConnectionError("the server is away")
            send(self, batch)

        monkeypatch.setattr(Sender, "_send", send_unless_away)
        callback = tracking.MlflowCallback(tracking_uri, name)
        callback.on_start(context(1), 0)
        report(callback, context(1), 1, 5)
        while not tries:
            time.sleep(0.05)
        outage.clear()
        report(callback, context(1), 6, STEPS)
        callback.on_end(context(1), JobStatus(JobState.SUCCEEDED, name))
        assert steps(client, callback.run_id) == list(range(1, STEPS + 1))

    def test_a_record_that_is_refused_does_not_hold_up_the_others(
        self, context: Callable[[int], RunContext], client: Any, tracking_uri: str, name: str
    ) -> None:
        callback = tracking.MlflowCallback(tracking_uri, name)
        callback.on_start(context(1), 0)
        report(callback, context(1), 1, 3)
        callback.on_step(context(1), 4, {"what?*is:this": 1.0})
        report(callback, context(1), 5, 6)
        callback.on_end(context(1), JobStatus(JobState.SUCCEEDED, name))
        assert steps(client, callback.run_id) == [1, 2, 3, 5, 6]
        assert client.get_run(callback.run_id).info.status == "FINISHED"

    def test_a_deleted_run_is_told_again(
        self, context: Callable[[int], RunContext], client: Any, tracking_uri: str, name: str, tmp_path: Path
    ) -> None:
        """Someone deletes the run between two attempts: the second makes a new one for what follows."""
        first = tracking.MlflowCallback(tracking_uri, name)
        first.on_start(context(1), 0)
        report(first, context(1), 1, 12)
        first.on_end(context(1), JobStatus(JobState.INTERRUPTED, name))
        client.delete_run(first.run_id)
        second = tracking.MlflowCallback(tracking_uri, name)
        second.on_start(context(2), 8)
        report(second, context(2), 9, STEPS)
        second.on_end(context(2), JobStatus(JobState.SUCCEEDED, name))
        assert second.run_id != first.run_id
        assert steps(client, second.run_id) == list(range(9, STEPS + 1))
        assert client.get_run(second.run_id).info.status == "FINISHED"

    def test_one_process_sends_at_a_time(self, tmp_path: Path, tracking_uri: str) -> None:
        with Spool(tmp_path).sending(), pytest.raises(TrackingError, match="one process may send"):
            tracking.replay(tmp_path, tracking_uri=tracking_uri)

    def test_a_torn_line_is_passed_over(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path)
        spool.append("metrics", step=1, values={"loss": 1.0})
        spool.close()
        with open(tmp_path / "mlflow.jsonl", "a") as file:
            file.write('{"event": "metrics", "st')
        assert [record.fields["step"] for record in Spool(tmp_path).pending()] == [1]
        resumed = Spool(tmp_path)
        resumed.append("metrics", step=2, values={"loss": 0.5})
        assert [record.fields["step"] for record in resumed.pending()] == [1, 2]


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_free(directory: Path) -> None:
    """Until the callback's own thread has let go of the spool."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with Spool(directory).sending():
                return
        except TrackingError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
