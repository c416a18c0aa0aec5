"""Killed at any moment and retried, the same bytes: real jobs, real SIGKILL, points nobody chose by hand."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from killing import KEY, assert_same_result, kill_at, run_undisturbed

from mxpipe.data import write_snapshot
from mxpipe.jobs import JobState, LocalLauncher
from mxpipe.train import RunDirectory, TrainSpec


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> TrainSpec:
    """Some seconds of training with dropout, embeddings, a schedule and validation: all that has a state."""
    generator = np.random.default_rng(0)
    rows = 20_000
    tail = generator.integers(0, 500, rows)
    distance = generator.gamma(2.0, 500.0, rows)
    late = generator.random(rows) < 1 / (1 + np.exp(1.0 - np.sin(tail) - distance / 2000))
    columns = {"distance": distance, "tail": [f"N{number}" for number in tail], "late": late.astype(np.int64)}
    folder = tmp_path_factory.mktemp("data")
    write_snapshot(folder / "train", {name: values[:16_000] for name, values in columns.items()})
    write_snapshot(folder / "validation", {name: values[16_000:] for name, values in columns.items()})
    return TrainSpec.from_json(
        {
            "model": {
                "builder": "wide_and_deep",
                "arguments": {"hidden_units": [32], "dropout": 0.2, "norm": "batch"},
            },
            "data": {
                "train": str(folder / "train"),
                "validation": str(folder / "validation"),
                "features": {"numeric": ["distance"], "categorical": ["tail"], "label": "late"},
                "batch_size": 64,
            },
            "optimizer": {"name": "adam", "arguments": {"learning_rate": 0.003}},
            "schedule": {"name": "cosine", "arguments": {"warmup_steps": 20}},
            "metrics": ["auc"],
            "early_stopping": {"metric": "auc", "mode": "max", "patience": None},
            "epochs": 6,
            "seed": 11,
            "checkpoint": {"every_steps": 40, "every_seconds": None},
            "threads": 2,
        }
    )


@pytest.fixture(scope="module")
def undisturbed(spec: TrainSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a job that nobody disturbed."""
    return run_undisturbed(spec, tmp_path_factory.mktemp("undisturbed"))


def test_three_kills_at_random_points_change_no_byte(
    spec: TrainSpec, undisturbed: Path, tmp_path: Path
) -> None:
    points = random.Random(20130101)
    launcher = LocalLauncher(tmp_path)
    total = RunDirectory(undisturbed).read_status().step
    for third in range(3):
        step = points.randrange(third * total // 4 + 1, (third + 1) * total // 4)
        kill_at(launcher, spec, step, delay=points.uniform(0.0, 0.01))
    assert_same_result(launcher, spec, undisturbed, attempts=4)


@pytest.mark.parametrize(
    "point",
    [
        "checkpoint.half_written:2",
        "checkpoint.before_rename:3",
        "checkpoint.after_rename:1",
        "model.before_rename:1",
    ],
)
def test_a_kill_while_writing_changes_no_byte(
    spec: TrainSpec, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    launcher = LocalLauncher(tmp_path)
    monkeypatch.setenv("MXPIPE_FAULT_POINT", point)
    handle = launcher.submit(spec, KEY)
    status = launcher.wait(handle.id, timeout=120)
    assert status.state is JobState.INTERRUPTED, launcher.logs(handle.id)[0]
    half_written = os.listdir(handle.run_directory / "checkpoints") + os.listdir(handle.run_directory)
    assert any(name.endswith(".partial") for name in half_written) == (
        not point.startswith("checkpoint.after")
    )
    monkeypatch.delenv("MXPIPE_FAULT_POINT")
    assert_same_result(launcher, spec, undisturbed, attempts=2)
    left = os.listdir(handle.run_directory / "checkpoints") + os.listdir(handle.run_directory)
    assert not any(name.endswith(".partial") for name in left)
