"""Tell people what a gate has decided."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from mxpipe.errors import SpecificationError, StorageError
from mxpipe_airflow.errors import NotificationError

if TYPE_CHECKING:
    from airflow.sdk import Context

_TIMEOUT_SECONDS = 10.0
DECISIONS = ("PROMOTE", "HOLD", "REJECT")


class MxpipeGateNotifier(BaseNotifier):
    """Post a gate's decision to a webhook, or append it to a file; for ``on_success_callback`` of the gate.

    What is sent is a JSON object of ``text, dag_id, run_id, task_id, decision, reasons, inputs``; chat
    services show ``text``. The address of a webhook is as good as a password: no error and no log has it.

    Args:
        url: Address that takes a JSON object by POST. Templated.
        path: File that gets a line of JSON. Templated.
        headers: Further headers of the request. Templated.
        decisions: Decisions to tell of. Templated.
        task_id: The gate's task id; the task itself that the notifier belongs to by default. Templated.
        title: What the text begins with. Templated.

    Raises:
        NotificationError: The webhook did not take it.
        StorageError: The file cannot be written.

    Example:
        >>> notifier = MxpipeGateNotifier(url="{{ var.value.chat_webhook }}", decisions=["HOLD", "REJECT"])
        >>> from airflow.sdk import DAG
        >>> from mxpipe_airflow.operators.evaluate import MxpipeGateOperator
        >>> with DAG("flights", schedule=None):
        ...     gate = MxpipeGateOperator(task_id="gate", evaluation={}, on_success_callback=notifier)
    """

    template_fields: Sequence[str] = ("url", "path", "headers", "decisions", "task_id", "title")

    def __init__(
        self,
        *,
        url: str | None = None,
        path: str | None = None,
        headers: Mapping[str, str] | None = None,
        decisions: Sequence[str] = DECISIONS,
        task_id: str | None = None,
        title: str = "{{ dag.dag_id }}",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.url = url
        self.path = path
        self.headers = headers
        self.decisions = decisions
        self.task_id = task_id
        self.title = title

    def notify(self, context: Context) -> None:
        """Tell of the decision, if it is one to tell of."""
        if not self.url and not self.path:
            raise SpecificationError("[notifier] a url or a path must be given; got neither.")
        instance = context["ti"]
        task_id = self.task_id or instance.task_id
        verdict = instance.xcom_pull(task_ids=task_id)
        if not verdict or verdict["decision"] not in self.decisions:
            return
        message = {
            "text": f"{self.title}: {verdict['decision']}. {' '.join(verdict['reasons'])}",
            "dag_id": instance.dag_id,
            "run_id": instance.run_id,
            "task_id": task_id,
            **{name: verdict.get(name) for name in ("decision", "reasons", "inputs")},
        }
        if self.path:
            _append(Path(self.path), message)
        if self.url:
            _post(self.url, message, self.headers or {})

    async def async_notify(self, context: Context) -> None:
        """The same without blocking the triggerer's loop."""
        await asyncio.to_thread(self.notify, context)


def _append(path: Path, message: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(json.dumps(message).encode() + b"\n")
    except OSError as error:
        raise StorageError(f"[notifier] {path} must be writable; {error.strerror}.") from error


def _post(url: str, message: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(
            url,
            data=json.dumps(message).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        got = f"status {error.code}"
    except ValueError:
        got = "an address that is none"
    except OSError as error:
        got = type(error).__name__
    raise NotificationError(f"[notifier] the webhook must take the message; got {got}.") from None
