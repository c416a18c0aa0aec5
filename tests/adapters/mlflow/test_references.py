"""A registered version keeps the run and the snapshot that it came from."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mxpipe.data import write_snapshot
from mxpipe.errors import TrackingError
from mxpipe.jobs.retention import Policy, prune
from mxpipe.model import model_digest
from mxpipe.train import JobState, RunDirectory, TrainSpec
from mxpipe_mlflow import references, registry


def test_what_is_registered_is_not_pruned(
    trained_models: Any, tracking_uri: str, name: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    week_ago = time.time() - 7 * 86400
    models = {"kept": trained_models.first, "gone": trained_models.second}
    for run_name, model in models.items():
        write_snapshot(work / "snapshots" / run_name, {"x": [1.0], "name": [run_name]})
        os.utime(work / "snapshots" / run_name / "manifest.json", (week_ago, week_ago))
        run = RunDirectory(work / "runs" / run_name)
        spec = TrainSpec({"builder": "mlp"}, {"train": "t", "features": {"label": "y"}}, epochs=1)
        with run.acquire_lease():
            run.initialise(spec, key=run_name)
            for state in (JobState.RUNNING, JobState.SUCCEEDED):
                run.write_status(run.read_status().replace(state=state))
        shutil.copytree(model, run.model_path)
        os.utime(run.status_path, (week_ago, week_ago))
    registry.publish_once(
        name,
        work / "runs" / "kept" / "model",
        "K1",
        experiment=name,
        tags={
            "mxpipe.train_snapshot": str(work / "snapshots" / "kept"),
            "mxpipe.model_digest": model_digest(work / "runs" / "kept" / "model"),
        },
        tracking_uri=tracking_uri,
    )
    rules = {"snapshots": [work / "snapshots"], "dry_run": True}
    policy = Policy(older_than_days=3)
    found = prune(work / "runs", policy, references=references.registered(tracking_uri), **rules)
    assert [Path(finding.path).name for finding in found] == ["gone", "gone"]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert list(references.registered()) == []
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError):
        prune(work / "runs", policy, references=references.registered("http://127.0.0.1:9"), **rules)
    mlflow.MlflowClient(tracking_uri).delete_registered_model(name)
    found = prune(work / "runs", policy, references=references.registered(tracking_uri), **rules)
    assert len(found) == 4
