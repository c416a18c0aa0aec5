"""Start, find and stop a detached server. Standard library only: cheap to import in a pipeline's task.

What enters: what to serve and a state file, which is the server's identity. What leaves: a
:class:`ServerHandle`, JSON-able, so that it fits a task's result. Every call may be repeated.
"""

from __future__ import annotations

import dataclasses
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mxpipe.errors import ServingError
from mxpipe.serve.client import direct_opener
from mxpipe.serve.sources import OPTIONS_VARIABLE
from mxpipe.serve.state import ServerState, process_ticks

# Held so that a child that ends before its parent is reaped, and is not taken for a running server.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class ServerHandle:
    """A running, ready server.

    Attributes:
        pid: Its process.
        url: Root of its HTTP interface.
        model: Name of the served model.
        version: Version that answered when the handle was made.
        digest: Digest of that version's model.
        state_file: Where it is found again.
    """

    pid: int
    url: str
    model: str
    version: str
    digest: str
    state_file: str

    @property
    def infer_url(self) -> str:
        """Open Inference Protocol V2 inference."""
        return f"{self.url}/v2/models/{quote(self.model, safe='')}/infer"

    @property
    def invocations_url(self) -> str:
        """MLflow's scoring protocol."""
        return f"{self.url}/invocations"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> ServerHandle:
        """From what :meth:`to_json` gave."""
        return ServerHandle(**content)


def start(
    *,
    model: str | Path | None = None,
    registry_model: str | None = None,
    registry: str | None = None,
    registry_options: Mapping[str, str] | None = None,
    state_file: str | Path,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    log_file: str | Path | None = None,
    timeout: float = 120.0,
    arguments: Sequence[str] = (),
) -> ServerHandle:
    """Have a server up that serves what the source names now.

    A live server of the same source is asked to load it; one of another source is stopped and replaced on the
    same port; else one is started, detached from this process and its session.

    Args:
        model: Model folder; exactly one of this and ``registry_model``.
        registry_model: ``name@alias`` in a registry.
        registry: Installed registry resolver (default: the only one).
        registry_options: Options of the resolver, e.g. ``{"tracking_uri": "sqlite:///mlflow.db"}``; they
            travel in the server's environment.
        state_file: The server's identity; a lock beside it orders concurrent calls.
        name: Name under which a folder is served.
        host: Address to listen on.
        port: Port; 0 keeps the port of the server before, else takes a free one.
        log_file: Where its output goes (default: the state file with ``.log``).
        timeout: Seconds until it must be ready.
        arguments: Further options of ``mxpipe serve``.

    Raises:
        ServingError: It was not ready in time, or ended; the text holds the end of its log.
    """
    if (model is None) == (registry_model is None):
        raise ServingError("[server] exactly one of model and registry_model must be given.")
    state_path = Path(state_file).resolve()
    log_path = Path(log_file).resolve() if log_file is not None else state_path.with_suffix(".log")
    reference = str(Path(model).resolve()) if model is not None else str(registry_model)
    deadline = time.monotonic() + timeout
    with _locked(state_path):
        state = _read_live(state_path)
        if state is not None:
            hangs = not _answers(state, deadline)
            if state.reference == reference and not hangs:
                _ask_load(state, deadline)
                return _handle(state_path, _wait_ready(state_path, state.pid, deadline, log_path))
            _stop(state_path, timeout=1.0 if hangs else 30.0)
        before = state or ServerState.read(state_path)
        if not port and before is not None and _becomes_free(before.host, before.port):
            port = before.port  # clients know this one
        command = [sys.executable, "-m", "mxpipe.serve", f"--host={host}", f"--port={port}"]
        command.append(f"--model={reference}" if model is not None else f"--models-from-registry={reference}")
        command += [f"--registry={registry}"] if registry is not None else []
        command += [f"--name={name}"] if name is not None else []
        command += [f"--state-file={state_path}", *arguments]
        # Not as arguments: a registry's address may hold a password, and everybody sees arguments.
        pid = _spawn(command, log_path, {OPTIONS_VARIABLE: json.dumps(dict(registry_options or {}))})
        try:
            return _handle(state_path, _wait_ready(state_path, pid, deadline, log_path))
        except ServingError:
            _end(pid, timeout=5.0)
            state_path.unlink(missing_ok=True)
            raise


