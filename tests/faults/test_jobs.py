"""Killed, marked, cleared: what is left of a training when a process or a person ends it in the middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from disturbance import FINISHED, kill, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_sigkill_of_the_job(make_training: Callable[..., Any], snapshot: Any, matrix: Any) -> None:
    training = make_training()
    training.start(snapshot)
    _, job = training.job_at(100)
    kill(job.pid)
    outcome = matrix["SIGKILL of the job"] = training.outcome()
    assert outcome == FINISHED.but(attempts=2, starts=2)
    assert "a retry resumes it" in training.log(1)


def test_sigkill_of_every_attempt(make_training: Callable[..., Any], snapshot: Any, matrix: Any) -> None:
    """A job that was killed cannot say so to MLflow: its run must be closed all the same."""
    training = make_training()
    training.start(snapshot)
    for attempt in (1, 2, 3):
        _, job = training.job_at(50, attempt)
        kill(job.pid)
    outcome = matrix["SIGKILL of the job, at each attempt"] = training.outcome()
    assert outcome == FINISHED.but(task="failed", attempts=3, starts=3, versions=0, run="KILLED", weights="-")


def test_sigkill_of_the_worker(
    make_training: Callable[..., Any], standalone: Any, snapshot: Any, matrix: Any
) -> None:
    """Of the task's process and of the executor's process above it: nobody reports anything to Airflow."""
    training = make_training()
    training.start(snapshot, dag_id="retraining_polled")
    training.job_at(50)
    for pid in with_parent(training.task()["pid"], standalone):
        kill(pid)
    outcome = matrix["SIGKILL of the worker that runs the task"] = training.outcome()
    assert outcome == FINISHED.but(attempts=2)
    assert "goes on with the job" in training.log(2)


def test_sigkill_of_the_worker_that_registers(
    make_training: Callable[..., Any], standalone: Any, snapshot: Any, matrix: Any
) -> None:
    """As soon as MLflow has the model: its retry must find it again, and its version if there is one."""
    training = make_training()
    training.start(snapshot, pace=0.0)
    wait_until(training.logged_models, "the model in MLflow")
    for pid in with_parent(training.task("register")["pid"], standalone):
        kill(pid)
    training.wait_for_runs()
    task = training.task("register")
    outcome = matrix["SIGKILL of the worker that registers"] = training.outcome(task)
    assert outcome == FINISHED.but(attempts=2)
    assert training.logged_models().count("READY") == 1
    assert "PENDING" not in training.logged_models()


def test_sigkill_of_the_triggerer(
    make_training: Callable[..., Any], standalone: Any, snapshot: Any, matrix: Any
) -> None:
    training = make_training()
    training.start(snapshot)
    training.job_at(50)
    training.wait(states=("deferred",))
    found = [pid for pid, line in standalone.processes() if "airflow triggerer" in line]
    assert found
    for pid in found:
        kill(pid)
    standalone.run("triggerer", ["airflow", "triggerer"])
    outcome = matrix["SIGKILL of the triggerer while the task is deferred"] = training.outcome()
    assert outcome == FINISHED


def test_marked_as_failed(make_training: Callable[..., Any], snapshot: Any, matrix: Any) -> None:
    training = make_training()
    training.start(snapshot)
    training.job_at(50)
    training.wait(states=("deferred",))
    training.api.mark(training.dag_id, training.run_ids[0], "train", "failed")
    wait_until(lambda: not training.processes(), "the job to end", 60)
    outcome = matrix["Marked as failed"] = training.outcome()
    assert outcome == FINISHED.but(task="failed", versions=0, run="KILLED", weights="-")


def test_cleared(make_training: Callable[..., Any], snapshot: Any, matrix: Any) -> None:
    training = make_training()
    training.start(snapshot)
    former, _ = training.job_at(50)
    training.wait(states=("deferred",))
    training.api.clear(training.dag_id, training.run_ids[0], ["train"])
    wait_until(lambda: len(training.launcher.list()) == 2, "a job of its own")
    assert not training.launcher.poll(former).state.is_active
    outcome = matrix["Cleared"] = training.outcome()
    assert outcome == FINISHED.but(attempts=2, jobs=2, starts=2)


def with_parent(pid: int, standalone: Any) -> list[int]:
    """A process and the one that started it, which must be of the same Airflow."""
    with open(f"/proc/{pid}/stat") as file:
        parent = int(file.read().rpartition(")")[2].split()[1])
    assert parent in {known for known, _ in standalone.processes()}
    return [parent, pid]
