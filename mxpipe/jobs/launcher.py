"""What every launcher can do, and how one is chosen by name."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mxpipe.errors import MissingExtraError, SpecificationError
from mxpipe.train.run_directory import RunDirectory
from mxpipe.train.spec import TrainSpec
from mxpipe.train.status import JobStatus


class JobHandle(NamedTuple):
    """A submitted job.

    Attributes:
        id: Names the job within its launcher; a pure function of the key.
        run_directory: Where its files are, see :mod:`mxpipe.train.run_directory`.
    """

    id: str
    run_directory: Path


class Launcher(Protocol):
    """What an orchestrator asks of a launcher, and all that it may assume.

    All methods may be called from any process, at any time, any number of times: nothing about a job is known
    to the object alone. Another process makes the same launcher with `get_launcher(name, **arguments)`, so
    its arguments are JSON values (a path may be given as text), and making one is cheap: it reaches for no
    cluster before it is asked for something.

    A job's files are in its run directory, which the caller can read: on another machine than the job's it is
    a shared file system. Wherever the job works, it holds the lease of the run directory while it does.

    Attributes:
        root: Directory above the run directories.
    """

    root: Path

    def submit(
        self,
        spec: TrainSpec,
        key: str,
        *,
        fresh: bool = False,
        builders: Collection[str] = (),
        callbacks: Mapping[str, Mapping[str, Any]] = {},
    ) -> JobHandle:
        """Start the job of this key, resume it, or find it at work or finished."""

    def poll(self, job_id: str) -> JobStatus:
        """The job's status; a job whose process is gone is INTERRUPTED."""

    def wait(self, job_id: str, timeout: float | None = None, interval: float = 0.1) -> JobStatus:
        """Poll until the job is no longer active."""

    def cancel(self, job_id: str, timeout: float = 30.0) -> JobStatus:
        """End the job; returns when none of its processes runs any more."""

    def logs(self, job_id: str, offset: int = 0) -> tuple[str, int]:
        """The log from a byte offset, and the offset to go on from."""

    def run_directory(self, job_id: str) -> RunDirectory:
        """The job's files; of a job that was never submitted they do not exist."""


def wait_by_polling(
    poll: Callable[[str], JobStatus], job_id: str, timeout: float | None = None, interval: float = 0.1
) -> JobStatus:
    """What a launcher's `wait` is where nothing better than looking again and again is to be had.

    Raises:
        TimeoutError: The job is still active after `timeout` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while (status := poll(job_id)).state.is_active:
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"[job {job_id}] it must end within {timeout} s; got {status.state}.")
        time.sleep(interval)
    return status


LAUNCHER_GROUP = "mxpipe.launchers"
"""Entry points of installed packages that bring a launcher: its name, and its factory."""

KNOWN_LAUNCHERS = ("local", "dask", "spark", "kubernetes")
"""Names that have a meaning, whether or not a package that brings the launcher is installed."""

_FACTORIES: dict[str, Callable[..., Launcher]] = {}


def register_launcher(name: str, factory: Callable[..., Launcher]) -> None:
    """Give a launcher a name. Adapters call this when they are imported, or name an entry point.

    Raises:
        SpecificationError: The name is taken by another factory.
    """
    if _FACTORIES.setdefault(name, factory) is not factory:
        raise SpecificationError(f"[launcher] the name must be free; got {name!r}, which is registered.")


def get_launcher(name: str, **arguments: Any) -> Launcher:
    """Make the launcher of a name.

    Args:
        name: "local", what an adapter registered, or an entry point of the group `mxpipe.launchers`.
        arguments: What its factory takes: the `root` directory of the run directories, and its own.

    Raises:
        SpecificationError: No launcher has this name, or it does not take these arguments.
        MissingExtraError: The launcher is known, but nothing that brings it is installed.

    Example:
        >>> get_launcher("local", root="runs").root.name
        'runs'
    """
    factory = _FACTORIES.get(name) or _installed(name)
    try:
        return factory(**arguments)
    except TypeError as error:
        raise SpecificationError(f"[launcher {name}] its arguments must be known; {error}") from error


def _installed(name: str) -> Callable[..., Launcher]:
    """The factory that an installed package names in its metadata."""
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group=LAUNCHER_GROUP)}
    if name in entries:
        factory: Callable[..., Launcher] = entries[name].load()
        return factory
    there = sorted({*_FACTORIES, *entries})
    if name in KNOWN_LAUNCHERS:
        raise MissingExtraError(
            f"[launcher] {name!r} must be installed: a package brings it by an entry point of the group"
            f" {LAUNCHER_GROUP}; there are {there}."
        )
    raise SpecificationError(f"[launcher] the name must be one of {there}; got {name!r}.")


def job_id_of(key: str) -> str:
    """The id of a key's job: readable, safe as a file name, and different for different keys.

    Example:
        >>> job_id_of("flights/2013-01")
        'flights-2013-01-0b4433cbd271'
    """
    if not key:
        raise SpecificationError("[job] the key must not be empty; got ''.")
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", key).strip("-.")[:48]
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return f"{readable}-{digest}" if readable else digest
