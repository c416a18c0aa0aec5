"""Logged models (MLflow's word for a saved model in an experiment), each at most once for a key."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe.errors import SpecificationError
from mxpipe_mlflow.client import KEY_TAG, quoted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature


def find_logged_model(client: MlflowClient, model_uri: str) -> LoggedModel:
    """The logged model of ``models:/m-...`` or ``runs:/run/name``.

    Raises:
        SpecificationError: The URI is neither, or the run has no such model.
    """
    scheme, _, rest = model_uri.partition(":/")
    if scheme == "models" and rest.startswith("m-"):
        return client.get_logged_model(rest)
    run_id, _, name = rest.partition("/")
    if scheme != "runs" or not name:
        raise SpecificationError(f"[model_uri] must be models:/m-... or runs:/run/name; got {model_uri!r}.")
    models = _of_run(client, run_id, f"name = {quoted(name)}")
    if not models:
        raise SpecificationError(
            f"[model_uri] {model_uri} must name a model that the run logged; it has none."
        )
    return models[0]


def log_folder_once(
    client: MlflowClient,
    folder: Path,
    run_id: str,
    key: str,
    input_example: Any = None,
    signature: ModelSignature | bool | None = None,
) -> LoggedModel:
    """Log a model folder to a run, or give back the one that this key logged before.

    The client alone is used, and none of MLflow's process-wide settings.

    Args:
        client: The server.
        folder: Folder that :func:`mxpipe.model.save_model` wrote.
        run_id: Run that made it.
        key: Idempotency key.
        input_example: Rows that the model can score.
        signature: None for the model's own; False for none.

    Raises:
        ModelFormatError: The folder holds no model.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    from mxpipe.model import load_model
    from mxpipe_mlflow.flavor import save_model

    condition = f"tags.`{KEY_TAG}` = {quoted(key)}"
    known = _of_run(client, run_id, condition)
    if known:
        return known[0]
    model = load_model(folder)  # before anything is made on the server
    experiment_id = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(
        experiment_id, name="model", source_run_id=run_id, tags={KEY_TAG: key}
    )
    description = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        run_id=run_id,
    )
    with tempfile.TemporaryDirectory() as aside:
        local = Path(aside, "model")
        save_model(model, local, mlflow_model=description, input_example=input_example, signature=signature)
        client.log_model_artifacts(logged.model_id, str(local))
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    # Only now can it be found. An attempt that was killed above has left a pending one: it has failed. One
    # that is at work on another machine after all makes itself ready in the end.
    for left in _of_run(client, run_id, condition, "PENDING"):
        if left.model_id != logged.model_id:
            client.finalize_logged_model(left.model_id, "FAILED")
    return client.finalize_logged_model(logged.model_id, "READY")


def _of_run(client: MlflowClient, run_id: str, condition: str, status: str = "READY") -> list[LoggedModel]:
    """The models of a run that are ready, or in another status, oldest first."""
    experiment_id = client.get_run(run_id).info.experiment_id
    query = f"source_run_id = {quoted(run_id)} and {condition}"
    models = client.search_logged_models([experiment_id], filter_string=query)
    found = [model for model in models if model.status.name == status]
    return sorted(found, key=lambda model: model.creation_timestamp)
