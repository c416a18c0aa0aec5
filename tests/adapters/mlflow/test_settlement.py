"""Closing the run of a training that could not do it itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest

from mxpipe.errors import StorageError
from mxpipe.jobs import JobState
from mxpipe_mlflow.settlement import settle
from mxpipe_mlflow.spool import Spool
from mxpipe_mlflow.tracking import find_or_create_run


def test_a_full_disk_leaves_no_run_open(
    tracking_uri: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end cannot be queued any more: MLflow is told without the queue.

    The disk is pretended here, since MLflow's database lies on the same one; ``tests/faults`` fills one.
    """
    client = mlflow.MlflowClient(tracking_uri)
    run_id = find_or_create_run(client, name, name)
    spool = Spool(tmp_path)
    spool.append("start", key=name, experiment=name)
    spool.append("metrics", step=1, values={"loss": 1.0})
    spool.close()

    def full(*_: Any, **__: Any) -> None:
        raise StorageError("[mlflow.jsonl] the file must be writable; got No space left on device.")

    monkeypatch.setattr(Spool, "append", full)
    assert settle(tmp_path, JobState.INTERRUPTED, tracking_uri=tracking_uri)
    assert client.get_run(run_id).info.status == "KILLED"
    assert not settle(tmp_path, JobState.INTERRUPTED, tracking_uri=tracking_uri)
