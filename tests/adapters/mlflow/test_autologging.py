"""``autolog()``: what it logs of a training, where, and when it does not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

import mxpipe as mx
import mxpipe_mlflow
from mxpipe.errors import ModelFormatError
from mxpipe.train import JobState, TrainSpec, fit
from mxpipe_mlflow import tracking


@pytest.fixture
def spec(trained_models: Any) -> TrainSpec:
    stored = json.loads((trained_models.first.parent / "spec.json").read_text())["spec"]
    return TrainSpec.from_json(stored)


@pytest.fixture(autouse=True)
def experiment(tracking_uri: str, name: str, work: Path) -> Iterator[None]:
    """An experiment of the test's own, and no autologging after it."""
    mlflow.set_experiment(name)
    yield
    mxpipe_mlflow.autolog(disable=True)
    while mlflow.active_run():
        mlflow.end_run()


def runs(name: str) -> list[Any]:
    client = mlflow.MlflowClient()
    return list(client.search_runs([client.get_experiment_by_name(name).experiment_id]))


def steps(run: Any, metric: str) -> list[int]:
    return [point.step for point in mlflow.MlflowClient().get_metric_history(run.info.run_id, metric)]


class TestFit:
    def test_a_training_with_its_model(self, spec: TrainSpec, name: str, work: Path) -> None:
        mxpipe_mlflow.autolog(log_input_examples=True, registered_model_name=name, extra_tags={"team": "a"})
        result = fit(spec, work / "run", name)
        (run,) = runs(name)
        assert run.info.status == "FINISHED"
        assert run.data.params["model.builder"] == "wide_and_deep"
        assert run.data.metrics["train_loss"] == pytest.approx(result.metrics["train_loss"])
        assert steps(run, "loss")[-1] == result.steps
        assert run.data.tags["mlflow.autologging"] == "mxpipe"
        assert run.data.tags["team"] == "a"
        assert [item.tags[0].value for item in run.inputs.dataset_inputs] == ["training"]

        loaded = mxpipe_mlflow.load_model(f"models:/{name}/1")
        assert loaded.digest == mx.model.load_model(result.model_path).digest
        info = mlflow.models.get_model_info(f"models:/{name}/1")
        assert info.signature.inputs.input_names() == ["distance", "hour", "carrier"]
        assert info.saved_input_example_info is not None

        fit(spec, work / "run", name)  # finished before: nothing to log
        assert len(runs(name)) == 1
        assert len(mlflow.MlflowClient().search_model_versions(f"name = '{name}'")) == 1

    def test_what_is_turned_off_is_not_logged(self, spec: TrainSpec, name: str, work: Path) -> None:
        mxpipe_mlflow.autolog(log_models=False, log_datasets=False)
        fit(spec, work / "run", name)
        (run,) = runs(name)
        assert run.inputs.dataset_inputs == []
        assert not run.outputs or not run.outputs.model_outputs
        mxpipe_mlflow.autolog(log_model_signatures=False)
        fit(spec, work / "other", "another key")
        model = mlflow.search_logged_models([run.info.experiment_id], output_format="list")[0]
        assert mlflow.models.get_model_info(model.model_uri).signature is None

    def test_a_run_of_the_caller_is_logged_to_and_left_open(
        self, spec: TrainSpec, name: str, work: Path
    ) -> None:
        mxpipe_mlflow.autolog()
        with mlflow.start_run() as mine:
            fit(spec, work / "run", name)
            assert mlflow.get_run(mine.info.run_id).info.status == "RUNNING"
        (run,) = runs(name)
        assert run.info.run_id == mine.info.run_id
        assert run.data.metrics["train_loss"] > 0
        assert len(run.outputs.model_outputs) == 1

    def test_an_interrupted_training_goes_on_in_its_run(self, spec: TrainSpec, name: str, work: Path) -> None:
        class Interrupt:
            def on_epoch(self, *arguments: Any) -> None:
                os.kill(os.getpid(), signal.SIGTERM)

        mxpipe_mlflow.autolog()
        assert threading.current_thread() is threading.main_thread()
        assert fit(spec, work / "run", name, [Interrupt()]).status.state is JobState.INTERRUPTED
        assert [run.info.status for run in runs(name)] == ["KILLED"]
        result = fit(spec, work / "run", name)
        (run,) = runs(name)
        assert run.info.status == "FINISHED"
        assert steps(run, "loss") == list(range(1, result.steps + 1))

    def test_a_training_that_fails_says_so_itself(self, spec: TrainSpec, name: str, work: Path) -> None:
        failing = TrainSpec.from_json(spec.to_json() | {"warm_start": str(work / "nowhere")})
        mxpipe_mlflow.autolog()
        with pytest.raises(ModelFormatError, match="nowhere"):
            fit(failing, work / "run", name)
        assert runs(name) == []  # it had not begun

        class Break:
            def on_start(self, context: Any, step: int) -> None:
                shutil.rmtree(context.run_directory / "checkpoints")
                (context.run_directory / "checkpoints").write_text("a file where the folder was")

        checkpoint = {"checkpoint": {"every_steps": 2}}
        with pytest.raises(OSError, match="checkpoints"):
            fit(TrainSpec.from_json(spec.to_json() | checkpoint), work / "other", name, [Break()])
        assert [run.info.status for run in runs(name)] == ["FAILED"]

    def test_a_callback_of_the_caller_is_enough(
        self, spec: TrainSpec, tracking_uri: str, name: str, work: Path
    ) -> None:
        mxpipe_mlflow.autolog()
        fit(spec, work / "run", name, [tracking.MlflowCallback(tracking_uri, name)])
        (run,) = runs(name)
        assert "mlflow.autologging" not in run.data.tags

    def test_disable_and_exclusive(self, spec: TrainSpec, name: str, work: Path) -> None:
        mxpipe_mlflow.autolog(exclusive=True)
        with mlflow.start_run():
            fit(spec, work / "first", "first")
        mxpipe_mlflow.autolog(disable=True)
        fit(spec, work / "second", "second")
        assert [run.data.params for run in runs(name)] == [{}]

    def test_logging_that_goes_wrong_does_not_harm_the_training(
        self, spec: TrainSpec, name: str, work: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mxpipe_mlflow import autologging

        def broken(*arguments: Any, **named: Any) -> None:
            raise RuntimeError("no room")

        monkeypatch.setattr(autologging, "log_folder_once", broken)
        mxpipe_mlflow.autolog(silent=True)
        assert fit(spec, work / "run", name).status.state is JobState.SUCCEEDED


class TestGluon:
    def loop(self, kind: str, count: int = 6) -> list[float]:
        mx.random.seed(1)
        net = mx.gluon.nn.Dense(1, in_units=3)
        net.initialize()
        trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.1})
        loss_of = mx.gluon.loss.L2Loss()
        step = mx.gluon.TrainStep(net, loss_of, trainer)
        x, y = mx.np.ones((8, 3)), mx.np.ones((8,))
        losses = []
        for _ in range(count):
            if kind == "step":
                loss = step(x, y)
            else:
                with mx.autograd.record():
                    loss = loss_of(net(x), y)
                loss.backward()
                trainer.step(8)
            losses.append(float(loss.mean()))
        return losses

    def test_a_train_step_is_followed_in_an_active_run(self, name: str) -> None:
        without = self.loop("step")
        mxpipe_mlflow.autolog(log_every_n_steps=2)
        with mlflow.start_run():
            losses = self.loop("step")
        assert losses == without
        (run,) = runs(name)
        history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
        assert [point.step for point in history] == [2, 4, 6]
        np.testing.assert_allclose([point.value for point in history], losses[1::2])
        assert run.data.params["optimizer"] == "Adam"
        assert float(run.data.params["learning_rate"]) == 0.1
        assert run.data.metrics["learning_rate"] == pytest.approx(0.1)

    def test_a_trainer_is_followed_without_its_loss(self, name: str) -> None:
        mxpipe_mlflow.autolog()
        with mlflow.start_run():
            self.loop("trainer")
        (run,) = runs(name)
        assert steps(run, "learning_rate") == [1, 2, 3, 4, 5, 6]
        assert "loss" not in run.data.metrics

    def test_without_a_run_nothing_is_logged(self, name: str) -> None:
        mxpipe_mlflow.autolog()
        self.loop("step")
        assert runs(name) == []
