"""The receiver of alias moves: real requests, MLflow's own signature, a real server that swaps."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from mxpipe.errors import RequestError, ServingError
from mxpipe.model import model_digest
from mxpipe.serve import process
from mxpipe_mlflow import registry, webhook

SECRET = "between the two of us"


def event(name: str = "flights", alias: str = "champion", **change: Any) -> dict[str, Any]:
    data = {"name": name, "alias": alias, "version": "2"}
    return {"entity": "model_version_alias", "action": "created", "data": data} | change


def signed(body: str, secret: str = SECRET, age: float = 0.0, delivery: str = "d-1") -> dict[str, str]:
    """Headers as MLflow sends them, by its own function."""
    timestamp = str(int(time.time() - age))
    return {
        "Content-Type": "application/json",
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": timestamp,
        "X-MLflow-Signature": _generate_hmac_signature(secret, delivery, timestamp, body),
    }


class Receiver:
    """A receiver on a free port that notes what it is told to move."""

    client = httpx.Client(trust_env=False, timeout=30.0)

    def __init__(self) -> None:
        self.moves: list[str] = []
        self.fails = False
        self.server = webhook.WebhookReceiver(
            ("127.0.0.1", 0), SECRET, {"flights@champion": Path("server.json")}, self.move
        )
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def move(self, reference: str, state_file: Path) -> None:
        if self.fails:
            raise ServingError("[server] it must start; it did not.")
        self.moves.append(f"{reference} {state_file}")

    def post(self, body: str, headers: dict[str, str]) -> httpx.Response:
        url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        return self.client.post(url, content=body, headers=headers)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def test_a_signed_move_is_carried_out(receiver: Receiver) -> None:
    body = json.dumps(event())
    answer = receiver.post(body, signed(body))
    assert (answer.status_code, answer.json()) == (200, {"done": "flights@champion is served"})
    assert receiver.moves == ["flights@champion server.json"]


@pytest.mark.parametrize(
    "other",
    [
        event(alias="previous"),
        event(name="other"),
        event(action="deleted"),
        {"entity": "registered_model", "action": "created", "data": {"name": "flights"}},
    ],
)
def test_other_events_are_taken_and_left(receiver: Receiver, other: dict[str, Any]) -> None:
    body = json.dumps(other)
    assert receiver.post(body, signed(body)).json() == {"done": "nothing to do"}
    assert receiver.moves == []


def test_what_was_not_signed_by_the_secret_is_refused(receiver: Receiver) -> None:
    body = json.dumps(event())
    good = signed(body)
    for headers in (
        {},
        signed(body, secret="a guess"),
        good | {"X-MLflow-Delivery-Id": "d-2"},
        good | {"X-MLflow-Timestamp": str(int(time.time()) + 1)},
        good | {"X-MLflow-Signature": "v1,ÄÖÜ".encode("latin-1").decode("latin-1")},
        signed(body, age=600),
        signed(body, age=-600),
    ):
        content = {name: value.encode("latin-1") for name, value in headers.items()}
        assert receiver.post(body, content).status_code == 401, headers  # type: ignore[arg-type]
    assert receiver.post(body + " ", good).status_code == 401
    assert receiver.moves == []


def test_what_is_no_event_is_refused(receiver: Receiver) -> None:
    for body in ("", "[]", "{", '{"entity": "model_version_alias", "action": "created"}'):
        assert receiver.post(body, signed(body)).status_code == 400
    large = "x" * (65 * 1024)
    assert receiver.post(large, signed(large)).status_code == 413
    with pytest.raises(RequestError, match="secret"):
        webhook.WebhookReceiver(("127.0.0.1", 0), "", {})
    with pytest.raises(ServingError, match="name@alias"):
        webhook.WebhookReceiver(("127.0.0.1", 0), SECRET, {"flights": Path("s")})


def test_a_swap_that_fails_is_to_be_sent_again(receiver: Receiver) -> None:
    body = json.dumps(event())
    receiver.fails = True
    answer = receiver.post(body, signed(body))
    assert answer.status_code == 503
    assert "it did not" in answer.json()["error"]
    receiver.fails = False
    assert receiver.post(body, signed(body)).status_code == 200


@pytest.mark.slow
def test_a_server_swaps_at_the_move_of_its_alias(
    trained_models: Any, tracking_uri: str, name: str, tmp_path: Path
) -> None:
    """From the registry to the answer of a real server, which would itself look for news in an hour."""
    for key, path in (("K1", trained_models.first), ("K2", trained_models.second)):
        registry.publish_once(name, path, key, experiment=name, tracking_uri=tracking_uri)
    registry.promote(name, "1", None, tracking_uri=tracking_uri)
    reference, state_file = f"{name}@champion", tmp_path / "server.json"
    server = webhook.WebhookReceiver(
        ("127.0.0.1", 0),
        SECRET,
        {reference: state_file},
        lambda reference, path: webhook.swap(reference, path, tracking_uri),
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        first = process.start(
            registry_model=reference,
            registry="mlflow",
            registry_options={"tracking_uri": tracking_uri},
            state_file=state_file,
            arguments=["--poll-seconds=3600"],
        )
        assert first.version == "1"
        registry.promote(name, "2", "1", tracking_uri=tracking_uri)
        body = json.dumps(event(name=name))
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        assert httpx.post(url, content=body, headers=signed(body), trust_env=False, timeout=120).is_success
        second = process.find(state_file)
        assert second is not None
        assert (second.pid, second.version) == (first.pid, "2")
        assert second.digest == model_digest(trained_models.second)
    finally:
        process.stop(state_file)
        server.shutdown()
        server.server_close()
