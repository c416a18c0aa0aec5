"""A run directory: everything about one training, in files that survive a kill at any moment.

::

    spec.json      the key, the specification and its digest, written once
    status.json    the state and the progress, replaced as a whole
    process.json   who works here: pid, start time and boot id
    lease.lock     held by that process; the kernel lets go of it when the process ends, however it ends;
                   its time is the process's last heartbeat
    events.jsonl   progress and metrics, appended
    checkpoints/   see checkpoint.py
    model/         the result, published at the end
    log.txt        what the worker printed
    reserve        room that a failure takes to say that the disk is full; there while a process is at work

Only the holder of the lease writes here. Readers need no lock: each file is replaced as a whole or appended
to.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mxpipe.errors import JobError, JobNotFoundError, LeaseHeldError, SpecificationError
from mxpipe.model.storage import lock_file, remove_partial, storage_errors, write_json
from mxpipe.train.spec import TrainSpec
from mxpipe.train.status import JobState, JobStatus

_LEASE_PATIENCE_SECONDS = 0.5  # a reader's probe holds the lock for microseconds
_RESERVE_BYTES = 65536  # a status, some lines of events and of callbacks, each in blocks of its own


class Lease:
    """The right to work in a run directory, tied to an open file: it ends with the process that holds it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def release(self) -> None:
        """Give the lease back."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class RunDirectory:
    """The files of one run.

    Example:
        >>> import tempfile
        >>> spec = TrainSpec({"builder": "mlp"}, {"train": "t", "features": {"label": "y"}}, epochs=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = RunDirectory(folder)
        ...     with run.acquire_lease():
        ...         run.initialise(spec, key="flights-2013-01")
        ...     run.read_status().state
        <JobState.SUBMITTED: 'SUBMITTED'>
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.spec_path = self.path / "spec.json"
        self.status_path = self.path / "status.json"
        self.process_path = self.path / "process.json"
        self.lease_path = self.path / "lease.lock"
        self.cancel_path = self.path / "cancel"
        self.events_path = self.path / "events.jsonl"
        self.checkpoints_path = self.path / "checkpoints"
        self.model_path = self.path / "model"
        self.log_path = self.path / "log.txt"
        self.reserve_path = self.path / "reserve"

    def exists(self) -> bool:
        """Whether a run was ever set up here."""
        return self.spec_path.exists()

    def initialise(self, spec: TrainSpec, key: str) -> None:
        """Set the run up, or check that it is the same run. The caller holds the lease.

        Raises:
            SpecificationError: The directory belongs to another key or specification.
        """
        for folder in (self.path, self.checkpoints_path):
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            remove_partial(folder)
        if self.exists():
            self.check(spec, key)
        else:
            write_json(self.spec_path, {"key": key, "digest": spec.digest(), "spec": spec.to_json()})
        if not self.status_path.exists():
            self.write_status(JobStatus(JobState.SUBMITTED, key))

    def clear(self, lease: Lease) -> None:
        """Forget an unfinished run; only the lock files stay."""
        del lease  # asked for so that nobody comes here without it
        self.spec_path.unlink(missing_ok=True)  # first: without it the rest does not count
        for entry in list(self.path.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.suffix != ".lock":
                entry.unlink()

    def check(self, spec: TrainSpec, key: str) -> None:
        """Check that the run is the one of this key and specification.

        Raises:
            SpecificationError: It belongs to another one.
        """
        known = self._read_spec_file()
        for name, mine in (("key", key), ("digest", spec.digest())):
            if known.get(name) != mine:
                got = known.get(name)
                raise SpecificationError(
                    f"[{self.path}] the directory's {name} must be {mine!r}; got {got!r}."
                )

    def _read_spec_file(self) -> dict[str, Any]:
        return _read_json(self.spec_path, "a run directory must hold it")

    def read_spec(self) -> tuple[TrainSpec, str]:
        """The specification and the key.

        Raises:
            JobNotFoundError: No run was set up here.
            SpecificationError: The file does not hold a specification.
        """
        known = self._read_spec_file()
        if not isinstance(known.get("key"), str) or "spec" not in known:
            raise SpecificationError(
                f"[{self.spec_path}] the file must hold key and spec; got {sorted(known)}."
            )
        return TrainSpec.from_json(known["spec"]), known["key"]

    def read_status(self) -> JobStatus:
        """The status as the worker or launcher last wrote it.

        Raises:
            JobNotFoundError: No run was set up here.
        """
        return JobStatus.from_json(_read_json(self.status_path, "a run directory must hold it"))

    def with_heartbeat(self, status: JobStatus) -> JobStatus:
        """An active status with the latest heartbeat, which the lease's file has; any other as it is."""
        if status.state.is_active:
            with contextlib.suppress(FileNotFoundError):
                beat = self.lease_path.stat().st_mtime
                return status.replace(heartbeat=max(beat, status.heartbeat or beat))
        return status

    def write_status(self, status: JobStatus, durable: bool = True) -> None:
        """Replace the status. A change of state is durable; a heartbeat need not be.

        Raises:
            StorageError: The disk is full; the former status stays.
        """
        write_json(self.status_path, status.to_json(), durable=durable)

    def keep_reserve(self) -> None:
        """Take some room while there is some; a disk that has none left is noticed soon enough."""
        with contextlib.suppress(OSError):
            self.reserve_path.write_bytes(b"\0" * _RESERVE_BYTES)

    def release_reserve(self) -> None:
        """Let the end of the run be written, even to a full disk."""
        with contextlib.suppress(OSError):
            self.reserve_path.unlink(missing_ok=True)

    def acquire_lease(self, patience: float = _LEASE_PATIENCE_SECONDS) -> Lease:
        """Take the right to work here, for as long as the returned object or this process lives.

        Args:
            patience: Seconds to wait for it.

        Raises:
            LeaseHeldError: Another live process works here.
        """
        deadline = time.monotonic() + patience
        while True:
            descriptor = lock_file(self.lease_path, wait=False)
            if descriptor is not None:
                return Lease(descriptor)
            if time.monotonic() > deadline:
                raise LeaseHeldError(
                    f"[{self.path}] no other process must work here; got a live one"
                    f" ({self.describe_holder()})."
                )
            time.sleep(0.02)

    def is_lease_held(self) -> bool:
        """Whether a live process works here."""
        try:
            descriptor = os.open(self.lease_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def describe_holder(self) -> str:
        """Who wrote process.json, for messages."""
        try:
            return f"pid {_read_json(self.process_path, 'it must exist')['pid']}"
        except (JobError, KeyError):
            return "not yet known"

    def read_process(self) -> Mapping[str, Any] | None:
        """What process.json holds, or None when no process has worked here."""
        try:
            return _read_json(self.process_path, "it must exist")
        except JobNotFoundError:
            return None


def _read_json(path: Path, must: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise JobNotFoundError(f"[{path}] {must}; got no such file.") from None
    except ValueError as error:
        raise JobError(f"[{path}] the file must be JSON; got {error}.") from error
    if not isinstance(value, dict):
        raise JobError(f"[{path}] the file must be a JSON object; got {type(value).__name__}.")
    return value
