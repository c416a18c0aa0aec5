"""A training in a real Airflow that is about to be disturbed, and what became of it.

A fault is done to real processes, files and sockets; where the training is at that moment is read from its
job's status.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 400
ENDED = ("success", "failed")


@dataclass(frozen=True)
class Outcome:
    """One row of the matrix.

    Attributes:
        task: Final state of the train task, or of the task that the fault is about.
        attempts: Attempts of that task.
        jobs: Jobs that ever existed.
        starts: How often a process began or went on to train, over all jobs.
        versions: Versions registered.
        processes: Of jobs, still running at the end.
        open_runs: MLflow runs that are still RUNNING at the end.
        run: Status of the MLflow runs at the end.
        weights: Whether the model is byte for byte the undisturbed one; "-" where none was to come out.
    """

    task: str
    attempts: int
    jobs: int
    starts: int
    versions: int
    processes: int
    open_runs: int
    run: str
    weights: str

    def but(self, **changes: Any) -> Outcome:
        """The same with some fields changed."""
        return replace(self, **changes)


FINISHED = Outcome(
    task="success",
    attempts=1,
    jobs=1,
    starts=1,
    versions=1,
    processes=0,
    open_runs=0,
    run="FINISHED",
    weights="identical",
)


def table(matrix: dict[str, Outcome]) -> list[str]:
    """The matrix as lines of Markdown."""
    names = ["fault", *(item.name.replace("_", " ") for item in fields(Outcome))]
    rows = [[name, *map(str, astuple(outcome))] for name, outcome in matrix.items()]
    return ["| " + " | ".join(row) + " |" for row in (names, ["---"] * len(names), *rows)]


def columns() -> dict[str, Any]:
    """The columns of the snapshot."""
    random = np.random.default_rng(0)
    rows = 2000
    x, y = random.normal(size=(2, rows))
    kind = random.integers(0, 20, rows)
    label = (x * y + np.sin(kind) + random.normal(size=rows) / 2 > 0).astype(np.int64)
    return {"x": x, "y": y, "kind": [f"kind {number}" for number in kind], "label": label}


def write_rows(path: Path, **changes: Any) -> Any:
    """Publish the snapshot, or one with other columns."""
    from mxpipe.data import write_snapshot

    return write_snapshot(path, columns() | changes)


def specification(snapshot_uri: str) -> dict[str, Any]:
    """A training whose state is more than its weights: dropout, momentum, a schedule, a batch norm."""
    return {
        "model": {
            "builder": "wide_and_deep",
            "arguments": {"hidden_units": [16], "dropout": 0.2, "norm": "batch"},
        },
        "data": {
            "train": snapshot_uri,
            "features": {"numeric": ["x", "y"], "categorical": ["kind"], "label": "label"},
            "batch_size": 32,
        },
        "optimizer": {"name": "adam", "arguments": {"learning_rate": 0.003}},
        "schedule": {"name": "cosine", "arguments": {"warmup_steps": 20}},
        "steps": STEPS,
        "seed": 11,
        "checkpoint": {"every_steps": 20, "every_seconds": None},
        "threads": 1,
    }


class Door:
    """A way to a server that can be shut: then nobody listens, and whoever was inside is thrown out."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: set[socket.socket] = set()
        self._listener = self._listen(0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                guest, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {guest, server}
                for source, target in ((guest, server), (server, guest)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            self._open.discard(end)

    def shut(self) -> None:
        """Nobody comes in any more."""
        self._port = self._listener.getsockname()[1]
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def reopen(self) -> None:
        """On the same port as before."""
        self._listener = self._listen(self._port)


class Training:
    """A run of the DAG ``retraining`` with a root directory, an experiment and a registered model of its own.

    Args:
        name: Of all of these.
        standalone: The services.
        api: Airflow's API.
        root: Root directory of its connection.
        tracking_uri: MLflow as the run sees it.
        undisturbed: The model that must come out.
    """

    def __init__(
        self, name: str, standalone: Any, api: Any, root: Path, tracking_uri: str, undisturbed: Path
    ) -> None:
        from mxpipe.jobs import LocalLauncher

        self.name, self.api, self.root = name, api, root
        self._services, self._undisturbed = standalone, undisturbed
        self.launcher = LocalLauncher(root / "jobs")
        self.dag_id, self.run_ids = "retraining", [name]
        self.tracking_uri = tracking_uri

    def configuration(self, snapshot: Any, pace: float = 0.03) -> dict[str, Any]:
        """What a run of the DAG is given."""
        champion = {"version": None, "current": None, "alias": "champion"}
        return {
            "conn_id": self.name,
            "model": self.name,
            "spec": specification(snapshot.uri),
            "digest": snapshot.digest,
            "partition": "january",
            "callbacks": {
                "pace:Pace": {"seconds": pace},
                "mlflow": {"experiment": self.name, "tracking_uri": self.tracking_uri},
            },
            "champion": champion | {"partition": "january", "inputs": "none"},
        }

    def start(self, snapshot: Any, dag_id: str = "retraining", pace: float = 0.03, copies: int = 1) -> None:
        """Trigger the run, or several of the same configuration."""
        self.dag_id = dag_id
        self.run_ids = [f"{self.name}-{number}" for number in range(copies)]
        for run_id in self.run_ids:
            self.api.trigger(dag_id, run_id, self.configuration(snapshot, pace))

    def job_at(self, step: int, attempt: int = 1) -> tuple[str, Any]:
        """Wait until a job has come to a step, in its n-th start; its id and status."""

        def found() -> tuple[str, Any] | None:
            active = [(name, job) for name, job in self.launcher.list() if job.state.value == "RUNNING"]
            there = (item for item in active if item[1].step >= step and item[1].attempt == attempt)
            return next(there, None)

        return wait_until(found, f"a job at step {step}")

    def task(self, task_id: str = "train", copy: int = 0) -> dict[str, Any]:
        """A task instance of the run."""
        return dict(self.api.task(self.dag_id, self.run_ids[copy], task_id))

    def wait(self, task_id: str = "train", states: tuple[str, ...] = ENDED, copy: int = 0) -> str:
        """Wait for a state of a task."""
        return str(self.api.wait(self.dag_id, self.run_ids[copy], task_id, states))

    def wait_for_runs(self) -> None:
        """Wait until all is over."""
        for run_id in self.run_ids:
            wait_until(lambda run_id=run_id: self.api.run_state(self.dag_id, run_id) in ENDED, "the end")

    def log(self, attempt: int = 1) -> str:
        """What the train task, its trigger and its next start have logged in one attempt, as JSON lines."""
        logs = self._services.state / "airflow" / "logs" / f"dag_id={self.dag_id}"
        folder = logs / f"run_id={self.run_ids[0]}" / "task_id=train"
        return "\n".join(path.read_text() for path in sorted(folder.glob(f"attempt={attempt}.log*")))

    def outcome(self, task: Mapping[str, Any] | None = None) -> Outcome:
        """What became of it, once all that is on its way has arrived; a minute is given to that.

        Args:
            task: ``state`` and ``try_number`` of the task in question; by default those of the train task.
        """
        if task is None:
            self.wait_for_runs()
            task = self.task()
        jobs = self.launcher.list()
        wait_until(self._is_settled, "MLflow to hear of the end", 60)
        statuses = [run.info.status for run in self.runs()]
        return Outcome(
            task=task["state"],
            attempts=task["try_number"],
            jobs=len(jobs),
            starts=sum(self.starts(job_id) for job_id, _ in jobs),
            versions=self.versions(),
            processes=len(self.processes()),
            open_runs=statuses.count("RUNNING"),
            run=", ".join(sorted(statuses)) or "-",
            weights=self._weights(),
        )

    def starts(self, job_id: str) -> int:
        """How often a process began, or went on, to train in a job."""
        from mxpipe.train import read_events

        events = read_events(self.launcher.run_directory(job_id).events_path)
        return sum(event["event"] == "start" for event in events)

    def processes(self) -> list[str]:
        """Command lines of processes that work under the root."""
        return [line for _, line in self._services.processes() if str(self.root) in line]

    def runs(self) -> list[Any]:
        """The experiment's runs."""
        client = self._client()
        found = client.get_experiment_by_name(self.name)
        return list(client.search_runs([found.experiment_id])) if found else []

    def logged_steps(self) -> list[int]:
        """The steps of the one run's loss, as MLflow has them; it orders them by the clock."""
        (run,) = self.runs()
        return sorted(point.step for point in self._client().get_metric_history(run.info.run_id, "loss"))

    def logged_models(self) -> list[str]:
        """Statuses of the experiment's models, registered or not."""
        client = self._client()
        found = client.get_experiment_by_name(self.name)
        models = client.search_logged_models([found.experiment_id]) if found else []
        return [model.status.name for model in models]

    def versions(self) -> int:
        """How many versions were registered."""
        return len(self._client().search_model_versions(f"name = '{self.name}'"))

    def _client(self) -> Any:
        import mlflow

        uri = self._services.mlflow_url
        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)

    def _is_settled(self) -> bool:
        """Whether no process may change anything any more, and MLflow has no run at work."""
        return not self.processes() and all(run.info.status != "RUNNING" for run in self.runs())

    def _weights(self) -> str:
        finished = [name for name, job in self.launcher.list() if str(job.state) == "SUCCEEDED"]
        if not finished:
            return "-"
        same = all(
            (self.launcher.run_directory(name).model_path / file).read_bytes()
            == (self._undisturbed / file).read_bytes()
            for name in finished
            for file in ("weights.safetensors", "model.json")
        )
        return "identical" if same else "DIFFERENT"


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 240.0) -> Any:
    """Wait until a condition holds; returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.1)
    return value


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)
