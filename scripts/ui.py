"""Airflow and MLflow with their pages on loopback, over the state of ``make run``, until Ctrl-C.

Every process that is started here, and every one that those start, carries a token in its environment: when
the pages close, all of them end, training jobs and servers that the pages' DAG runs have started included.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from environment import STATE, environment, tracking_uri

TOKEN = "MXPIPE_UI_TOKEN"
READY_SECONDS = 180.0
# The scheduler and the triggerer would serve their log files on all interfaces; here they are on this disk.
AIRFLOW_FRONT = """#!/bin/sh
case "$1" in
  scheduler | triggerer) exec "{airflow}" "$@" --skip-serve-logs ;;
  *) exec "{airflow}" "$@" ;;
esac
"""


def free_port(preferred: int) -> int:
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


def start(command: list[str], variables: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that Ctrl-C reaches it through us alone."""
    with open(log, "wb") as file:
        return subprocess.Popen(
            command,
            env=os.environ | variables,
            cwd=STATE,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def carriers(token: str) -> Iterator[int]:
    """Processes that carry the token, without this one."""
    marker = f"{TOKEN}={token}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
            if alive and marker in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def end_all(started: list[subprocess.Popen[bytes]], token: str) -> None:
    """Ask the programs to stop, then end whatever carries the token; returns when nothing is left."""
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    for number, patience in ((None, 15.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + patience
        while left := list(carriers(token)):
            if number is not None:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
            for process in started:
                process.poll()
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        if not left:
            return
    print(f"Still running: {sorted(carriers(token))}", file=sys.stderr)


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a page answers.

    Raises:
        RuntimeError: Its program has ended, or it takes too long.
    """
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise RuntimeError(f"[ui] {url} must answer; see {log}:\n{tail}") from None
        time.sleep(0.5)


def main() -> int:
    """Start both, wait for Ctrl-C, end both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--airflow-port", type=int, default=8080)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    options = parser.parse_args()
    airflow_port, mlflow_port = free_port(options.airflow_port), free_port(options.mlflow_port)
    token = secrets.token_hex(16)
    variables = environment() | modest(airflow_port) | {TOKEN: token}
    binaries = Path(sys.executable).parent
    variables["PATH"] = f"{airflow_front(STATE / 'bin')}:{binaries}:{os.environ['PATH']}"
    logs = STATE / "logs"
    mlflow = [str(binaries / "mlflow"), "server", "--backend-store-uri", tracking_uri(), "--workers", "1"]
    mlflow += ["--host", "127.0.0.1", "--port", str(mlflow_port)]
    programs = {
        f"http://127.0.0.1:{mlflow_port}/": (mlflow, logs / "mlflow-ui.log"),
        f"http://127.0.0.1:{airflow_port}/": (["airflow", "standalone"], logs / "airflow-ui.log"),
    }
    # Ctrl-C, an ordinary kill and a closed terminal do the same, even where a parent had one ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    started = []
    try:
        for command, log in programs.values():
            command[0] = shutil.which(command[0], path=variables["PATH"]) or command[0]
            started.append(start(command, variables, log))
        for process, (url, (_, log)) in zip(started, programs.items(), strict=True):
            wait_ready(url, process, log)
        mlflow_url, airflow_url = programs
        print(f"Airflow  {airflow_url}dags/flight_delays", flush=True)
        print(f"MLflow   {mlflow_url}", flush=True)
        print("Ctrl-C ends both.", flush=True)
        while all(process.poll() is None for process in started):
            time.sleep(1)
        print("One of the programs has ended; see var/logs.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nEnding ...", flush=True)
        return 0
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        # A second one does not cut the ending short.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        end_all(started, token)


if __name__ == "__main__":
    sys.exit(main())
