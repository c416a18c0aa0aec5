"""The example DAGs on real data that packages carry: Airflow, the engine and MLflow, to predictions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mxpipe.data import Snapshot

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One state directory for all examples, so that Airflow's database is made once."""
    return tmp_path_factory.mktemp("examples")


def run(state: Path, example: str, *configurations: dict[str, Any]) -> list[dict[str, Any]]:
    """What the stages of each run returned."""
    record = state / f"{example}.json"
    script = [
        sys.executable,
        str(REPOSITORY / "scripts" / "run_example.py"),
        example,
        "--record",
        str(record),
    ]
    found = subprocess.run(
        [*script, *map(json.dumps, configurations)],
        env=os.environ | {"MXPIPE_STATE": str(state)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    stages: list[dict[str, Any]] = json.loads(record.read_text())
    for one in stages:
        assert all(len(json.dumps(manifest)) < 8192 for manifest in one.values())
    return stages


def assert_every_row_is_predicted(stages: dict[str, Any], rows: int) -> None:
    """By the champion, one prediction a row, none refused."""
    predicted = stages["predict"]
    assert (predicted["rows"], predicted["predicted"], predicted["refused"]) == (rows, rows, 0)
    assert Snapshot.open(predicted["uri"]).num_rows == rows


def test_digits_from_batch_to_batch(state: Path) -> None:
    first, second, again = run(state, "digits", {"batch": 1}, {"batch": 2}, {"batch": 2})
    assert first["resolve_champion"]["mode"] == "bootstrap"
    assert [stages["gate"]["decision"] for stages in (first, second)] == ["PROMOTE", "PROMOTE"]
    assert second["resolve_champion"]["version"] == "1"
    assert second["evaluate"]["candidate"]["accuracy"] > 0.95
    # The champion has not met the hands of the second batch.
    assert second["evaluate"]["candidate"]["log_loss"] < second["evaluate"]["champion"]["log_loss"]
    assert again["register"]["created"] is False
    assert again["train"]["attempt"] == 1, "no second job was started"
    assert again["evaluate"]["candidate"] == second["evaluate"]["candidate"]
    assert_every_row_is_predicted(first, 450)
    assert_every_row_is_predicted(second, 900)
    assert again["predict"]["reused"], "the same rows and the same model are not computed again"


def test_a_recommender_from_year_to_year(state: Path) -> None:
    first, second = run(state, "recommender", {"year": 2000}, {"year": 2001})
    assert first["ingest"]["notes"]["rows"] == 31131
    assert first["evaluate"]["candidate"]["skill"] > 0
    assert second["evaluate"]["champion"]["rows"] == second["evaluate"]["candidate"]["rows"]
    assert second["evaluate"]["comparison"]["metric"] == "rmse"
    assert_every_row_is_predicted(second, second["split"]["holdout_rows"])
    assert second["evaluate"]["comparison"]["groups"] < second["evaluate"]["comparison"]["rows"]


def test_a_forecast_that_a_backtest_lets_through(state: Path) -> None:
    (stages,) = run(state, "demand_forecast", {"partition": "2013-03"})
    windows = stages["backtest_split"]
    assert [window["holdout_rows"] for window in windows] == [504, 504, 504]  # 3 airports, 7 days of hours
    assert len({window["digest"] for window in windows}) == 3
    assert len({trial["job_id"] for trial in stages["backtest_train"]}) == 3
    assert min(stages["backtest"]["skills"]) > 0
    assert stages["evaluate"]["candidate"]["skill"] > 0
    assert stages["register"]["version"] == "1"
    assert_every_row_is_predicted(stages, 504)
