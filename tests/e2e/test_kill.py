"""Killed at any moment and retried, the same bytes: real jobs, real SIGKILL, points nobody chose by hand."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from mxpipe.data import write_snapshot
from mxpipe.jobs import JobState, LocalLauncher
from mxpipe.jobs.process import ProcessIdentity
from mxpipe.train import RunDirectory, TrainSpec, read_events, read_history

KEY = "flights-2013-01"


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
    launcher = LocalLauncher(tmp_path_factory.mktemp("undisturbed"))
    handle = launcher.submit(spec, KEY)
    assert launcher.wait(handle.id, timeout=120).state is JobState.SUCCEEDED, launcher.logs(handle.id)[0]
    return handle.run_directory


def kill_at(launcher: LocalLauncher, spec: TrainSpec, step: int, delay: float) -> None:
    """Submit the job, let it come to a step, wait a little, and kill it."""
    handle = launcher.submit(spec, KEY)
    run = RunDirectory(handle.run_directory)
    while not any(e["event"] == "step" and e["step"] >= step for e in read_events(run.events_path)):
        assert launcher.poll(handle.id).state.is_active, launcher.logs(handle.id)[0]
        time.sleep(0.002)
    time.sleep(delay)
    identity = ProcessIdentity.from_json(run.read_process())
    assert identity is not None
    assert identity.signal(signal.SIGKILL), "the job was done before the kill"
    while launcher.poll(handle.id).state.is_active:
        time.sleep(0.005)
    assert launcher.poll(handle.id).state is JobState.INTERRUPTED


def assert_same_result(launcher: LocalLauncher, spec: TrainSpec, undisturbed: Path, attempts: int) -> None:
    handle = launcher.submit(spec, KEY)
    status = launcher.wait(handle.id, timeout=120)
    assert status.state is JobState.SUCCEEDED, launcher.logs(handle.id)[0]
    assert status.attempt == attempts
    for name in ("weights.safetensors", "model.json"):
        expected = (undisturbed / "model" / name).read_bytes()
        assert (handle.run_directory / "model" / name).read_bytes() == expected, name
    for kind, field in (("step", "loss"), ("epoch", "metrics")):
        mine, theirs = (
            [(event["step"], event[field]) for event in read_history(folder / "events.jsonl", kind)]
            for folder in (handle.run_directory, undisturbed)
        )
        assert mine == theirs


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
