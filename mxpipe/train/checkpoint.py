"""Checkpoints: everything a training needs to go on as if nothing had happened.

::

    checkpoints/step-000000120/state.safetensors    parameters, optimizer state
    checkpoints/step-000000120/state.json           step, random state, loader state, metrics; digests of both
    files

A checkpoint folder is filled aside, flushed and renamed: its name exists only when its contents do. The
reader trusts the digests alone, and takes the newest checkpoint that passes.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy.typing as npt

from mxpipe.errors import ModelFormatError
from mxpipe.model.safetensors import read_safetensors, write_safetensors_to
from mxpipe.model.storage import canonical_digest, file_digest, publish_folder, require_space, write_json
from mxpipe.train.faults import fault_point

_LOG = logging.getLogger(__name__)
_TENSORS, _STATE, _PREFIX = "state.safetensors", "state.json", "step-"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """One moment of a training.

    Attributes:
        step: Optimizer steps done.
        tensors: Name to array.
        state: JSON values: random state, loader state, counters, metrics.
    """

    step: int
    tensors: Mapping[str, npt.NDArray[Any]]
    state: Mapping[str, Any]


class _HalfwayFile:
    """Passes writes on, and the fault point once half of the bytes are written."""

    def __init__(self, file: BinaryIO, total: int) -> None:
        self._file, self._half, self._written = file, total // 2, 0

    def write(self, data: Any) -> int:
        view = memoryview(data)
        before, self._written = self._written, self._written + view.nbytes
        if before <= self._half < self._written:
            cut = max(0, self._half - before)
            self._file.write(view[:cut])
            self._file.flush()
            fault_point("checkpoint.half_written")
            view = view[cut:]
        return self._file.write(view)


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Publish a checkpoint and remove all but the newest `keep`.

    Returns:
        The checkpoint's folder.

    Raises:
        StorageError: The disk is full; the older checkpoints are untouched.
    """
    target = folder / f"{_PREFIX}{checkpoint.step:09d}"
    total = sum(array.nbytes for array in checkpoint.tensors.values())
    require_space(target, total)
    with publish_folder(target) as aside:
        path = aside / _TENSORS
        with open(path, "wb") as file:
            write_safetensors_to(cast(BinaryIO, _HalfwayFile(file, total)), checkpoint.tensors)
            file.flush()
            os.fsync(file.fileno())
        state = {
            "format_version": FORMAT_VERSION,
            "step": checkpoint.step,
            "tensors": {"size": path.stat().st_size, "sha256": file_digest(path)},
            "state": dict(checkpoint.state),
        }
        write_json(aside / _STATE, state | {"sha256": canonical_digest(state)})
        fault_point("checkpoint.before_rename")
    fault_point("checkpoint.after_rename")
    for old in list(_folders_newest_first(folder))[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint and check its digests.

    Raises:
        ModelFormatError: A file is missing, truncated or changed.
    """
    try:
        state = json.loads((path / _STATE).read_bytes())
        claimed = state.pop("sha256")
        if canonical_digest(state) != claimed:
            raise ModelFormatError(
                f"[{path / _STATE}] the contents must match their sha256; got another digest."
            )
        if state["format_version"] != FORMAT_VERSION:
            raise ModelFormatError(
                f"[{path / _STATE}] format_version must be {FORMAT_VERSION}; got {state['format_version']}."
            )
        if file_digest(path / _TENSORS) != state["tensors"]["sha256"]:
            raise ModelFormatError(f"[{path / _TENSORS}] the file must match its sha256; got another digest.")
        tensors = read_safetensors(path / _TENSORS, bfloat16="bits").tensors
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ModelFormatError):
            raise
        raise ModelFormatError(f"[{path}] the checkpoint must be whole; got {error!r}.") from error
    return Checkpoint(state["step"], tensors, state["state"])


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest valid checkpoint of a folder, or None; what is not valid is removed, and the log says so."""
    for path in _folders_newest_first(folder):
        try:
            return read_checkpoint(path)
        except ModelFormatError as error:
            _LOG.warning("left out a checkpoint: %s", error)
            shutil.rmtree(path, ignore_errors=True)
    return None


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a folder."""
    for path in _folders_newest_first(folder):
        shutil.rmtree(path, ignore_errors=True)


def _folders_newest_first(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(folder.glob(f"{_PREFIX}*"), reverse=True)


class CheckpointWriter:
    """Writes checkpoints beside the computation, one at a time, as tasks of the dependency engine.

    The arrays handed over must not change any more: the caller copies them first, which takes a small part of
    the time that digest and disk take. An error surfaces at the next call.

    Example:
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder, CheckpointWriter(Path(folder), keep=2) as writer:
        ...     writer.write(Checkpoint(1, {"weight": np.zeros(3, np.float32)}, {"epoch": 0}))
        ...     writer.wait()
        ...     newest_checkpoint(Path(folder)).state
        {'epoch': 0}
    """

    def __init__(
        self, folder: Path, keep: int, on_written: Callable[[int, Path], None] = lambda step, path: None
    ) -> None:
        """Prepare to write into `folder`, and call `on_written(step, path)` from the thread that waits."""
        from mxpipe import _native

        self._folder, self._keep, self._on_written = folder, keep, on_written
        self._engine = _native.DependencyEngine(1)
        self._on_disk = self._engine.variable()
        self._pending = False
        self._written: tuple[int, Path] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._pending and self._written is None

    def write(self, checkpoint: Checkpoint) -> None:
        """Begin to write a checkpoint, after the one before it is done.

        Raises:
            StorageError: The one before could not be written.
        """
        self.wait()

        def task() -> None:
            self._written = checkpoint.step, write_checkpoint(self._folder, checkpoint, self._keep)

        where = f"checkpoint of step {checkpoint.step}"
        self._written, self._pending = None, True
        self._engine.push(task, reads=[], writes=[self._on_disk], where=where)

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            StorageError: The disk is full; the older checkpoints are untouched.
        """
        if not self._pending:
            return
        self._pending = False
        self._engine.wait(self._on_disk)
        if self._written is not None:
            self._on_written(*self._written)

    def close(self) -> None:
        """Let the write in progress end; an error of it is only logged."""
        try:
            self.wait()
        except Exception as error:  # another error is on its way out, or the caller has waited before
            _LOG.warning("the last checkpoint could not be written: %s", error)
        self._engine.close()

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
