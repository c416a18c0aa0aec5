"""Two of the same, several against each other, and data that is not what it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disturbance import FINISHED, Outcome, columns, write_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_same_month_twice(make_training: Callable[..., Any], snapshot: Any, matrix: Any) -> None:
    """Two runs at the same time: both wait for one job, and hold one version."""
    training = make_training()
    training.start(snapshot, copies=2)
    outcome = matrix["The same month triggered twice at once"] = training.outcome()
    assert outcome == FINISHED
    assert training.task(copy=1)["state"] == "success"
    assert [training.task("register", copy)["state"] for copy in (0, 1)] == ["success", "success"]


def test_runs_race_to_promote(
    make_training: Callable[..., Any], standalone: Any, api: Any, undisturbed: Path, matrix: Any
) -> None:
    """Four candidates that were compared with the same champion: one replaces it, the others fail at once."""
    from mxpipe_mlflow import registry

    training = make_training()
    name, where = training.name, {"tracking_uri": standalone.mlflow_url}
    for number in range(5):
        registry.publish_once(name, undisturbed, f"key {number}", experiment=name, **where)
    registry.promote(name, "1", None, **where)
    champion = {"version": "1", "current": "1", "alias": "champion"}
    runs = {f"{name}-{version}": str(version) for version in range(2, 6)}
    for run_id, version in runs.items():
        conf = {"conn_id": name, "model": name, "champion": champion}
        conf["registered"] = {"version": version, "created": True}
        api.trigger("promotion", run_id, conf)
    states = {run_id: api.wait("promotion", run_id, "promote") for run_id in runs}
    assert sorted(states.values()) == ["failed", "failed", "failed", "success"]
    assert {api.task("promotion", run_id, "promote")["try_number"] for run_id in runs} == {1}
    (winner,) = (version for run_id, version in runs.items() if states[run_id] == "success")
    current, previous = (registry.resolve(name, alias, **where) for alias in ("champion", "previous"))
    assert current is not None
    assert previous is not None
    assert (current.version, previous.version) == (winner, "1")
    matrix["Four runs race to promote"] = Outcome(
        task="1 success, 3 failed",
        attempts=1,
        jobs=0,
        starts=0,
        versions=training.versions(),
        processes=0,
        open_runs=0,
        run="-",
        weights="-",
    )


def flip_a_byte(snapshot: Any) -> None:
    """In the middle of a shard."""
    shard = next(path for path in Path(snapshot.uri).rglob("*") if path.is_file() and path.suffix != ".json")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)


def test_poisoned_snapshots(make_training: Callable[..., Any], tmp_path: Path, matrix: Any) -> None:
    """No retry helps, so none is made; nothing is registered, and the task says what is wrong."""
    labels = columns()["label"].astype(np.float64)
    labels[17] = np.nan
    flipped = write_rows(tmp_path / "flipped")
    flip_a_byte(flipped)
    poisoned = {
        "A byte of a shard flipped": (flipped, "must have sha256"),
        "A label that is NaN": (write_rows(tmp_path / "label", label=labels), "1 null or not finite"),
        "A number column that holds text": (
            write_rows(tmp_path / "text", x=columns()["kind"]),
            "column 'x' must be numeric",
        ),
    }
    trainings = {}
    for number, (fault, (snapshot, _)) in enumerate(poisoned.items()):
        trainings[fault] = make_training(root=tmp_path / str(number), suffix=f"_{number}")
        trainings[fault].start(snapshot, pace=0.0)
    for fault, training in trainings.items():
        outcome = matrix[fault] = training.outcome()
        assert outcome == FINISHED.but(task="failed", starts=0, versions=0, run="-", weights="-")
        assert poisoned[fault][1] in training.log()


def test_a_feature_that_is_nan(make_training: Callable[..., Any], tmp_path: Path, matrix: Any) -> None:
    """It counts as missing: the mean takes its place, and the weights stay finite."""
    from mxpipe.model.safetensors import read_safetensors

    numbers = columns()["x"]
    numbers[17] = np.nan
    training = make_training()
    training.start(write_rows(tmp_path / "nan", x=numbers), pace=0.0)
    outcome = training.outcome()
    ((job_id, _),) = training.launcher.list()
    model = training.launcher.run_directory(job_id).model_path
    weights = read_safetensors(model / "weights.safetensors").tensors
    assert all(np.isfinite(array).all() for array in weights.values())
    outcome = matrix["A feature that is NaN"] = outcome.but(weights="finite")
    assert outcome == FINISHED.but(weights="finite")
