"""A real tracking server over HTTP: models from afar, its own webhooks, and its death in mid-training."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent

import mxpipe_mlflow
from mxpipe.model import load_model
from mxpipe.train import JobState, RunContext, TrainSpec, fit
from mxpipe_mlflow import registry, tracking, webhook

pytestmark = pytest.mark.slow

SECRET = "between the two of us"


class TrackingServer:
    """MLflow's server over SQLite, which can be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, without waiting."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts"), "--workers", "1"]
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # finds uvicorn there
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",  # the test's receiver is on the loopback
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        }
        with open(self._folder / "log.txt", "ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        """Until it answers."""

        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "log.txt").read_text()[-4000:]
            try:
                return httpx.get(f"{self.url}/health", trust_env=False, timeout=5.0).is_success
            except httpx.TransportError:
                return False

        wait_until(answers)

    def kill(self) -> None:
        """SIGKILL, to it and its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path_factory.mktemp("server"))
    server.start()
    server.wait()
    yield server
    server.kill()


def test_models_and_weights_come_over_http(server: TrackingServer, trained_models: Any, name: str) -> None:
    registry.publish_once(name, trained_models.first, "K1", experiment=name, tracking_uri=server.url)
    frame = pd.DataFrame(trained_models.columns)
    expected = load_model(trained_models.first).predict(frame)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.url)
    try:
        native = mxpipe_mlflow.load_model(f"models:/{name}/1")
        pyfunc = mlflow.pyfunc.load_model(f"models:/{name}/1", model_config={"output": "class"})
    finally:
        mlflow.set_tracking_uri(before)
    np.testing.assert_array_equal(native.predict(frame), expected)
    np.testing.assert_array_equal(pyfunc.predict(frame), expected >= 0.5)
    downloaded = registry.download(name, "1", tracking_uri=server.url)
    np.testing.assert_array_equal(load_model(downloaded).predict(frame), expected)


def test_mlflow_tells_the_receiver_of_a_promotion(
    server: TrackingServer, trained_models: Any, name: str
) -> None:
    moves: list[str] = []
    receiver = webhook.WebhookReceiver(
        ("127.0.0.1", 0),
        SECRET,
        {f"{name}@champion": Path("s")},
        lambda reference, _: moves.append(reference),
    )
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    try:
        mlflow.MlflowClient(server.url, server.url).create_webhook(
            name,
            f"http://127.0.0.1:{receiver.server_address[1]}/",
            [WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED)],
            secret=SECRET,
        )
        for key, path in (("K1", trained_models.first), ("K2", trained_models.second)):
            registry.publish_once(name, path, key, experiment=name, tracking_uri=server.url)
        registry.promote(name, "1", None, tracking_uri=server.url)
        wait_until(lambda: moves == [f"{name}@champion"])
        registry.promote(name, "2", "1", tracking_uri=server.url)  # moves the alias `previous` as well
        wait_until(lambda: moves == [f"{name}@champion"] * 2)
    finally:
        receiver.shutdown()
        receiver.server_close()


def test_the_server_is_dead_for_the_middle_third_of_a_training(
    server: TrackingServer,
    trained_models: Any,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is killed when it holds the first third, and back for the last: each step arrives once, in order."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    stored = json.loads((trained_models.first.parent / "spec.json").read_text())["spec"]
    spec = TrainSpec.from_json(stored | {"epochs": 10})
    client = mlflow.MlflowClient(server.url)

    def known_steps() -> list[int]:
        run_id = tracking.find_run(name, name, tracking_uri=server.url)
        return [] if run_id is None else [point.step for point in client.get_metric_history(run_id, "loss")]

    class Outage:
        seconds = 0.0

        def on_step(self, context: RunContext, step: int, metrics: Mapping[str, float]) -> None:
            third = context.total_steps // 3
            if step == third:
                wait_until(lambda: known_steps() == list(range(1, third + 1)))
                server.kill()
                self.began = time.monotonic()
            elif step == 2 * third:
                self.seconds = time.monotonic() - self.began
                server.start()

    outage = Outage()
    callback = tracking.MlflowCallback(server.url, name, flush_seconds=250.0)
    result = fit(spec, tmp_path / "run", name, [callback, outage])
    assert result.status.state is JobState.SUCCEEDED
    assert outage.seconds < 20  # the training did not wait for the server
    server.wait()

    run = client.get_run(callback.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_id == tracking.find_run(name, name, tracking_uri=server.url)
    history = client.get_metric_history(callback.run_id, "loss")
    assert [point.step for point in history] == list(range(1, result.steps + 1))
    assert [point.timestamp for point in history] == sorted(point.timestamp for point in history)
    assert run.data.metrics["train_loss"] == pytest.approx(result.metrics["train_loss"])
    assert len(run.inputs.dataset_inputs) == 1
    assert tracking.replay(tmp_path / "run", tracking_uri=server.url) == 0


def wait_until(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
