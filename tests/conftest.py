"""What tests of several areas share: two small trained models, and a whole Airflow; each is made once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class TrainedModels:
    """Two model folders of one signature: distance float64, hour int64, carrier string; one probability."""

    first: Path
    second: Path
    columns: dict[str, Any]  # rows to predict, nulls and a category that training never saw among them


def _flights(rows: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    carriers = ["UA", "DL", "AA", "B6", "EV"]
    carrier = random.integers(0, len(carriers), rows)
    distance = random.gamma(2.0, 500.0, rows)
    hour = random.integers(5, 24, rows)
    logit = -1.5 + 0.15 * (hour - 12) + 0.4 * (carrier - 2) - distance / 3000
    return {
        "distance": distance,
        "hour": hour,
        "carrier": [carriers[position] for position in carrier],
        "late": (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64),
    }


@pytest.fixture(scope="session")
def trained_models(tmp_path_factory: pytest.TempPathFactory) -> TrainedModels:
    """Trained on 600 made-up flights, with two seeds."""
    from mxpipe.data import write_snapshot
    from mxpipe.train import TrainSpec, fit

    folder = tmp_path_factory.mktemp("models")
    write_snapshot(str(folder / "snapshot"), _flights(600, seed=1))
    features = {"numeric": ["distance", "hour"], "categorical": ["carrier"], "label": "late"}
    paths = []
    for seed in (1, 2):
        spec = TrainSpec.from_json(
            {
                "model": {"builder": "wide_and_deep", "arguments": {"hidden_units": [8]}},
                "data": {"train": str(folder / "snapshot"), "features": features, "batch_size": 64},
                "optimizer": {"name": "adam", "arguments": {"learning_rate": 0.01}},
                "epochs": 2,
                "seed": seed,
            }
        )
        paths.append(fit(spec, folder / f"run-{seed}").model_path)
    columns = {"distance": [733.0, None, 2475.0], "hour": [8, 17, 22], "carrier": ["UA", "never seen", None]}
    return TrainedModels(paths[0], paths[1], columns)


@pytest.fixture(scope="session")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A whole Airflow (scheduler, triggerer, API) with the DAGs of ``standalone/dags``, and an MLflow server.

    One for the session. Its state directory is its own, as are its ports; nothing of it is left at the end.
    """
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    from services import Services

    with Services(tmp_path_factory.mktemp("standalone"), variables=standalone_variables()) as services:
        yield services


@pytest.fixture(scope="session")
def api(standalone: Any) -> Any:
    """The REST API of the session's Airflow."""
    from airflow_api import AirflowApi

    return AirflowApi(standalone.airflow_url)


def standalone_variables() -> dict[str, str]:
    """What makes an Airflow notice within seconds what it would else notice within minutes."""
    here = REPOSITORY / "tests" / "standalone"
    return {
        "AIRFLOW__CORE__DAGS_FOLDER": str(here / "dags"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        "PYTHONPATH": str(here),
    }
