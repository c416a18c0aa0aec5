"""The environment in which Airflow, MLflow and the jobs of the main job run: everything under one state
directory."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
STATE = Path(os.environ.get("MXPIPE_STATE", REPOSITORY / "var")).absolute()
THREADS = 2


def environment(state: Path = STATE) -> dict[str, str]:
    """Environment variables that point every part at its place under ``state``.

    Args:
        state: The state directory; made if it is not there.

    Returns:
        Variables to add to the process's own.
    """
    home, mlflow = state / "airflow", state / "mlflow"
    for folder in (home, mlflow, state / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    connection = {
        "conn_type": "mxpipe",
        "extra": {"root": str(state), "tracking_uri": tracking_uri(state), "threads": THREADS},
    }
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        # Its parts share one SQLite file: who finds it locked waits his turn.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        # A supervisor may notice the end of its task only after this time; 5 s by default.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secret(home / "jwt_secret"),
        "AIRFLOW_CONN_MXPIPE_DEFAULT": json.dumps(connection),
        "MLFLOW_TRACKING_URI": tracking_uri(state),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONWARNINGS": "ignore",
    }


def tracking_uri(state: Path = STATE) -> str:
    """MLflow's tracking and registry database."""
    return f"sqlite:///{state}/mlflow/mlflow.db"


def secret(path: Path) -> str:
    """A secret that stays the same from start to start."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(64))
    return path.read_text()


def migrate() -> None:
    """Bring Airflow's database to the installed version, or make it. Needs the environment set."""
    from airflow.utils import db

    db.initdb()
