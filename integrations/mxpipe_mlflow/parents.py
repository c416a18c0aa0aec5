"""A run above others: what a search or a backtest is in MLflow, with the runs of its trainings below it.

A child says whose it is by the tag ``mlflow.parentRunId``, which :class:`~mxpipe_mlflow.tracking
.MlflowCallback` takes like any other tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mxpipe_mlflow.client import locked, make_client, tracking_errors
from mxpipe_mlflow.sender import create_run, find_run_id

PARENT_TAG = "mlflow.parentRunId"
"""Tag of a child: the id of its parent."""


def open_parent(
    experiment: str,
    key: str,
    run_name: str,
    *,
    tags: Mapping[str, str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Make the parent run of a key, or open it again.

    Args:
        experiment: Its experiment; made when there is none.
        key: Names it: the same key gives the same run.
        run_name: Name of a new run.
        tags: Tags of a new run.
        parameters: What it is about; logged when it is made.
        tracking_uri: Server or database; None means MLflow's own setting.

    Returns:
        The run's id.

    Raises:
        TrackingError: The server cannot be reached.
    """
    from mlflow.entities import Param

    client = make_client(tracking_uri)
    with tracking_errors(f"opening the run {run_name}"), locked(str(tracking_uri), experiment, key):
        run_id = find_run_id(client, experiment, key)
        if run_id is not None:
            client.update_run(run_id, status="RUNNING")
            return run_id
        run_id = create_run(client, experiment, key, run_name, tags)
        client.log_batch(run_id, params=[Param(name, str(item)) for name, item in (parameters or {}).items()])
        return run_id


def end_parent(
    run_id: str,
    status: str,
    *,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    tracking_uri: str | None = None,
) -> None:
    """Close a parent run.

    Args:
        run_id: Its id.
        status: ``FINISHED`` or ``FAILED``.
        metrics: What came of it.
        tags: Further tags.
        tracking_uri: Server or database; None means MLflow's own setting.

    Raises:
        TrackingError: The server cannot be reached.
    """
    client = make_client(tracking_uri)
    with tracking_errors(f"closing the run {run_id}"):
        for name, value in (metrics or {}).items():
            client.log_metric(run_id, name, value)
        for name, text in (tags or {}).items():
            client.set_tag(run_id, name, text)
        client.set_terminated(run_id, status)
