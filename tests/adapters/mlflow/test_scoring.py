"""MLflow's own ways to score a model: ``evaluate``, ``models serve``, Spark."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, root_mean_squared_error

import mxpipe as mx
import mxpipe_mlflow
from mxpipe.data import write_snapshot
from mxpipe.model import Tensor, load_model, save_model
from mxpipe_mlflow.dataset import from_snapshot


@pytest.fixture(scope="module")
def model(trained_models: Any) -> Any:
    return load_model(trained_models.first)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Any:
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(4, 3, in_channels=1), mx.gluon.nn.Dense(10))
    net.initialize()
    path = tmp_path_factory.mktemp("tensors") / "digits"
    save_model(path, net, tensors=[Tensor("image", "float32", (1, 8, 8))], activation="softmax")
    return load_model(path)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    random = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "distance": random.gamma(2.0, 500.0, 60),
            "hour": random.integers(5, 24, 60),
            "carrier": random.choice(["UA", "DL", "never seen"], 60),
        }
    )


@pytest.mark.slow
class TestEvaluate:
    def test_a_classifier(
        self, model: Any, rows: pd.DataFrame, tracking_uri: str, name: str, work: Path
    ) -> None:
        mlflow.set_experiment(name)
        late = np.random.default_rng(5).integers(0, 2, len(rows))
        with mlflow.start_run() as run:
            info = mxpipe_mlflow.log_model(model, name="model")
            result = mlflow.models.evaluate(
                info.model_uri,
                rows.assign(late=late),
                targets="late",
                model_type="classifier",
                evaluators="classifier",
                model_config={"output": "class"},
                evaluator_config={"label_list": [0, 1]},
            )
        expected = accuracy_score(late, model.predict(rows) >= 0.5)
        assert result.metrics["accuracy_score"] == pytest.approx(expected)
        assert mlflow.get_run(run.info.run_id).data.metrics["accuracy_score"] == pytest.approx(expected)

    def test_a_regressor_on_a_snapshot(
        self, model: Any, rows: pd.DataFrame, tracking_uri: str, name: str, work: Path
    ) -> None:
        """Probabilities as plain numbers; the snapshot becomes the run's input."""
        mlflow.set_experiment(name)
        target = np.random.default_rng(5).random(len(rows))
        columns = {column: rows[column].to_list() for column in rows} | {"target": target}
        snapshot = write_snapshot(str(work / "holdout"), columns)
        with mlflow.start_run() as run:
            info = mxpipe_mlflow.log_model(model, name="model")
            result = mlflow.models.evaluate(
                mlflow.pyfunc.load_model(info.model_uri),
                from_snapshot(snapshot, targets="target"),
                model_type="regressor",
                evaluators="regressor",
            )
        expected = root_mean_squared_error(target, model.predict(rows))
        assert result.metrics["root_mean_squared_error"] == pytest.approx(expected, rel=1e-5)
        (used,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
        assert used.dataset.digest == snapshot.digest[:32]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """MLflow's own server over a saved model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "-p", str(port)]
    command += ["--env-manager", "local", "-h", "127.0.0.1", "-w", "1"]
    with open(folder.parent / "serve.log", "w") as log:
        # MLflow looks for uvicorn on the path.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        server = subprocess.Popen(
            command, env=os.environ | {"PATH": path}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"{url}/ping", trust_env=False, timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            log_text = (folder.parent / "serve.log").read_text()
            assert server.poll() is None, log_text
            assert time.monotonic() < deadline, log_text
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
def test_mlflow_serves_its_serving_example(model: Any, rows: pd.DataFrame, tmp_path: Path) -> None:
    mxpipe_mlflow.save_model(model, tmp_path / "saved", input_example=rows[:3])
    body = (tmp_path / "saved" / "serving_input_example.json").read_text()
    with served(tmp_path / "saved") as url:
        answer = httpx.post(
            f"{url}/invocations",
            content=body,
            headers={"Content-Type": "application/json"},
            trust_env=False,
            timeout=60,
        )
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(
        np.array(json.loads(answer.text)["predictions"], np.float32), model.predict(rows[:3]), rtol=1e-6
    )


@pytest.mark.slow
def test_spark_udf(model: Any, images: Any, rows: pd.DataFrame, tmp_path: Path) -> None:
    from pyspark.sql.functions import struct

    from mxpipe_spark import local_session

    for chosen in (model, images):
        mxpipe_mlflow.save_model(chosen, tmp_path / chosen.path.name)
    batch = np.random.default_rng(6).normal(size=(4, 1, 8, 8)).astype(np.float32)
    with local_session("test-spark-udf", memory="512m") as spark:
        udf = mlflow.pyfunc.spark_udf(spark, str(tmp_path / model.path.name), env_manager="local")
        frame = spark.createDataFrame(rows)
        got = [row.p for row in frame.select(udf(*rows.columns).alias("p")).collect()]
        np.testing.assert_allclose(got, model.predict(rows), rtol=1e-6)

        settings = {"output": "class", "threads": 1}
        udf = mlflow.pyfunc.spark_udf(
            spark, str(tmp_path / model.path.name), "long", env_manager="local", model_config=settings
        )
        got = [row.p for row in frame.select(udf(*rows.columns).alias("p")).collect()]
        np.testing.assert_array_equal(got, model.predict(rows) >= 0.5)

        udf = mlflow.pyfunc.spark_udf(
            spark, str(tmp_path / images.path.name), "array<float>", env_manager="local"
        )
        pictures = pd.DataFrame({"image": [row.ravel().tolist() for row in batch]})
        frame = spark.createDataFrame(pictures)
        got = [row.p for row in frame.select(udf(struct("image")).alias("p")).collect()]
        np.testing.assert_allclose(np.array(got), images.predict(batch), rtol=1e-5)
