"""A disk without a byte left: the training says so, and goes on to the same bytes when there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mxpipe.errors import StorageError
from mxpipe.train import Callback, JobState, RunDirectory, TrainSpec, fit, read_events


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class Fill(Callback):
    """Takes all that is left of the disk after a step, and remembers what it is told of the end."""

    def __init__(self, filler: Path) -> None:
        self.filler = filler
        self.end: Any = None

    def on_step(self, context: Any, step: int, metrics: Any) -> None:
        if step == 25:
            with suppress(OSError), open(self.filler, "wb", buffering=0) as file:
                while file.write(b"\0" * 4096):
                    pass

    def on_end(self, context: Any, status: Any) -> None:
        self.end = status


def test_a_full_disk_is_said_and_survived(make_spec: Callable[..., TrainSpec], disk: Path) -> None:
    spec, run = make_spec(), RunDirectory(disk / "run")
    fill = Fill(disk / "filler")
    with pytest.raises(StorageError):
        fit(spec, run.path, callbacks=[fill])
    status = run.read_status()
    assert status.state is fill.end.state is JobState.FAILED
    assert status.error is not None
    assert status.error["type"] == "StorageError"
    assert status.error["retryable"]
    assert list(read_events(run.events_path))[-1]["event"] == "end"
    fill.filler.unlink()
    assert fit(spec, run.path).status.state is JobState.SUCCEEDED
    assert not run.reserve_path.exists()
    fit(spec, disk / "whole")
    for name in ("weights.safetensors", "model.json"):
        assert (run.model_path / name).read_bytes() == (disk / "whole" / "model" / name).read_bytes()
