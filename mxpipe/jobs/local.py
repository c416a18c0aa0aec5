"""The local launcher: a job is a detached process of this machine, in a session of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mxpipe.errors import JobError, JobNotFoundError, LeaseHeldError
from mxpipe.jobs import spawn
from mxpipe.jobs.imports import search_path
from mxpipe.jobs.launcher import JobHandle, job_id_of, wait_by_polling
from mxpipe.jobs.process import (
    CALLBACKS_VARIABLE,
    TOKEN_VARIABLE,
    WORKER_MODULE,
    ProcessIdentity,
    end_processes,
)
from mxpipe.model.storage import lock_file, storage_errors, write_json
from mxpipe.train.run_directory import Lease, RunDirectory
from mxpipe.train.spec import TrainSpec
from mxpipe.train.status import JobState, JobStatus

LAUNCH_LOCK = "launcher.lock"
_ENDING_SECONDS = 60.0  # a callback may wait for a server that long


class LocalLauncher:
    """Runs jobs as detached processes; each has its run directory under `root`.

    The worker is born with the lease of its run directory: the launcher takes it and hands the open file
    down. So there is no moment in which a job runs unnoticed, whoever is killed when, and two submits of a
    key, from any two processes, end in one job.

    Args:
        root: Directory of the run directories; made when it is needed.

    Example:
        >>> launcher = LocalLauncher("runs")
        >>> handle = launcher.submit(spec, key="flights-2013-01")  # doctest: +SKIP
        >>> launcher.poll(handle.id).state  # doctest: +SKIP
        <JobState.RUNNING: 'RUNNING'>
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()

    def run_directory(self, job_id: str) -> RunDirectory:
        """The run directory of a job.

        Raises:
            JobNotFoundError: The id names no file of `root`.
        """
        if not job_id or job_id in (".", "..") or Path(job_id).name != job_id:
            raise JobNotFoundError(f"[job] the id must be one that submit returned; got {job_id!r}.")
        return RunDirectory(self.root / job_id)

    def submit(
        self,
        spec: TrainSpec,
        key: str,
        *,
        job_id: str | None = None,
        fresh: bool = False,
        builders: Collection[str] = (),
        callbacks: Mapping[str, Mapping[str, Any]] = {},
    ) -> JobHandle:
        """Start the job of this key, resume it, or find it at work or finished.

        Args:
            spec: What to train.
            key: Names the job: the same key always means the same job.
            job_id: Name of the run directory under the root; follows from the key by default.
            fresh: End a live job of this key and drop what it did, instead of going on from it. A finished
                one stays: it would come out the same.
            builders: The `package.module:function` texts that the specification may import. The job finds
                them where the submitter does, in the folder of a DAG as well.
            callbacks: What follows the training, by name, with its configuration: names of the entry-point
                group `mxpipe.callbacks`, or `package.module:function` factories. They travel in the worker's
                environment.

        Returns:
            The job, whether it was started now or not.

        Raises:
            SpecificationError: The key was submitted before with another specification.
            LeaseHeldError: The process of an attempt that has ended does not go away.
            StorageError: The run directory cannot be written; no process was started.
        """
        job_id = job_id or job_id_of(key)
        run = self.run_directory(job_id)
        handle = JobHandle(job_id, run.path)
        python_path = search_path([*builders, *callbacks])
        with self._launch_lock(run):
            if fresh:
                self._start_over(run)
            try:
                lease = run.acquire_lease()
            except LeaseHeldError:
                if not self._is_ending(run):
                    if run.exists():
                        run.check(spec, key)
                    return handle
                lease = run.acquire_lease(patience=_ENDING_SECONDS)
            with lease:
                run.initialise(spec, key)
                status = run.read_status()
                if status.state is not JobState.SUCCEEDED:
                    run.cancel_path.unlink(missing_ok=True)
                    if not status.state.is_active:
                        status = status.replace(state=JobState.SUBMITTED, error=None)
                    run.write_status(status)
                    self._start(run, lease, builders, callbacks, python_path)
        return handle

    @staticmethod
    def _is_ending(run: RunDirectory) -> bool:
        """Whether a job has said that it did not finish, while its process still tells its callbacks so."""
        if not run.status_path.exists():
            return False
        state = run.read_status().state
        return not state.is_active and state is not JobState.SUCCEEDED

    def _start(
        self,
        run: RunDirectory,
        lease: Lease,
        builders: Collection[str],
        callbacks: Mapping[str, Mapping[str, Any]],
        python_path: str,
    ) -> None:
        token = uuid.uuid4().hex
        # -P: what happens to lie in the working directory is not imported.
        worker = [sys.executable, "-P", "-m", WORKER_MODULE, str(run.path)]
        worker += ["--lease", str(lease.descriptor)]
        worker += [text for builder in builders for text in ("--builder", builder)]
        given = {
            TOKEN_VARIABLE: token,
            CALLBACKS_VARIABLE: json.dumps(callbacks),
            "PYTHONPATH": python_path,
            "PYTHONUNBUFFERED": "1",
        }
        started = subprocess.run(
            [sys.executable, "-I", "-S", spawn.__file__, str(run.log_path), *worker],
            env=os.environ | given,
            pass_fds=(lease.descriptor,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if started.returncode != 0:
            raise JobError(f"[job] a process must be startable; got {started.stderr.strip()!r}.")
        try:
            identity = ProcessIdentity.of(int(started.stdout), token)
        except ProcessLookupError:  # it has ended already; its status says why
            return
        write_json(run.process_path, identity.to_json())

    def _start_over(self, run: RunDirectory) -> None:
        """Drop an unfinished run; the caller holds the launch lock, whose file stays."""
        if run.exists() and run.read_status().state is JobState.SUCCEEDED:
            return
        self._end(run, timeout=5.0)
        with run.acquire_lease() as lease:
            run.clear(lease)

    def poll(self, job_id: str) -> JobStatus:
        """The job's status, from its files alone.

        Raises:
            JobNotFoundError: No such job.
        """
        run = self.run_directory(job_id)
        status = run.read_status()
        if not status.state.is_active or self._is_alive(run):
            return run.with_heartbeat(status)
        status = run.read_status()  # it may have ended between the two looks
        if not status.state.is_active:
            return status
        state = JobState.CANCELLED if run.cancel_path.exists() else JobState.INTERRUPTED
        return status.replace(state=state)

    @staticmethod
    def _is_alive(run: RunDirectory) -> bool:
        identity = ProcessIdentity.from_json(run.read_process())
        return (identity is not None and identity.is_alive()) or run.is_lease_held()

    def cancel(self, job_id: str, timeout: float = 30.0) -> JobStatus:
        """End a job: SIGTERM, so that it writes a checkpoint, then SIGKILL to all of its processes.

        Args:
            job_id: The job.
            timeout: Seconds to wait between the two.

        Returns:
            The final status: CANCELLED, or SUCCEEDED or FAILED when it had ended before.

        Raises:
            JobNotFoundError: No such job.
            TimeoutError: A process outlived SIGKILL.
        """
        run = self.run_directory(job_id)
        run.read_status()
        with self._launch_lock(run):
            if run.read_status().state is not JobState.SUCCEEDED:
                with storage_errors(run.cancel_path):
                    run.cancel_path.touch()
            self._end(run, timeout)
            with run.acquire_lease():
                status = run.read_status()
                if status.state.is_active or status.state is JobState.INTERRUPTED:
                    status = status.replace(state=JobState.CANCELLED)
                    run.write_status(status)
        return status

    @staticmethod
    def _end(run: RunDirectory, timeout: float) -> None:
        identity = _await_identity(run)
        if identity is not None:
            end_processes(identity, timeout)

    def settle(self, job_id: str) -> JobStatus:
        """Write down what :meth:`poll` says of a job whose process is gone; returns the status.

        Raises:
            JobNotFoundError: No such job.
        """
        run = self.run_directory(job_id)
        run.read_status()
        with self._launch_lock(run):
            status = self.poll(job_id)
            if not status.state.is_active and run.read_status().state.is_active:
                with run.acquire_lease():
                    run.write_status(status)
        return status

    def wait(self, job_id: str, timeout: float | None = None, interval: float = 0.1) -> JobStatus:
        """Poll until the job is no longer active.

        Raises:
            TimeoutError: It is still active after `timeout` seconds.
        """
        return wait_by_polling(self.poll, job_id, timeout, interval)

    def logs(self, job_id: str, offset: int = 0) -> tuple[str, int]:
        """What the job has printed since a byte offset.

        Returns:
            The text, whole lines of UTF-8 while the job runs, and the offset to go on from.

        Raises:
            JobNotFoundError: No such job.
        """
        run = self.run_directory(job_id)
        if not run.exists():
            run.read_status()  # raises
        try:
            with open(run.log_path, "rb") as file:
                file.seek(max(0, offset))
                data = file.read()
        except FileNotFoundError:
            return "", 0
        if not data.endswith(b"\n") and self._is_alive(run):
            data = data[: data.rfind(b"\n") + 1]  # the rest of the line is still to come
        return data.decode(errors="replace"), max(0, offset) + len(data)

    def list(self) -> list[tuple[str, JobStatus]]:
        """All jobs under the root, in order of their ids."""
        if not self.root.is_dir():
            return []
        ids = sorted(path.name for path in self.root.iterdir() if RunDirectory(path).status_path.exists())
        return [(job_id, self.poll(job_id)) for job_id in ids]

    @contextmanager
    def _launch_lock(self, run: RunDirectory) -> Iterator[None]:
        """One submit or cancel of a job at a time, over all processes of the machine."""
        descriptor = lock_file(run.path / LAUNCH_LOCK)
        assert descriptor is not None
        try:
            yield
        finally:
            os.close(descriptor)


def _await_identity(run: RunDirectory) -> ProcessIdentity | None:
    """Who works here. When a launcher died before it wrote that down, the worker itself soon does."""
    deadline = time.monotonic() + 10.0
    while True:
        identity = ProcessIdentity.from_json(run.read_process())
        if (identity is not None and identity.is_alive()) or not run.is_lease_held():
            return identity
        if time.monotonic() > deadline:
            raise JobError(f"[{run.path}] the worker must say who it is within 10 s; got no process.json.")
        time.sleep(0.05)
