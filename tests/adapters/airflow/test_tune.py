"""The search operators on a real Airflow: mapped trials, a parent run, pruning, no trial trained twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run's configuration: a training on rows that a line tells apart."""
    from mxpipe.data import write_snapshot

    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("train", 0), ("validation", 1)):
        x, y = np.random.default_rng(seed).normal(size=(2, 256))
        write_snapshot(folder / name, {"x": x, "y": y, "label": (x + y > 0).astype(np.int32)})
    spec = {
        "model": {"builder": "logistic_regression"},
        "data": {
            "train": str(folder / "train"),
            "validation": str(folder / "validation"),
            "features": {"numeric": ["x", "y"], "label": "label"},
            "batch_size": 16,
        },
        "epochs": 6,
        "threads": 1,
        "checkpoint": {"every_steps": 40},
    }
    return {"spec": spec, "digest": "d1"}


def starts(root: Path) -> Counter[str]:
    """How often each job began to train."""
    from mxpipe.train import read_events

    counts: Counter[str] = Counter()
    for path in (root / "jobs").glob("*/events.jsonl"):
        counts[path.parent.name] = sum(event["event"] == "start" for event in read_events(path))
    return counts


def xcom(run: Any, task_id: str, map_index: int = -1) -> Any:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        query = XComModel.get_many(
            run_id=run.run_id,
            key="return_value",
            task_ids=task_id,
            dag_ids=run.dag_id,
            map_indexes=map_index,
        )
        row = session.execute(query).first()
        return None if row is None else XComModel.deserialize_value(row[0])


def study_of(root: Path) -> Any:
    from mxpipe.tune import Study

    (folder,) = (root / "studies").iterdir()
    return Study.open(folder)


def wait_until(condition: Any, seconds: float = 180.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)
    return value


@pytest.mark.slow
def test_a_search_by_tpe_runs_each_trial_once_and_returns_the_best(
    root: Path, start_run: Any, conf: dict[str, Any]
) -> None:
    dag = start_run("tune_tpe", **conf).dag  # known to the database now
    run = dag.test(run_conf=conf)
    assert run.state == "success"
    manifest = xcom(run, "best")
    study = study_of(root)
    assert manifest["counts"] == {"COMPLETE": 3}
    assert manifest["value"] == min(trial.value for trial in study.trials())
    assert manifest["parameters"] == study.best().parameters
    assert (Path(manifest["model_uri"]) / "weights.safetensors").exists()
    assert Path(manifest["report"]).read_text().count("<svg") == 3
    assert set(starts(root).values()) == {1}
    again = dag.test(run_conf=conf)
    assert xcom(again, "best")["model_digest"] == manifest["model_digest"]
    assert set(starts(root).values()) == {1}, "the same search is not run twice"


@pytest.mark.slow
def test_a_worker_killed_in_a_trial_leaves_its_job_and_the_retry_trains_once(
    root: Path, start_run: Any, conf: dict[str, Any]
) -> None:
    longer = {**conf, "spec": {**conf["spec"], "epochs": 300}}
    first = start_run("tune_one", **longer)
    assert first.attempt("trials").state == "success"
    (trial,) = first.xcom("trials")
    run = start_run("tune_one", **longer, trial=trial)
    run.queue("trial")
    worker = run.start_worker("trial")
    wait_until(lambda: sum(starts(root).values()))
    worker.kill()
    worker.wait()
    outcome = run.attempt("trial", retry=True)
    assert outcome.state == "success", outcome.error
    manifest = run.xcom("trial")
    assert manifest["state"] == "COMPLETE"
    assert manifest["attempt"] == 1
    assert manifest["study"] == trial.split("/")[0]
    assert set(starts(root).values()) == {1}
    study = study_of(root)
    assert [(known.number, known.state) for known in study.trials()] == [(0, "COMPLETE")]
    assert study.trials()[0].value == manifest["value"]


def test_a_trial_that_is_given_up_succeeds_without_a_model(
    root: Path, start_run: Any, conf: dict[str, Any]
) -> None:
    from mxpipe.jobs import LocalLauncher
    from mxpipe.tune import TrialState

    endless = {**conf, "spec": {**conf["spec"], "epochs": 100_000}}
    first = start_run("tune_one", **endless)
    assert first.attempt("trials").state == "success"
    study = study_of(root)
    study.suggest(1)  # one that was better from the start
    study.tell(1, TrialState.COMPLETE, 1e-6, values=dict.fromkeys(range(1, 5000), 1e-6))
    run = start_run("tune_one", **endless, trial=f"{study.directory.name}/0")
    outcome = run.attempt("trial")
    assert outcome.state == "success", outcome.error
    manifest = run.xcom("trial")
    assert manifest["state"] == "PRUNED"
    assert "model_uri" not in manifest
    ((_, status),) = LocalLauncher(root / "jobs").list()
    assert str(status.state) == "CANCELLED"
    assert set(starts(root).values()) == {1}


@pytest.mark.slow
def test_deferred_trials_stand_below_a_parent_run_and_a_killed_one_trains_on(
    root: Path, start_run: Any, conf: dict[str, Any]
) -> None:
    from mlflow import MlflowClient

    from mxpipe.jobs import LocalLauncher
    from mxpipe.jobs.process import ProcessIdentity
    from mxpipe.jobs.reaper import reap

    longer = {**conf, "spec": {**conf["spec"], "epochs": 60}}
    killed: list[str] = []

    def kill_a_job() -> None:
        """End the first job that has a checkpoint, once."""
        launcher = LocalLauncher(root / "jobs")
        deadline = time.monotonic() + 240
        while not killed and time.monotonic() < deadline:
            for path in (root / "jobs").glob("*/checkpoints/step-*"):
                run = launcher.run_directory(path.parent.parent.name)
                identity = ProcessIdentity.from_json(run.read_process())
                if identity is not None and identity.signal(signal.SIGKILL):
                    killed.append(run.path.name)
                    return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_a_job, daemon=True)
    killer.start()
    run = start_run("tune_random", **longer).dag.test(run_conf=longer)
    killer.join()
    assert run.state == "success"
    manifest = xcom(run, "best")
    assert killed
    assert sum(manifest["counts"].values()) == 4
    counts = starts(root)
    assert len(counts) == 4
    assert counts.pop(killed[0]) == 2, "it was resumed"
    assert set(counts.values()) <= {1}
    # A job tells MLflow of its end beside the pipeline; what it has not got done the reaper does.
    launcher = LocalLauncher(root / "jobs")
    wait_until(lambda: not any(launcher.run_directory(job).is_lease_held() for job, _ in launcher.list()))
    reap(launcher.root)
    client = MlflowClient(f"sqlite:///{os.environ['AIRFLOW_HOME']}/mlflow.db")
    experiment = client.get_experiment_by_name("search")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert parent.info.run_id == manifest["parent_run_id"]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mxpipe.best_trial"] == str(manifest["trial"])
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert len(children) == 4
    assert sorted(run.data.tags["airflow.map_index"] for run in children) == ["0", "1", "2", "3"]
    assert {run.info.status for run in children} <= {"FINISHED", "KILLED"}
