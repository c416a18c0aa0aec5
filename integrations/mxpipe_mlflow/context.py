"""Tags of the Airflow task on every MLflow run (entry point group ``mlflow.run_context_provider``).

MLflow loads this while it is itself being imported, and asks for two methods rather than for its base class,
so that nothing of MLflow is imported here.
"""

from __future__ import annotations

import os

# Airflow sets these in the environment of a running task; a detached job inherits them.
_VARIABLES = {
    "airflow.dag_id": "AIRFLOW_CTX_DAG_ID",
    "airflow.run_id": "AIRFLOW_CTX_DAG_RUN_ID",
    "airflow.task_id": "AIRFLOW_CTX_TASK_ID",
    "airflow.try_number": "AIRFLOW_CTX_TRY_NUMBER",
}


class AirflowRunContext:
    """Names the DAG, its run, the task and the try."""

    def in_context(self) -> bool:
        """Whether an Airflow task is running."""
        return "AIRFLOW_CTX_DAG_ID" in os.environ

    def tags(self) -> dict[str, str]:
        """The tags that are known."""
        return {tag: os.environ[variable] for tag, variable in _VARIABLES.items() if variable in os.environ}
