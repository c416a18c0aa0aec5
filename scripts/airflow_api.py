"""A little of Airflow's REST API, as a person's clicks use it: for tests and measurements."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

ENDED = frozenset(("success", "failed", "skipped", "upstream_failed"))


class AirflowApi:
    """Talks to an Airflow whose visitors are all admins.

    Args:
        url: Address of its pages, without a slash at the end.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.Client(base_url=f"{url}/api/v2", timeout=180.0)

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """One request; returns the parsed answer.

        Raises:
            RuntimeError: The answer says that something is wrong.
        """
        for _ in range(2):
            answer = self._client.request(method, path, json=body, params=query)
            if answer.status_code != 401:
                break
            token = httpx.get(f"{self._url}/auth/token", timeout=180.0).json()["access_token"]
            self._client.headers["Authorization"] = f"Bearer {token}"
        if answer.is_error:
            raise RuntimeError(
                f"[airflow] {method} {path} must succeed; got {answer.status_code} {answer.text}"
            )
        return answer.json() if answer.content else None

    def connect(self, conn_id: str, extra: Mapping[str, Any]) -> None:
        """Make a connection of type mxpipe."""
        body = {"connection_id": conn_id, "conn_type": "mxpipe", "extra": json.dumps(dict(extra))}
        self.call("POST", "/connections", body)

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any] | None = None) -> None:
        """Make a run by hand, as soon as the DAG is known."""
        deadline = time.monotonic() + 120
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        while True:
            try:
                self.call("POST", f"/dags/{dag_id}/dagRuns", body)
                return
            except RuntimeError as error:
                if "404" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(1.0)

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """A task instance: ``state``, ``try_number``, ``pid`` and more."""
        return dict(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"))

    def tries(self, dag_id: str, run_id: str, task_id: str) -> list[dict[str, Any]]:
        """All attempts of a task that have begun, in order."""
        found = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/tries")
        return sorted(found["task_instances"], key=lambda attempt: int(attempt["try_number"]))

    def wait(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: Sequence[str] | frozenset[str] = ENDED,
        seconds: float = 240.0,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> str:
        """Wait until a task is in one of the states; returns it.

        Raises:
            TimeoutError: It takes longer.
        """
        deadline = time.monotonic() + seconds
        while (state := self.task(dag_id, run_id, task_id)["state"]) not in states:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"[airflow] {dag_id}.{task_id} must come to {sorted(states)}; got {state}."
                )
            meanwhile()
            time.sleep(0.5)
        return str(state)

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """What the page's buttons "mark as success" and "mark as failed" do."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self.call("PATCH", path, {"new_state": state})

    def clear(self, dag_id: str, run_id: str, task_ids: Sequence[str]) -> None:
        """What the page's button "clear" does."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": list(task_ids)}
        body |= {"only_failed": False, "only_running": False, "reset_dag_runs": True}
        self.call("POST", f"/dags/{dag_id}/clearTaskInstances", body)

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> list[dict[str, Any]]:
        """The log of one attempt: ``timestamp`` and ``event`` of each line, triggers' lines included."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        return list(self.call("GET", path, full_content="true")["content"])
