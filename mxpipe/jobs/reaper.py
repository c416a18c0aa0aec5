"""Ends what lost its owner: processes of ended jobs, jobs without a process, files of killed writers.

Enters: the directory above run directories. Leaves: findings, each with what was done about it. Called by
`mxpipe jobs reap`, by hand or from a timer; it may run at any moment beside jobs that are at work.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.metadata
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mxpipe.errors import JobError, JobNotFoundError, LeaseHeldError, MxpipeError
from mxpipe.jobs.local import LocalLauncher
from mxpipe.jobs.process import ProcessIdentity, end_processes, find_workers
from mxpipe.jobs.worker import CALLBACK_GROUP
from mxpipe.model.storage import PARTIAL_SUFFIX, lock_file, remove_partial
from mxpipe.train.checkpoint import remove_checkpoints
from mxpipe.train.run_directory import RunDirectory
from mxpipe.train.status import JobState

GRACE_SECONDS = 120.0
_PATIENCE_SECONDS = 10.0
_STAGING_PATTERN = ".*.writing"


@dataclass(frozen=True)
class Finding:
    """Something that should not be there any more.

    Attributes:
        kind: "job", "process", "file", "run", "checkpoints" or "snapshot".
        path: Which: a run directory, a file, a folder.
        action: What is done about it; in a dry run, what would be.
        reason: Why.
        bytes: What this frees on the disk.
    """

    kind: str
    path: str
    action: str
    reason: str
    bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return asdict(self)


@contextmanager
def maintenance(root: Path) -> Iterator[None]:
    """Be the only one who clears up below a directory.

    Raises:
        LeaseHeldError: Another process does.
    """
    descriptor = lock_file(root / ".maintenance.lock", wait=False)
    if descriptor is None:
        raise LeaseHeldError(f"[{root}] one process may clear up at a time; got another one at work.")
    try:
        yield
    finally:
        os.close(descriptor)


def reap(
    root: str | os.PathLike[str],
    *,
    snapshots: tuple[str | os.PathLike[str], ...] = (),
    grace_seconds: float = GRACE_SECONDS,
    dry_run: bool = False,
) -> list[Finding]:
    """End orphans below a directory of run directories, and remove what killed writers left.

    * A job that is active though its process is gone becomes INTERRUPTED, or CANCELLED when that was asked
      for; a retry resumes it as ever.
    * A job whose cancellation was begun by someone who is gone is cancelled.
    * Processes of a job that has ended are ended, its descendants in other sessions included, and so are
      workers whose run directory was removed.
    * Half-written files and folders, and the checkpoints of finished runs, are removed where nobody works.

    A job at work is never touched, however long it is silent.

    Args:
        root: The directory above run directories.
        snapshots: Folders of snapshots, in which abandoned staging folders are removed.
        grace_seconds: How long a process may go on after its job has said that it ended (its callbacks may
            wait for a server), and a cancellation may take.
        dry_run: Only say what would be done.

    Raises:
        LeaseHeldError: Another process is clearing up here.
        TimeoutError: A process outlived SIGKILL.

    Example:
        >>> reap("no/such/directory", dry_run=True)
        []
    """
    launcher = LocalLauncher(root)
    if not launcher.root.is_dir():
        return []
    with contextlib.ExitStack() as held:
        if not dry_run:
            held.enter_context(maintenance(launcher.root))
        findings: list[Finding] = []
        for path in sorted(launcher.root.iterdir()):
            run = RunDirectory(path)
            if path.is_dir() and not path.name.startswith(".") and _was_used(run):
                findings += _reap_run(launcher, run, grace_seconds, dry_run)
        findings += _reap_strays(launcher.root, dry_run)
        findings += _remove_partial(launcher.root, launcher.root, dry_run)
        for folder in snapshots:
            findings += _reap_staging(Path(folder).absolute(), grace_seconds, dry_run)
    return findings


def _was_used(run: RunDirectory) -> bool:
    return run.exists() or run.status_path.exists() or run.process_path.exists()


def _reap_run(launcher: LocalLauncher, run: RunDirectory, grace: float, dry_run: bool) -> list[Finding]:
    try:
        status = run.read_status()
    except JobNotFoundError:
        return []  # being set up, or cleared: the next submit of its key sees to it
    except JobError as error:
        return [Finding("job", str(run.path), "none", f"its status must be readable; {error}")]
    identity = ProcessIdentity.from_json(run.read_process())
    is_led = identity is not None and identity.is_alive()
    at_work = is_led or run.is_lease_held()
    if status.state.is_active and at_work:
        return _finish_cancellation(launcher, run, grace, dry_run)
    findings = []
    if at_work:
        if identity is None or not is_led or _age(run.status_path) <= grace:
            return []  # it tells its callbacks, or a launcher is at it
        findings.append(Finding("process", str(run.path), f"end pid {identity.pid}", f"job {status.state}"))
        if not dry_run:
            end_processes(identity, _PATIENCE_SECONDS)
    elif identity is not None and (strays := identity.descendants()):
        pids = ", ".join(str(stray.pid) for stray in strays)
        findings.append(Finding("process", str(run.path), f"end pid {pids}", "what started them is gone"))
        if not dry_run:
            end_processes(identity, 0.0)
    if status.state.is_active:
        state = JobState.CANCELLED if run.cancel_path.exists() else JobState.INTERRUPTED
        findings.append(Finding("job", str(run.path), f"settle as {state}", "its process is gone"))
        if not dry_run:
            launcher.settle(run.path.name)
        status = status.replace(state=state)
    findings += _tell_followers(run, status.state, dry_run)
    return findings + _remove_leftovers(run, status.state, dry_run)


def _tell_followers(run: RunDirectory, state: JobState, dry_run: bool) -> list[Finding]:
    """Let what followed the training know how it ended, where the training could not tell it any more.

    The module of an installed callback may offer `is_settled(run_directory)` and `settle(run_directory,
    state)`; both leave alone what they do not know.
    """
    findings = []
    for entry in importlib.metadata.entry_points(group=CALLBACK_GROUP):
        follower = importlib.import_module(entry.module)
        if not hasattr(follower, "settle") or follower.is_settled(run.path):
            continue
        reason = "the job could not tell it"
        if not dry_run:
            try:
                follower.settle(run.path, state)
            except MxpipeError as error:
                reason = f"still to be told: {error}"
        findings.append(Finding("job", str(run.path), f"tell {entry.name} that it is {state}", reason))
    return findings


def _finish_cancellation(
    launcher: LocalLauncher, run: RunDirectory, grace: float, dry_run: bool
) -> list[Finding]:
    if not run.cancel_path.exists() or _age(run.cancel_path) <= grace:
        return []
    if not dry_run:
        launcher.cancel(run.path.name, _PATIENCE_SECONDS)
    return [Finding("job", str(run.path), "cancel", "who began to cancel it is gone")]


def _remove_leftovers(run: RunDirectory, state: JobState, dry_run: bool) -> list[Finding]:
    """Under the lease, so that nobody begins to write here meanwhile."""
    with contextlib.ExitStack() as held:
        if not dry_run:
            try:
                held.enter_context(run.acquire_lease(patience=0.0))
            except LeaseHeldError:
                return []
        findings = _remove_partial(run.path, run.path, dry_run)
        findings += _remove_partial(run.checkpoints_path, run.path, dry_run)
        if state is JobState.SUCCEEDED and any(run.checkpoints_path.glob("step-*")):
            size = size_of(run.checkpoints_path)
            findings.append(
                Finding("checkpoints", str(run.checkpoints_path), "remove", "the job is finished", size)
            )
            if not dry_run:
                remove_checkpoints(run.checkpoints_path)
    return findings


def _remove_partial(folder: Path, place: Path, dry_run: bool) -> list[Finding]:
    if not folder.is_dir():
        return []
    findings = [
        Finding("file", str(entry), "remove", f"a killed writer of {place.name} left it", size_of(entry))
        for entry in sorted(folder.iterdir())
        if entry.name.endswith(PARTIAL_SUFFIX)
    ]
    if findings and not dry_run:
        remove_partial(folder)
    return findings


def _reap_strays(root: Path, dry_run: bool) -> list[Finding]:
    """Workers whose run directory is gone: nobody can find them any more."""
    findings = []
    for worker, path in find_workers():
        if path.parent != root or _was_used(RunDirectory(path)):
            continue
        findings.append(Finding("process", str(path), f"end pid {worker.pid}", "its run directory is gone"))
        if not dry_run:
            end_processes(worker, 0.0)
    return findings


def _reap_staging(folder: Path, grace: float, dry_run: bool) -> list[Finding]:
    """Staging folders of snapshots that no live writer holds locked, and what a killed prune left."""
    findings = []
    for path in sorted((*folder.rglob(_STAGING_PATTERN), *folder.rglob(f".*{PARTIAL_SUFFIX}"))):
        if not path.is_dir() or _age(path) <= grace:
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            reason = "a killed writer of a snapshot left it"
            findings.append(Finding("file", str(path), "remove", reason, size_of(path)))
            if not dry_run:
                shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    return findings


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum(entry.lstat().st_size for entry in path.rglob("*") if not entry.is_dir())


def _age(path: Path) -> float:
    """Seconds since a file changed; 0 where it is gone, which is as good as new."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
