"""Tags of the Airflow task on every MLflow run (entry point group ``mlflow.run_context_provider``).

MLflow loads this while it is itself being imported, and asks for two methods rather than for its base class,
so that nothing of MLflow is imported here, and nothing of Airflow anywhere: a task that runs has it loaded.
"""

from __future__ import annotations

import os
import sys

MAP_INDEX_VARIABLE = "AIRFLOW_CTX_MAP_INDEX"
"""Airflow has none for it: who starts a job from a mapped task sets it, so that the job knows its index."""

# Airflow sets the others in the environment of a running task; a detached job inherits them.
_VARIABLES = {
    "airflow.dag_id": "AIRFLOW_CTX_DAG_ID",
    "airflow.run_id": "AIRFLOW_CTX_DAG_RUN_ID",
    "airflow.task_id": "AIRFLOW_CTX_TASK_ID",
    "airflow.try_number": "AIRFLOW_CTX_TRY_NUMBER",
    "airflow.map_index": MAP_INDEX_VARIABLE,
}


class AirflowRunContext:
    """Names the DAG, its run, the task, the try, and the index of a mapped task."""

    def in_context(self) -> bool:
        """Whether an Airflow task is running."""
        return "AIRFLOW_CTX_DAG_ID" in os.environ

    def tags(self) -> dict[str, str]:
        """The tags that are known."""
        tags = {tag: os.environ[variable] for tag, variable in _VARIABLES.items() if variable in os.environ}
        map_index = _map_index()
        return tags if map_index is None else tags | {"airflow.map_index": str(map_index)}


def _map_index() -> int | None:
    """The index of the mapped task that runs in this very process, or None."""
    sdk = sys.modules.get("airflow.sdk")
    if sdk is None:
        return None
    try:
        index = int(sdk.get_current_context()["ti"].map_index)
    except Exception:  # no task runs here, and what that raises differs between versions of Airflow
        return None
    return index if index >= 0 else None
