"""A whole Airflow and an MLflow server on loopback, over one state directory: for `make ui` and for tests.

Every process that is started here, and every one that those start, carries a token in its environment: when
the services end, all of them end, training jobs and servers that DAG runs have started included.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from environment import environment, tracking_uri

TOKEN = "MXPIPE_UI_TOKEN"
READY_SECONDS = 420.0
# The scheduler and the triggerer would serve their log files on all interfaces; here they are on this disk.
AIRFLOW_FRONT = """#!/bin/sh
case "$1" in
  scheduler | triggerer) exec "{airflow}" "$@" --skip-serve-logs ;;
  *) exec "{airflow}" "$@" ;;
esac
"""


def free_port(preferred: int = 0) -> int:
    """The preferred port of loopback if it is free, else any other."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("[ui] a port of 127.0.0.1 must be free; got none.")


def airflow_front(folder: Path) -> Path:
    """A folder whose ``airflow`` keeps to loopback; ``airflow standalone`` finds its parts through PATH."""
    airflow = shutil.which("airflow", path=str(Path(sys.executable).parent)) or shutil.which("airflow")
    folder.mkdir(parents=True, exist_ok=True)
    front = folder / "airflow"
    front.write_text(AIRFLOW_FRONT.format(airflow=airflow))
    front.chmod(0o755)
    return folder


def modest(airflow_port: int) -> dict[str, str]:
    """Settings that keep Airflow and MLflow small and on loopback."""
    return {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(airflow_port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{airflow_port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{airflow_port}/execution/",
        # Whoever can reach loopback of this machine may look and click.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__SCHEDULER__CATCHUP_BY_DEFAULT": "False",
        "AIRFLOW__TRIGGERER__CAPACITY": "50",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


class Services:
    """Airflow (scheduler, DAG processor, API server, triggerer) and MLflow; ended with all that they started.

    Args:
        state: The state directory; what is in it already is gone on with.
        airflow_port: Preferred port of Airflow's pages and API; any free one where it is taken.
        mlflow_port: The same for MLflow.
        variables: Further environment variables, over those of :func:`environment.environment`.

    Attributes:
        airflow_url: Address of Airflow, without a slash at its end.
        mlflow_url: Address of MLflow, likewise.
        variables: What the programs find in their environment beyond this process's own.
    """

    def __init__(
        self,
        state: Path,
        airflow_port: int = 0,
        mlflow_port: int = 0,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.state = state
        self.token = secrets.token_hex(16)
        airflow_port, mlflow_port = free_port(airflow_port), free_port(mlflow_port)
        self.airflow_url = f"http://127.0.0.1:{airflow_port}"
        self.mlflow_url = f"http://127.0.0.1:{mlflow_port}"
        binaries = Path(sys.executable).parent
        # A process that renames itself must leave the room of its environment alone, or the token is lost.
        self.variables = environment(state) | modest(airflow_port) | {TOKEN: self.token, "SPT_NOENV": "1"}
        self.variables["PATH"] = f"{airflow_front(state / 'bin')}:{binaries}:{os.environ['PATH']}"
        self.variables |= variables or {}
        mlflow = ["mlflow", "server", "--backend-store-uri", tracking_uri(state), "--workers", "1"]
        mlflow += ["--host", "127.0.0.1", "--port", str(mlflow_port)]
        self._commands = {"mlflow": mlflow, "airflow": ["airflow", "standalone"]}
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start both and wait until their pages answer.

        Raises:
            RuntimeError: A program has ended, or it takes too long.
        """
        for name, command in self._commands.items():
            self.run(name, command)
        for name, url in (("mlflow", self.mlflow_url), ("airflow", self.airflow_url)):
            self._wait_ready(name, f"{url}/")

    def run(self, name: str, command: list[str]) -> None:
        """Start a program among the others, in a session of its own, so that Ctrl-C reaches it through us."""
        command = [shutil.which(command[0], path=self.variables["PATH"]) or command[0], *command[1:]]
        with open(self.log_of(name), "ab") as log:
            self._started[name] = subprocess.Popen(
                command,
                env=os.environ | self.variables,
                cwd=self.state,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log_of(self, name: str) -> Path:
        """Where a program's output goes."""
        return self.state / "logs" / f"{name}-ui.log"

    def are_running(self) -> bool:
        """Whether none of the programs has ended."""
        return all(process.poll() is None for process in self._started.values())

    def processes(self) -> Iterator[tuple[int, str]]:
        """Ids and command lines of all processes that carry the token, without this one."""
        marker = f"{TOKEN}={self.token}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
                if alive and marker in (entry / "environ").read_bytes().split(b"\0"):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    yield int(entry.name), line.strip()

    def end(self) -> None:
        """Ask the programs to stop, then end whatever carries the token; returns when nothing is left."""
        for process in self._started.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
        for number, patience in ((None, 15.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            deadline = time.monotonic() + patience
            while left := [pid for pid, _ in self.processes()]:
                if number is not None:
                    for pid in left:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, number)
                for process in self._started.values():
                    process.poll()
                if time.monotonic() > deadline:
                    break
                time.sleep(0.2)
            if not left:
                return
        print(f"Still running: {sorted(self.processes())}", file=sys.stderr)

    def _wait_ready(self, name: str, url: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                if self._started[name].poll() is not None or time.monotonic() > deadline:
                    log = self.log_of(name)
                    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                    raise RuntimeError(f"[ui] {url} must answer; see {log}:\n{tail}") from None
            time.sleep(0.5)

    def __enter__(self) -> Services:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
