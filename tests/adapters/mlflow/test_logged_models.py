"""A model is logged once for a key, whatever became of the attempts before."""

from __future__ import annotations

from typing import Any

import mlflow

from mxpipe_mlflow.client import KEY_TAG
from mxpipe_mlflow.logged_models import log_folder_once
from mxpipe_mlflow.tracking import find_or_create_run


def test_a_killed_attempt_is_not_left_pending(trained_models: Any, tracking_uri: str, name: str) -> None:
    client = mlflow.MlflowClient(tracking_uri)
    run_id = find_or_create_run(client, name, name)
    experiment_id = client.get_run(run_id).info.experiment_id
    killed = client.create_logged_model(
        experiment_id, name="model", source_run_id=run_id, tags={KEY_TAG: name}
    )
    logged = log_folder_once(client, trained_models.first, run_id, name)
    assert logged.model_id != killed.model_id
    assert logged.status.name == "READY"
    assert client.get_logged_model(killed.model_id).status.name == "FAILED"
    assert log_folder_once(client, trained_models.first, run_id, name).model_id == logged.model_id
    # An attempt on another machine that was alive after all is not in the way.
    assert client.finalize_logged_model(killed.model_id, "READY").status.name == "READY"
