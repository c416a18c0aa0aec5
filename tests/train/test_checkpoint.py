"""Checkpoints: exact, the newest valid one, and never at the cost of an older one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mxpipe.errors import ModelFormatError, StorageError
from mxpipe.train.checkpoint import (
    Checkpoint,
    CheckpointWriter,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)


def checkpoint(step: int, size: int = 1000) -> Checkpoint:
    random = np.random.default_rng(step)
    tensors = {"parameter/a": random.random(size).astype(np.float32), "optimizer/a": random.random((3, 2))}
    return Checkpoint(step, tensors, {"counters": {"step": step, "loss": 0.1 + 0.2}})


def test_a_checkpoint_comes_back_to_the_bit_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        write_checkpoint(tmp_path, checkpoint(step), keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step-000000002", "step-000000010"]
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert (newest.step, newest.state) == (10, checkpoint(10).state)
    for name, array in checkpoint(10).tensors.items():
        assert newest.tensors[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "damage", ["flip tensors", "flip state", "truncate", "remove", "empty state", "other json"]
)
def test_a_damaged_newest_checkpoint_falls_back_to_the_older(tmp_path: Path, damage: str) -> None:
    write_checkpoint(tmp_path, checkpoint(1), keep=2)
    newest = write_checkpoint(tmp_path, checkpoint(2), keep=2)
    tensors, state = newest / "state.safetensors", newest / "state.json"
    path = state if damage == "flip state" else tensors
    if damage.startswith("flip"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "truncate":
        os.truncate(tensors, 100)
    elif damage == "remove":
        tensors.unlink()
    else:
        state.write_text("" if damage == "empty state" else "[1]")
    with pytest.raises(ModelFormatError, match="step-000000002"):
        read_checkpoint(newest)
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1


def test_no_checkpoint_is_found_where_there_is_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "missing") is None


def test_a_full_disk_raises_and_the_older_checkpoint_survives(small_disk: Path) -> None:
    write_checkpoint(small_disk, checkpoint(1), keep=1)
    with pytest.raises(StorageError, match="step-000000002"):
        write_checkpoint(small_disk, checkpoint(2, size=1_000_000), keep=1)
    assert os.listdir(small_disk) == ["step-000000001"]
    found = newest_checkpoint(small_disk)
    assert found is not None
    assert found.step == 1


def test_the_writer_works_beside_the_caller_and_its_error_surfaces_at_the_next_call(small_disk: Path) -> None:
    written: list[int] = []
    with CheckpointWriter(small_disk, keep=2, on_written=lambda step, path: written.append(step)) as writer:
        writer.write(checkpoint(1))
        writer.write(checkpoint(2, size=1_000_000))
        assert written == [1]
        with pytest.raises(StorageError):
            writer.wait()
        writer.write(checkpoint(3))
    assert written == [1, 3]
    assert sorted(os.listdir(small_disk)) == ["step-000000001", "step-000000003"]


@pytest.mark.parametrize(
    "point", ["checkpoint.half_written", "checkpoint.before_rename", "checkpoint.after_rename"]
)
def test_a_kill_while_writing_leaves_the_older_or_the_whole_newer(tmp_path: Path, point: str) -> None:
    write_checkpoint(tmp_path, checkpoint(1), keep=2)
    code = (
        "import sys, numpy; from pathlib import Path; from mxpipe.train.checkpoint import *; "
        "write_checkpoint(Path(sys.argv[1]), Checkpoint(2, {'a': numpy.ones(100_000)}, {}), keep=2)"
    )
    environment = os.environ | {"MXPIPE_FAULT_POINT": f"{point}:1"}
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment)
    assert ended.returncode == -9
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == (2 if point == "checkpoint.after_rename" else 1)
