"""Parsing a DAG file of the provider imports no host: what takes seconds is imported by the task alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
HOSTS = (
    "dask",
    "distributed",
    "matplotlib",
    "mlflow",
    "optuna",
    "pandas",
    "pyarrow",
    "pyspark",
    "scipy",
    "sklearn",
)


def parse(folder: str, module: str) -> tuple[list[str], list[str]]:
    """Import a DAG file in a fresh interpreter: its tasks, and the hosts that came with it."""
    script = (
        f"import sys, json; sys.path.insert(0, {folder!r}); import {module} as file\n"
        f"print(json.dumps([sorted(file.dag.task_dict), [m for m in {HOSTS!r} if m in sys.modules]]))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    tasks, hosts = json.loads(run.stdout.splitlines()[-1])
    return tasks, hosts


def test_a_dag_of_every_operator_imports_no_host() -> None:
    tasks, hosts = parse(str(Path(__file__).parent / "dags"), "every_operator")
    assert hosts == []
    assert {"MxpipeTrainOperator", "MxpipeInfraValidateOperator", "MxpipeRollbackOperator"} <= set(tasks)
    assert {"MxpipeDriftSensor", "MxpipeModelVersionSensor", "decorated_train"} <= set(tasks)


def test_the_flight_dag_imports_no_host() -> None:
    tasks, hosts = parse("dags", "flight_delays")
    assert hosts == []
    assert {"resolve_champion", "ingest", "validate", "split", "train", "evaluate", "gate"} <= set(tasks)
    assert {"register", "promote", "deploy", "check_server", "report"} <= set(tasks)


@pytest.mark.usefixtures("airflow_database")
def test_the_dag_survives_airflows_serialization_with_its_links_and_watchers() -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = DagBag(os.path.join(os.path.dirname(__file__), "dags"))
    assert not bag.import_errors
    dag: Any = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(bag.dags["every_operator"]))
    links = {task_id: set(task.extra_links) for task_id, task in dag.task_dict.items()}
    assert links["MxpipeTrainOperator"] == {"MLflow run"}
    assert links["MxpipeRegisterOperator"] == {"MLflow run", "Model version"}
    assert links["MxpipeEvaluateOperator"] == {"Report"}
    assert links["MxpipeDeployOperator"] == {"Server"}
