"""The gate's notifier: rendered by Airflow, sent to a real webhook, silent about its address."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("airflow_database")

VERDICT = {"decision": "HOLD", "reasons": ["The gain may be luck."], "inputs": "aa"}


class Instance:
    """What a notifier asks of a task instance."""

    dag_id, run_id, task_id = "flights", "run-1", "gate"

    def __init__(self, verdict: Any) -> None:
        self.verdict = verdict

    def xcom_pull(self, task_ids: str) -> Any:
        return self.verdict if task_ids == "gate" else None


def context(verdict: Any = VERDICT) -> dict[str, Any]:
    from airflow.sdk import DAG

    return {"ti": Instance(verdict), "dag": DAG("flights", schedule=None), "params": {"room": "models"}}


@pytest.fixture
def webhook() -> Iterator[Any]:
    """Takes what is posted, and answers with a status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.taken.append((self.path, self.headers["X-Room"], json.loads(body)))
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hook = SimpleNamespace(taken=[], status=200, url=f"http://127.0.0.1:{server.server_port}/s3cret")
        yield hook
        server.shutdown()


def test_a_decision_reaches_a_webhook_and_a_file(webhook: Any, tmp_path: Path) -> None:
    from mxpipe_airflow.notifications.gate import MxpipeGateNotifier

    notifier = MxpipeGateNotifier(
        url=webhook.url,
        path=f"{tmp_path}/{{{{ dag.dag_id }}}}/decisions.jsonl",
        headers={"X-Room": "{{ params.room }}"},
    )
    notifier(context())
    ((path, room, message),) = webhook.taken
    assert (path, room) == ("/s3cret", "models")
    assert message == {
        "text": "flights: HOLD. The gain may be luck.",
        "dag_id": "flights",
        "run_id": "run-1",
        "task_id": "gate",
        **VERDICT,
    }
    assert json.loads((tmp_path / "flights" / "decisions.jsonl").read_text()) == message


def test_only_the_decisions_that_are_asked_for_are_told(webhook: Any) -> None:
    from mxpipe_airflow.notifications.gate import MxpipeGateNotifier

    for verdict in (VERDICT, None):
        MxpipeGateNotifier(url=webhook.url, decisions=["REJECT"])(context(verdict))
    assert webhook.taken == []


def test_it_can_be_awaited_in_the_triggerer(webhook: Any) -> None:
    from mxpipe_airflow.notifications.gate import MxpipeGateNotifier

    async def tell() -> None:
        await MxpipeGateNotifier(url=webhook.url, context=context())

    asyncio.run(tell())
    assert len(webhook.taken) == 1


def test_what_goes_wrong_is_said_without_the_address(webhook: Any, tmp_path: Path) -> None:
    from mxpipe.errors import SpecificationError, StorageError
    from mxpipe_airflow.errors import NotificationError
    from mxpipe_airflow.notifications.gate import MxpipeGateNotifier

    webhook.status = 500
    with pytest.raises(NotificationError, match="status 500") as failure:
        MxpipeGateNotifier(url=webhook.url)(context())
    assert "s3cret" not in str(failure.value)
    for url, words in (("http://127.0.0.1:1/s3cret", "URLError"), ("s3cret", "an address that is none")):
        with pytest.raises(NotificationError, match=words) as failure:
            MxpipeGateNotifier(url=url)(context())
        assert "s3cret" not in str(failure.value)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        MxpipeGateNotifier(path=str(tmp_path / "file" / "below"))(context())
    with pytest.raises(SpecificationError, match="url or a path"):
        MxpipeGateNotifier()(context())