def find(state_file: str | Path) -> ServerHandle | None:
    """The live, ready server of a state file, or None."""
    path = Path(state_file).resolve()
    state = _read_live(path)
    if state is None or state.version is None or not _is_ready(state):
        return None
    return _handle(path, state)


def stop(state_file: str | Path, timeout: float = 30.0) -> bool:
    """End a server: in order by SIGTERM, by SIGKILL when that takes longer than the timeout.

    Returns:
        Whether a server was running.
    """
    path = Path(state_file).resolve()
    with _locked(path):
        return _stop(path, timeout)


def _stop(path: Path, timeout: float) -> bool:
    state = _read_live(path)
    if state is not None:
        _end(state.pid, timeout)
    path.unlink(missing_ok=True)
    return state is not None


@contextmanager
def _locked(state_path: Path) -> Iterator[None]:
    state_path.parent.mkdir(parents=True, exist_ok=True)
    with open(state_path.with_name(state_path.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_live(path: Path) -> ServerState | None:
    for child in list(_children.values()):
        if child.poll() is not None:
            del _children[child.pid]
    state = ServerState.read(path)
    return state if state is not None and state.is_alive() else None


def _spawn(command: Sequence[str], log_path: Path, variables: Mapping[str, str]) -> int:
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with open(log_path, "ab") as log:
        child = subprocess.Popen(
            command,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[child.pid] = child
    return child.pid


def _end(pid: int, timeout: float) -> None:
    for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 10.0)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if _has_ended(pid, patience):
            return
    raise ServingError(f"[server] process {pid} must end after SIGKILL; it still runs.")


def _has_ended(pid: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        child = _children.get(pid)
        if child is not None and child.poll() is not None:
            del _children[pid]
        if process_ticks(pid) is None:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def _wait_ready(state_path: Path, pid: int, deadline: float, log_path: Path) -> ServerState:
    while True:
        state = ServerState.read(state_path)
        if state is not None and state.pid == pid and state.version is not None and _is_ready(state):
            return state
        if _has_ended(pid, patience=0.0):
            raise ServingError(f"[server] process {pid} must stay up; its log ends:\n{_tail(log_path)}")
        if time.monotonic() > deadline:
            raise ServingError(
                f"[server] process {pid} must be ready by now; its log ends:\n{_tail(log_path)}"
            )
        time.sleep(0.05)


def _answers(state: ServerState, deadline: float) -> bool:
    """Whether a live server is ready; one that is loading its first version has until the deadline."""
    while (status := _get(f"{state.url}/v2/health/ready", timeout=5.0)) == 503:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return status == 200


def _is_ready(state: ServerState) -> bool:
    return _get(f"{state.url}/v2/health/ready", timeout=5.0) == 200


def _handle(state_path: Path, state: ServerState) -> ServerHandle:
    version, digest = state.version or "", state.digest or ""  # a ready server has both
    return ServerHandle(state.pid, state.url, state.model, version, digest, str(state_path))


def _ask_load(state: ServerState, deadline: float) -> None:
    url = f"{state.url}/v2/repository/models/{quote(state.model, safe='')}/load"
    request = urllib.request.Request(
        url, data=b"{}", headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with direct_opener.open(request, timeout=max(1.0, deadline - time.monotonic())) as response:
            response.read()
    except urllib.error.HTTPError as error:
        with suppress(ValueError, KeyError, TypeError):
            raise ServingError(json.loads(error.read())["error"]) from None
        raise ServingError(f"[server] {url} must answer 200; got {error.code}.") from None
    except (OSError, http.client.HTTPException) as error:
        raise ServingError(f"[server] {url} must answer; {error}.") from error


def _get(url: str, timeout: float) -> int:
    try:
        with direct_opener.open(url, timeout=timeout) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return 0


def _becomes_free(host: str, port: int, patience: float = 2.0) -> bool:
    """Whether a port can be had again; a killed process may hold it for a moment after it is gone."""
    deadline = time.monotonic() + patience
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen()
                return True
            except OSError:
                if time.monotonic() > deadline:
                    return False
        time.sleep(0.05)


def _tail(log_path: Path, size: int = 4000) -> str:
    try:
        return log_path.read_bytes()[-size:].decode(errors="replace").strip()
    except OSError:
        return "(no log)"
