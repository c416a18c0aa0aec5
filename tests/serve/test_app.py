"""The app in this process: readiness, admission, slow clients, and the swap of versions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mxpipe.errors import ModelFormatError, ServingError
from mxpipe.serve.app import InferenceApp, Limits
from mxpipe.serve.slot import ModelSlot
from mxpipe.serve.sources import FolderSource, load_resolver


def exchange(app: InferenceApp, calls: Callable[[httpx.AsyncClient], Any]) -> Any:
    """Run requests against an app on an event loop of their own."""

    async def run() -> Any:
        transport = httpx.ASGITransport(app.application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await calls(client)

    return asyncio.run(run())


@pytest.fixture
def slot(trained_models: Any) -> ModelSlot:
    slot = ModelSlot(FolderSource(trained_models.first, "late"))
    slot.refresh()
    return slot


def test_not_ready_until_a_version_is_warm(trained_models: Any, infer_body: dict[str, Any]) -> None:
    slot = ModelSlot(FolderSource(trained_models.first, "late"))
    app = InferenceApp(slot)
    paths = ("/v2/health/ready", "/v2/models/late/ready", "/ping", "/v2/models/late")

    async def statuses(client: httpx.AsyncClient) -> list[int]:
        inferred = await client.post("/v2/models/late/infer", json=infer_body)
        live = await client.get("/v2/health/live")
        return [(await client.get(path)).status_code for path in paths] + [
            inferred.status_code,
            live.status_code,
        ]

    assert exchange(app, statuses) == [503, 503, 503, 503, 503, 200]
    slot.refresh()
    assert exchange(app, statuses) == [200] * 6


def test_more_requests_than_the_queue_holds_are_answered_429(
    slot: ModelSlot, infer_body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = slot.current
    assert loaded is not None
    predict, gate = loaded.model.predict, threading.Event()

    def predict_when_allowed(columns: Any) -> Any:
        assert gate.wait(30)
        return predict(columns)

    monkeypatch.setattr(loaded.model, "predict", predict_when_allowed)
    app = InferenceApp(slot, Limits(concurrency=1, queue=2))

    async def crowd(client: httpx.AsyncClient) -> list[httpx.Response]:
        asked = [asyncio.create_task(client.post("/v2/models/late/infer", json=infer_body)) for _ in range(5)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 2:
            more, _ = await asyncio.wait(set(asked) - done, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        assert (await client.get("/v2/health/ready")).status_code == 200  # health answers whatever the load
        gate.set()
        return [await task for task in asked]

    answers = exchange(app, crowd)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].headers["Retry-After"]
    assert "[queue]" in answers[-1].json()["error"]


def test_a_body_that_does_not_arrive_is_given_up(slot: ModelSlot) -> None:
    app = InferenceApp(slot, Limits(body_seconds=0.1))

    async def dawdle(client: httpx.AsyncClient) -> httpx.Response:
        async def drops() -> AsyncIterator[bytes]:
            for _ in range(20):
                await asyncio.sleep(0.05)
                yield b" "

        return await client.post(
            "/invocations", content=drops(), headers={"Content-Type": "application/json"}
        )

    answer = exchange(app, dawdle)
    assert answer.status_code == 408
    assert "[body] must arrive within" in answer.json()["error"]


def test_a_fault_of_ours_is_a_500_without_details(
    slot: ModelSlot, infer_body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = slot.current
    assert loaded is not None

    def fail(columns: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(loaded.model, "predict", fail)
    answer = exchange(
        InferenceApp(slot), lambda client: client.post("/v2/models/late/infer", json=infer_body)
    )
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert set(answer.json()) == {"error"}


def test_a_prediction_that_is_not_finite_names_the_row(
    slot: ModelSlot, infer_body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = slot.current
    assert loaded is not None
    monkeypatch.setattr(loaded.model, "predict", lambda columns: np.array([0.5, np.nan, 0.5], np.float32))
    answer = exchange(
        InferenceApp(slot), lambda client: client.post("/v2/models/late/infer", json=infer_body)
    )
    assert answer.status_code == 400
    assert "[row 1]" in answer.json()["error"]


def test_a_swap_returns_when_the_old_version_is_drained(
    trained_models: Any, model_copy: Callable[[Path], Path]
) -> None:
    slot = ModelSlot(FolderSource(model_copy(trained_models.first), "late"))
    assert slot.refresh() is True
    assert slot.refresh() is False
    model_copy(trained_models.second)
    swapped = threading.Event()

    def swap() -> None:
        slot.refresh()
        swapped.set()

    with slot.lease() as old:
        thread = threading.Thread(target=swap)
        thread.start()
        while slot.current is old:
            pass
        with slot.lease() as new:
            assert new.version != old.version
        assert not swapped.wait(0.1)
        old.model.predict(trained_models.columns)  # the old version still works for whoever holds it
    thread.join()
    assert swapped.is_set()


def test_a_version_that_cannot_be_loaded_is_counted(
    trained_models: Any, model_copy: Callable[[Path], Path]
) -> None:
    folder = model_copy(trained_models.first)
    slot = ModelSlot(FolderSource(folder, "late"))
    slot.refresh()
    (folder / "model.json").write_text("{}")
    with pytest.raises(ModelFormatError, match=r"model\.json"):
        slot.refresh()
    assert slot.load_failures == 1
    assert slot.current is not None


def test_limits_must_let_something_through() -> None:
    with pytest.raises(ServingError, match="concurrency must be at least 1; got 0"):
        Limits(concurrency=0)


def test_a_resolver_must_be_installed() -> None:
    with pytest.raises(ServingError, match="must be an installed resolver"):
        load_resolver("nowhere", {})
