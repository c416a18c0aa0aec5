"""Kills jobs for real, and compares what becomes of them with what nobody disturbed."""

from __future__ import annotations

import signal
import time
from collections.abc import Collection
from pathlib import Path

from mxpipe.jobs import JobState, LocalLauncher
from mxpipe.jobs.process import ProcessIdentity
from mxpipe.train import RunDirectory, TrainSpec, read_events, read_history

KEY = "flights-2013-01"


def run_undisturbed(spec: TrainSpec, root: Path, builders: Collection[str] = ()) -> Path:
    """The run directory of a job that nobody disturbs."""
    launcher = LocalLauncher(root)
    handle = launcher.submit(spec, KEY, builders=builders)
    assert launcher.wait(handle.id, timeout=120).state is JobState.SUCCEEDED, launcher.logs(handle.id)[0]
    return handle.run_directory


def kill_at(
    launcher: LocalLauncher, spec: TrainSpec, step: int, delay: float, builders: Collection[str] = ()
) -> None:
    """Submit the job, let it come to a step, wait a little, and kill it."""
    handle = launcher.submit(spec, KEY, builders=builders)
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


def assert_same_result(
    launcher: LocalLauncher, spec: TrainSpec, undisturbed: Path, attempts: int, builders: Collection[str] = ()
) -> None:
    """Let the job end, and compare its model and its history byte by byte."""
    handle = launcher.submit(spec, KEY, builders=builders)
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
