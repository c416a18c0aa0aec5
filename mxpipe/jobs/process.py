"""Which process is ours: identities that a recycled process id cannot fake.

A process is named by its id, its start time in clock ticks since boot, and the boot's id. Its descendants are
found by a token in their environment, which children inherit. Signals go through a pidfd, opened before the
identity is checked, so that there is no moment in which the id could pass to a stranger. Linux only.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

TOKEN_VARIABLE = "MXPIPE_JOB_TOKEN"
CALLBACKS_VARIABLE = (
    "MXPIPE_JOB_CALLBACKS"  # JSON; not in the arguments, which everyone on the machine can read
)
WORKER_MODULE = "mxpipe.jobs.worker"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD
_EXEC_SECONDS = 0.2


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot of one machine.

    Attributes:
        pid: Process id.
        start_ticks: When it started, in clock ticks since boot (field 22 of /proc/PID/stat).
        boot_id: The boot it lives in.
        token: What its descendants carry in their environment, or "".

    Example:
        >>> ProcessIdentity.of(os.getpid()).is_alive()
        True
    """

    pid: int
    start_ticks: int
    boot_id: str
    token: str = ""

    @classmethod
    def of(cls, pid: int, token: str = "") -> ProcessIdentity:
        """The identity of a running process.

        Raises:
            ProcessLookupError: There is no such process.
        """
        stat = _read_stat(pid)
        if stat is None:
            raise ProcessLookupError(f"[process] the id must name a running process; got {pid}.")
        return cls(pid, stat.start_ticks, _boot_id(), token)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> ProcessIdentity | None:
        """An identity from parsed JSON, or None when it is incomplete."""
        try:
            assert value is not None
            return cls(
                int(value["pid"]), int(value["start_ticks"]), str(value["boot_id"]), str(value["token"])
            )
        except (AssertionError, KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        """The identity as JSON values."""
        return asdict(self)

    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        if self.boot_id != _boot_id():
            return False
        stat = _read_stat(self.pid)
        return stat is not None and stat.state not in "ZX" and stat.start_ticks == self.start_ticks

    def descendants(self) -> list[ProcessIdentity]:
        """Processes that carry the token, without this one."""
        if not self.token or self.boot_id != _boot_id():
            return []
        marker = f"{TOKEN_VARIABLE}={self.token}".encode()
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in (self.pid, os.getpid()):
                continue
            stat = _read_stat(int(entry))
            if stat is None or stat.state in "ZX" or stat.start_ticks < self.start_ticks:
                continue  # ended, or older than what it would descend from
            if marker in _environment(int(entry), stat).split(b"\0"):
                found.append(ProcessIdentity(int(entry), stat.start_ticks, self.boot_id))
        return found

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to this very process; returns False when it no longer runs."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(descriptor, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)


def find_workers() -> list[tuple[ProcessIdentity, Path]]:
    """The workers that this user runs on this machine, with their run directories."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            position = words.index(WORKER_MODULE.encode())
            identity = ProcessIdentity.of(int(entry))
        except (OSError, ValueError):  # gone, another user's, or another program
            continue
        token = _token_in(_environment(identity.pid, _read_stat(identity.pid)))
        found.append((replace(identity, token=token), Path(os.fsdecode(words[position + 1]))))
    return found


def _token_in(environment: bytes) -> str:
    prefix = f"{TOKEN_VARIABLE}=".encode()
    for variable in environment.split(b"\0"):
        if variable.startswith(prefix):
            return variable.removeprefix(prefix).decode()
    return ""


def end_processes(leader: ProcessIdentity, timeout: float) -> None:
    """End a process and its descendants: SIGTERM, up to `timeout` seconds of patience, then SIGKILL.

    Returns only when none of them runs any more.

    Raises:
        TimeoutError: A process outlived SIGKILL by 10 s (it hangs in the kernel).
    """
    leader.signal(signal.SIGTERM)
    if not _wait_for_end([leader], timeout):
        leader.signal(signal.SIGKILL)
    deadline = time.monotonic() + 10.0
    while True:  # a descendant may have started another one before it was hit
        remaining = [process for process in (leader, *leader.descendants()) if process.is_alive()]
        if not remaining:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"[process] SIGKILL must end the processes; got {remaining} still running.")
        for process in remaining:
            process.signal(signal.SIGKILL)
        _wait_for_end(remaining, 0.2)


def _wait_for_end(processes: Iterable[ProcessIdentity], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    pause = 0.005
    while any(process.is_alive() for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return True


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


class _Stat(NamedTuple):
    state: str
    flags: int
    start_ticks: int


def _read_stat(pid: int) -> _Stat | None:
    """What /proc says of a process. The command's name may hold spaces and parentheses."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return _Stat(fields[0], int(fields[6]), int(fields[19]))


def _environment(pid: int, stat: _Stat | None) -> bytes:
    """The environment of a process, b"" when it is gone or another user's.

    In the midst of an exec it reads as empty, which on a busy machine can last a while: it is read again.
    """
    if stat is None or stat.flags & _KERNEL_THREAD:
        return b""
    deadline = time.monotonic() + _EXEC_SECONDS
    while True:
        try:
            environment = Path("/proc", str(pid), "environ").read_bytes()
        except OSError:
            return b""
        present = _read_stat(pid)
        is_over = present is None or present.state in "ZX" or time.monotonic() > deadline
        if environment or is_over:
            return environment
        time.sleep(0.001)
