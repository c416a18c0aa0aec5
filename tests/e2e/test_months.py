"""The main job as a newcomer runs it: a month through Airflow, Spark, the engine, MLflow, a server; twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flights import features

from mxpipe.data import Snapshot
from mxpipe.model import load_model
from mxpipe.train import TrainSpec, fit
from mxpipe.train.evaluation import auc

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty state directory; the server that a run leaves there is stopped at the end."""
    folder = tmp_path_factory.mktemp("state")
    yield folder
    script(folder, "stop_server.py")


def script(state: Path, name: str, *arguments: str) -> str:
    run = subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / name), *arguments],
        env=os.environ | {"MXPIPE_STATE": str(state)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def record(state: Path, month: str) -> dict[str, Any]:
    stages: dict[str, Any] = json.loads((state / "reports" / "months" / f"{month}.json").read_text())[
        "stages"
    ]
    return stages


def test_a_month_ends_in_a_served_champion_and_its_repetition_registers_nothing(state: Path) -> None:
    output = script(state, "run_months.py", "2013-01")
    first = record(state, "2013-01")
    notes = first["ingest"]["notes"]
    assert notes["flights"] == 27004
    assert notes["rows"] + notes["cancelled"] + notes["diverted"] == notes["flights"]
    assert first["split"]["train_rows"] + first["split"]["holdout_rows"] == notes["rows"]
    assert first["evaluate"]["candidate"]["auc"] > 0.65
    assert first["gate"]["decision"] == "PROMOTE"
    assert first["register"] | {"seconds": 0, "run_id": ""} == {
        "version": "1",
        "created": True,
        "key": first["train"]["key"],
        "seconds": 0,
        "run_id": "",
    }
    assert first["check_server"]["largest_difference"] <= 1e-6
    assert all(len(json.dumps(manifest)) < 8192 for manifest in first.values())
    assert "2013-01" in output
    assert "PROMOTE" in output

    request = urllib.request.Request(
        f"{first['deploy']['url']}/invocations",
        data=(state / "request.json").read_bytes(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        (probability,) = json.loads(response.read())["predictions"]
    assert 0 < probability < 1

    output = script(state, "run_months.py", "2013-01")
    second = record(state, "2013-01")
    assert second["ingest"]["reused"]
    assert second["register"]["version"] == "1"
    assert second["register"]["created"] is False
    assert second["train"]["attempt"] == 1, "no second job was started"
    assert second["evaluate"]["candidate"] == first["evaluate"]["candidate"]
    assert "1 (as before)" in output
    assert (state / "reports" / "flight_delays.html").stat().st_size > 10_000


def test_bfloat16_trains_a_flight_model_that_is_as_good(state: Path, tmp_path: Path) -> None:
    """Runs on the snapshots that the month before it has left."""
    split = record(state, "2013-01")["split"]
    holdout = Snapshot.open(split["holdout_uri"]).to_table().to_pydict()
    labels = holdout.pop(features.LABEL)
    aucs: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for precision, found in aucs.items():
        for seed in range(3):
            spec = TrainSpec.from_json(
                features.training(split["train_uri"]) | {"seed": seed, "precision": precision}
            )
            result = fit(spec, tmp_path / f"{precision}-{seed}")
            found.append(auc(labels, load_model(result.model_path).predict(holdout)))
    wide, narrow = (np.array(found) for found in aucs.values())
    assert abs(wide.mean() - narrow.mean()) < 0.003, aucs  # seeds alone move it by 0.0007
