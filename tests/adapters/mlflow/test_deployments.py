"""``mlflow deployments -t mxpipe``: real servers, real requests, the real command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow.deployments import get_deploy_client
from mlflow.deployments.cli import commands
from mlflow.exceptions import MlflowException

import mxpipe_mlflow
from mxpipe.model import load_model, model_digest
from mxpipe_mlflow import registry


@pytest.fixture(scope="module")
def saved(trained_models: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The two models as MLflow models on the disk."""
    folder = tmp_path_factory.mktemp("saved")
    for name in ("first", "second"):
        mxpipe_mlflow.save_model(getattr(trained_models, name), folder / name)
    return {name: str(folder / name) for name in ("first", "second")}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    client = get_deploy_client(f"mxpipe:{tmp_path / 'deployments'}")
    yield client
    for deployment in client.list_deployments():
        client.delete_deployment(deployment["name"])


@pytest.fixture(scope="module")
def frame(trained_models: Any) -> pd.DataFrame:
    return pd.DataFrame(trained_models.columns)


def predictions(client: Any, frame: pd.DataFrame, name: str = "flights") -> Any:
    return client.predict(name, frame).get_predictions("ndarray", np.float32)


class TestLife:
    def test_create_update_and_delete(
        self, client: Any, saved: dict[str, str], trained_models: Any, frame: pd.DataFrame
    ) -> None:
        created = client.create_deployment("flights", saved["first"], config={"concurrency": "1"})
        assert created["state"] == "READY"
        assert created["digest"] == model_digest(trained_models.first)
        expected = {name: load_model(getattr(trained_models, name)).predict(frame) for name in saved}
        np.testing.assert_array_equal(predictions(client, frame), expected["first"])
        with pytest.raises(MlflowException, match="must be free"):
            client.create_deployment("flights", saved["second"])

        # All the while that the model changes, someone asks.
        outcomes: list[bool] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                got = predictions(client, frame)
                outcomes.append(any(np.array_equal(got, known) for known in expected.values()))

        asking = threading.Thread(target=ask)
        asking.start()
        updated = client.update_deployment("flights", saved["second"])
        done.set()
        asking.join()
        assert outcomes
        assert all(outcomes)
        assert (updated["url"], updated["model_uri"]) == (created["url"], saved["second"])
        np.testing.assert_array_equal(predictions(client, frame), expected["second"])

        restarted = client.update_deployment("flights", config={"concurrency": 3})
        assert restarted["settings"] == {"concurrency": 3}
        assert restarted["url"] == created["url"]
        np.testing.assert_array_equal(predictions(client, frame), expected["second"])
        assert [item["name"] for item in client.list_deployments()] == ["flights"]
        client.delete_deployment("flights")
        client.delete_deployment("flights")  # nothing to do
        assert client.list_deployments() == []
        with pytest.raises(MlflowException, match="must exist"):
            client.get_deployment("flights")

    def test_a_server_that_died_is_down_until_it_is_updated(
        self, client: Any, saved: dict[str, str], frame: pd.DataFrame
    ) -> None:
        client.create_deployment("flights", saved["first"])
        state = json.loads((client._folder / "flights" / "server.json").read_text())
        os.kill(state["pid"], signal.SIGKILL)
        wait_until(lambda: client.get_deployment("flights")["state"] == "DOWN")
        with pytest.raises(MlflowException, match="must be up"):
            client.predict("flights", frame)
        assert client.update_deployment("flights")["state"] == "READY"
        assert len(predictions(client, frame)) == 3

    @pytest.mark.slow
    def test_an_alias_is_followed(
        self, client: Any, trained_models: Any, tracking_uri: str, name: str, frame: pd.DataFrame
    ) -> None:
        for key, path in (("K1", trained_models.first), ("K2", trained_models.second)):
            registry.publish_once(name, path, key, experiment=name, tracking_uri=tracking_uri)
        registry.promote(name, "1", None, tracking_uri=tracking_uri)
        created = client.create_deployment(
            "flights", f"models:/{name}@champion", config={"poll_seconds": 0.2}
        )
        assert created["version"] == "1"
        registry.promote(name, "2", "1", tracking_uri=tracking_uri)
        wait_until(lambda: client.get_deployment("flights")["version"] == "2")
        expected = load_model(trained_models.second).predict(frame)
        np.testing.assert_array_equal(predictions(client, frame), expected)


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"name": "../flights"}, "a name must be"),
            ({"flavor": "sklearn"}, "must be mxpipe"),
            ({"endpoint": "all"}, "no endpoints"),
            ({"config": {"workers": 3}}, "must be one of .* got 'workers'"),
            ({"config": {"port": "http"}}, "port must be of type int"),
        ],
    )
    def test_arguments(
        self, client: Any, saved: dict[str, str], change: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(MlflowException, match=message):
            client.create_deployment(**({"name": "flights", "model_uri": saved["first"]} | change))
        assert client.list_deployments() == []

    def test_a_model_that_cannot_be_served_leaves_nothing(
        self, client: Any, saved: dict[str, str], frame: pd.DataFrame, tmp_path: Path
    ) -> None:
        with pytest.raises((MlflowException, OSError)):
            client.create_deployment("flights", str(tmp_path / "nowhere"))
        assert not (client._folder / "flights").exists()
        client.create_deployment("flights", saved["first"])
        with pytest.raises((MlflowException, OSError)):
            client.update_deployment("flights", str(tmp_path / "nowhere"))
        assert len(predictions(client, frame)) == 3
        with pytest.raises(MlflowException, match="carrier"):
            client.predict("flights", frame.drop(columns="carrier"))


def test_the_command_line(
    client: Any, saved: dict[str, str], frame: pd.DataFrame, trained_models: Any, tmp_path: Path
) -> None:
    def mlflow_deployments(*arguments: str) -> str:
        result = CliRunner().invoke(commands, [*arguments, "-t", client.target_uri])
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    mlflow_deployments("create", "--name", "flights", "-m", saved["first"], "-C", "concurrency=1")
    assert "READY" in mlflow_deployments("get", "--name", "flights")
    rows = frame.dropna()  # MLflow's command line reads the file by pandas
    (tmp_path / "rows.json").write_text(rows.to_json(orient="records"))
    answer = mlflow_deployments("predict", "--name", "flights", "-I", str(tmp_path / "rows.json"))
    got = np.array(json.loads(answer)["predictions"], np.float32)
    np.testing.assert_array_equal(got, load_model(trained_models.first).predict(rows))
    mlflow_deployments("update", "--name", "flights", "-m", saved["second"])
    assert "flights" in mlflow_deployments("list")
    mlflow_deployments("delete", "--name", "flights")
    assert client.list_deployments() == []
    assert "MXPIPE_DEPLOYMENTS" in mlflow_deployments("help")


@pytest.mark.slow
def test_run_local_serves_until_it_is_interrupted(saved: dict[str, str], tmp_path: Path) -> None:
    program = """
import sys
from mxpipe_mlflow.deployments import run_local
run_local(*sys.argv[1:], config={"port": 0})
"""
    with open(tmp_path / "log.txt", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", program, "flights", saved["first"]],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "serving flights version" in (tmp_path / "log.txt").read_text())
        os.killpg(server.pid, signal.SIGINT)  # as Ctrl-C: to the whole group
        assert server.wait(60) == 0, (tmp_path / "log.txt").read_text()
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)


def test_help_names_every_setting() -> None:
    from mlflow.deployments.interface import _target_help

    text = _target_help("mxpipe")
    for setting in ("host", "port", "concurrency", "queue", "poll_seconds", "MXPIPE_DEPLOYMENTS"):
        assert setting in text


def wait_until(condition: Any, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
