"""fit: trains, resumes to the bit, and never trains twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.data import write_snapshot
from mxpipe.errors import DataError, SchemaError, SnapshotCorruptError, SpecificationError, StorageError
from mxpipe.train import Callback, JobState, RunDirectory, TrainSpec, fit, read_events, read_history

MakeSpec = Callable[..., TrainSpec]
STEPS = 3 * (3000 // 128)

FIT = """
import json, sys
from mxpipe.train import TrainSpec, fit
result = fit(TrainSpec.from_json(json.loads(sys.argv[1])), sys.argv[2])
sys.exit(0 if result.status.state == "SUCCEEDED" else 75)
"""


def fit_in_process(spec: TrainSpec, folder: Path, fault: str | None = None) -> int:
    """Run fit in a process of its own that may be killed at a fault point; returns its exit code."""
    import json

    environment = os.environ | ({"MXPIPE_FAULT_POINT": fault} if fault else {})
    command = [sys.executable, "-c", FIT, json.dumps(spec.to_json()), str(folder)]
    return subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, timeout=120).returncode


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def undisturbed(make_spec: MakeSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of one training from beginning to end."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    result = fit(make_spec(), folder)
    assert result.status.state is JobState.SUCCEEDED
    return folder


def test_a_training_learns_and_says_what_it_did(undisturbed: Path) -> None:
    run = RunDirectory(undisturbed)
    status = run.read_status()
    assert (status.state, status.step, status.epoch, status.attempt) == (JobState.SUCCEEDED, STEPS, 3, 1)
    assert status.metrics["validation_auc"] > 0.65
    assert status.metrics["train_loss"] < np.log(2)
    epochs = read_history(run.events_path, "epoch")
    assert [event["epoch"] for event in epochs] == [1, 2, 3]
    assert epochs[-1]["metrics"]["train_loss"] < epochs[0]["metrics"]["train_loss"]
    assert [event["step"] for event in read_history(run.events_path)] == list(range(1, STEPS + 1))
    assert [event["event"] for event in read_events(run.events_path)][-1] == "end"
    assert not list(run.checkpoints_path.iterdir())
    assert sorted(contents(run.model_path)) == ["model.json", "weights.safetensors"]


def test_the_same_specification_gives_the_same_bytes(
    undisturbed: Path, make_spec: MakeSpec, tmp_path: Path
) -> None:
    mx.random.seed(12345)  # nothing from before may leak in, and nothing out
    before = mx.random.get_state(), mx.get_num_threads()
    fit(make_spec(), tmp_path / "again")
    assert (mx.random.get_state(), mx.get_num_threads()) == before
    assert contents(tmp_path / "again" / "model") == contents(undisturbed / "model")
    fit(make_spec(seed=8), tmp_path / "other")
    assert contents(tmp_path / "other" / "model") != contents(undisturbed / "model")


def test_a_finished_run_is_returned_not_repeated(undisturbed: Path, make_spec: MakeSpec) -> None:
    before = list(read_events(undisturbed / "events.jsonl"))
    result = fit(make_spec(), undisturbed)
    assert result.status.state is JobState.SUCCEEDED
    assert result.metrics["validation_auc"] > 0.65
    assert list(read_events(undisturbed / "events.jsonl")) == before
    with pytest.raises(SpecificationError, match="digest"):
        fit(make_spec(seed=1), undisturbed, key=make_spec().digest())


@pytest.mark.parametrize("fault", ["step:1", f"step:{STEPS // 3}", f"step:{STEPS}", "model.after_rename:1"])
def test_a_killed_training_goes_on_to_the_same_bytes(
    undisturbed: Path, make_spec: MakeSpec, tmp_path: Path, fault: str
) -> None:
    folder = tmp_path / "run"
    assert fit_in_process(make_spec(), folder, fault) == -signal.SIGKILL
    assert RunDirectory(folder).read_status().state is JobState.RUNNING
    result = fit(make_spec(), folder)
    assert (result.status.state, result.status.attempt) == (JobState.SUCCEEDED, 2)
    assert contents(folder / "model") == contents(undisturbed / "model")
    assert read_losses(folder) == read_losses(undisturbed)


def read_losses(folder: Path) -> list[tuple[int, float]]:
    return [(event["step"], event["loss"]) for event in read_history(folder / "events.jsonl")]


def test_a_damaged_newest_checkpoint_changes_nothing_in_the_result(
    undisturbed: Path, make_spec: MakeSpec, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert fit_in_process(make_spec(), folder, "step:45") == -signal.SIGKILL
    checkpoints = sorted((folder / "checkpoints").glob("step-*"))
    assert len(checkpoints) == 2
    data = bytearray((checkpoints[-1] / "state.safetensors").read_bytes())
    data[-1] ^= 1
    (checkpoints[-1] / "state.safetensors").write_bytes(data)
    fit(make_spec(), folder)
    starts = [event["step"] for event in read_events(folder / "events.jsonl") if event["event"] == "start"]
    assert starts == [0, int(checkpoints[0].name.removeprefix("step-"))]
    assert contents(folder / "model") == contents(undisturbed / "model")


class StopAt(Callback):
    """Sends a signal to its own process after a line of progress."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number

    def on_step(self, context: Any, step: int, metrics: Any) -> None:
        if step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_and_says_interrupted(
    undisturbed: Path, make_spec: MakeSpec, tmp_path: Path, number: signal.Signals
) -> None:
    spec = make_spec(checkpoint={"every_steps": None, "every_seconds": None})
    before = signal.getsignal(number)
    result = fit(spec, tmp_path / "run", callbacks=[StopAt(11, number)])
    assert signal.getsignal(number) is before
    assert (result.status.state, result.steps) == (JobState.INTERRUPTED, 11)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000011"]
    result = fit(spec, tmp_path / "run")
    assert result.status.state is JobState.SUCCEEDED
    assert (
        contents(tmp_path / "run" / "model")["weights.safetensors"]
        == (undisturbed / "model" / "weights.safetensors").read_bytes()
    )


@pytest.mark.parametrize(
    ("optimizer", "schedule", "norm"),
    [
        ({"name": "sgd", "arguments": {"learning_rate": 0.1, "momentum": 0.9}}, None, "layer"),
        ({"name": "adagrad", "arguments": {"learning_rate": 0.1}}, "cosine", None),
        ({"name": "adamw", "arguments": {"learning_rate": 0.01, "wd": 0.1}}, "poly", "batch"),
    ],
)
def test_every_optimizer_goes_on_to_the_same_bytes(
    make_spec: MakeSpec, tmp_path: Path, optimizer: Any, schedule: str | None, norm: str | None
) -> None:
    arguments = {"hidden_units": [16], "dropout": 0.3, "norm": norm}
    model = {"builder": "wide_and_deep", "arguments": arguments}
    spec = make_spec(optimizer=optimizer, schedule=schedule, model=model, epochs=2)
    fit(spec, tmp_path / "whole")
    for step in (1, 23, 24, 45):
        fit(spec, tmp_path / "parts", callbacks=[StopAt(step, signal.SIGTERM)])
    result = fit(spec, tmp_path / "parts")
    assert (result.status.state, result.status.attempt) == (JobState.SUCCEEDED, 5)
    assert contents(tmp_path / "parts" / "model") == contents(tmp_path / "whole" / "model")


def test_bfloat16_goes_on_to_the_same_bytes_and_learns_as_well(
    undisturbed: Path, make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(precision="bfloat16")
    assert spec.digest() != make_spec().digest()
    fit(spec, tmp_path / "whole")
    for step in (1, 24):
        fit(spec, tmp_path / "parts", callbacks=[StopAt(step, signal.SIGTERM)])
    fit(spec, tmp_path / "parts")
    model = contents(tmp_path / "whole" / "model")
    assert model == contents(tmp_path / "parts" / "model")
    assert model["weights.safetensors"] != contents(undisturbed / "model")["weights.safetensors"]
    last = {
        name: read_losses(folder)[-1][1] for name, folder in (("32", undisturbed), ("16", tmp_path / "whole"))
    }
    assert abs(last["16"] - last["32"]) < 0.02, last


class Record(Callback):
    """Remembers what it was told, and fails each time."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_start(self, context: Any, step: int) -> None:
        self.calls.append(f"start {context.attempt} {step}/{context.total_steps}")
        raise RuntimeError("the tracking server is away")

    def on_epoch(self, context: Any, epoch: int, step: int, metrics: Any) -> None:
        self.calls.append(f"epoch {epoch} {sorted(metrics)}")
        raise RuntimeError("the tracking server is away")

    def on_end(self, context: Any, status: Any) -> None:
        self.calls.append(f"end {status.state}")


def test_a_failing_callback_does_not_stop_the_training(make_spec: MakeSpec, tmp_path: Path) -> None:
    record = Record()
    result = fit(make_spec(epochs=1), tmp_path / "run", callbacks=[record])
    assert result.status.state is JobState.SUCCEEDED
    names = "['train_loss', 'validation_auc', 'validation_loss']"
    assert record.calls == ["start 1 0/23", f"epoch 1 {names}", "end SUCCEEDED"]
    events = [
        event
        for event in read_events(tmp_path / "run" / "events.jsonl")
        if event["event"] == "callback_error"
    ]
    assert [event["moment"] for event in events] == ["on_start", "on_epoch"]
    assert "tracking server" in events[0]["error"]


def test_the_best_epoch_is_published_and_training_stops_early(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(
        epochs=30,
        optimizer={"name": "adam", "arguments": {"learning_rate": 0.1}},
        early_stopping={"metric": "loss", "patience": 2},
    )
    result = fit(spec, tmp_path / "run")
    losses = [
        event["metrics"]["validation_loss"]
        for event in read_history(tmp_path / "run" / "events.jsonl", "epoch")
    ]
    best = int(np.argmin(losses)) + 1
    assert len(losses) == best + 2 < 30
    assert result.metrics["validation_loss"] == min(losses)
    metadata = mx.model.load_model(result.model_path).metadata
    assert (metadata["best_epoch"], metadata["metrics"]["validation_loss"]) == (best, min(losses))


def test_the_best_epoch_survives_a_kill(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(early_stopping={"metric": "auc", "mode": "max", "patience": None}, epochs=4)
    fit(spec, tmp_path / "whole")
    assert fit_in_process(spec, tmp_path / "killed", "step:75") == -signal.SIGKILL
    fit(spec, tmp_path / "killed")
    assert contents(tmp_path / "killed" / "model") == contents(tmp_path / "whole" / "model")


def test_steps_schedules_and_other_optimizers(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(
        epochs=None,
        steps=30,
        optimizer={"name": "sgd", "arguments": {"learning_rate": 0.1, "momentum": 0.9}},
        schedule="cosine",
        data={"validation": None},
        metrics=None,
    )
    result = fit(spec, tmp_path / "run")
    rates = [event["learning_rate"] for event in read_history(tmp_path / "run" / "events.jsonl")]
    assert result.steps == len(rates) == 30
    assert rates[0] > 0.09
    assert rates[-1] < 0.001
    assert set(result.metrics) == {"train_loss"}


def test_fewer_rows_than_a_batch_are_one_batch(make_spec: MakeSpec, tmp_path: Path) -> None:
    result = fit(make_spec(data={"batch_size": 5000}, epochs=2), tmp_path / "run")
    assert result.steps == 2


# --- what goes wrong


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"builder": "no_such_model"}}, "no_such_model"),
        ({"model": {"builder": "mlp", "arguments": {"units": 3}}}, "units"),
        ({"model": {"builder": "os.path:join"}}, "must be allowed"),
        ({"optimizer": {"name": "no_such_rule"}}, "no_such_rule"),
        ({"optimizer": {"name": "adam", "arguments": {"rate": 1}}}, "rate"),
        ({"loss": "no_such_loss"}, "no_such_loss"),
        ({"metrics": ["no_such_metric"]}, "no_such_metric"),
        ({"schedule": "no_such_schedule"}, "no_such_schedule"),
        ({"data": {"preprocessing": {"colour": 1}}}, "colour"),
    ],
)
def test_a_name_that_does_not_exist_fails_with_the_choice(
    make_spec: MakeSpec, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecificationError, match=message):
        fit(make_spec(**changes), tmp_path / "run")
    status = RunDirectory(tmp_path / "run").read_status()
    assert status.state is JobState.FAILED
    assert status.error is not None
    assert (status.error["type"], status.error["retryable"]) == ("SpecificationError", False)


def test_a_missing_column_and_a_flipped_byte_name_the_field_and_the_file(
    make_spec: MakeSpec, snapshots: tuple[str, str], tmp_path: Path
) -> None:
    features = {"numeric": ["altitude"], "label": "late"}
    with pytest.raises(SchemaError, match="altitude"):
        fit(make_spec(data={"features": features}), tmp_path / "missing")
    shutil.copytree(snapshots[0], tmp_path / "train")
    (shard,) = (tmp_path / "train").glob("*.arrow")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(SnapshotCorruptError, match=shard.name):
        fit(make_spec(data={"train": str(tmp_path / "train")}), tmp_path / "corrupt")


def test_a_checkpoint_is_not_taken_up_on_other_data(
    make_spec: MakeSpec, delays: Callable[[int, int], dict[str, Any]], tmp_path: Path
) -> None:
    spec = make_spec(data={"train": str(tmp_path / "train")})
    write_snapshot(tmp_path / "train", delays(1000, 1))
    result = fit(spec, tmp_path / "run", callbacks=[StopAt(2, signal.SIGTERM)])
    assert result.status.state is JobState.INTERRUPTED
    shutil.rmtree(tmp_path / "train")
    write_snapshot(tmp_path / "train", delays(1000, 2))
    with pytest.raises(DataError, match="must hold the snapshot of the checkpoint"):
        fit(spec, tmp_path / "run")


def test_an_allowed_builder_is_imported(make_spec: MakeSpec, tmp_path: Path) -> None:
    name = "mxpipe.gluon.model_zoo.tabular:logistic_regression"
    spec = make_spec(model={"builder": name}, epochs=1)
    fit(spec, tmp_path / "text", builders=[name])
    fit(spec, tmp_path / "function", builders={name: mx.gluon.model_zoo.logistic_regression})
    assert contents(tmp_path / "text" / "model") == contents(tmp_path / "function" / "model")


def test_a_full_disk_while_publishing_leaves_no_partial_model(make_spec: MakeSpec, small_disk: Path) -> None:
    # The weights alone are more than the disk takes; everything before fits.
    spec = make_spec(
        model={"builder": "wide_and_deep", "arguments": {"hidden_units": [800, 800], "sparse_grad": False}},
        checkpoint={"every_steps": None, "every_seconds": None},
        epochs=1,
    )
    with pytest.raises(StorageError, match="model"):
        fit(spec, small_disk / "run")
    assert not (small_disk / "run" / "model").exists()
    assert not list((small_disk / "run").glob(".*"))
    status = RunDirectory(small_disk / "run").read_status()
    assert status.error is not None
    assert (status.state, status.error["retryable"]) == (JobState.FAILED, True)


def test_warm_start_takes_rows_over_by_category(make_spec: MakeSpec, tmp_path: Path) -> None:
    model = {"builder": "wide_and_deep", "arguments": {"embedding_dims": 4, "hidden_units": [16]}}
    cold = fit(make_spec(model=model), tmp_path / "cold")
    fewer = make_spec(
        model=model,
        warm_start=str(cold.model_path),
        data={"preprocessing": {"max_categories": 3}},
        optimizer={"name": "sgd", "arguments": {"learning_rate": 0.0}},
        epochs=1,
    )
    warm = fit(fewer, tmp_path / "warm")
    old, new = mx.model.load_model(cold.model_path), mx.model.load_model(warm.model_path)
    vocabularies = [model.preprocessor.categorical[0].vocabulary for model in (old, new)]
    assert len(vocabularies[1]) == 3
    for name in ("tables.0.table.weight", "wide_table.table.weight"):
        expected = [old.weights[name][0]]
        expected += [old.weights[name][1 + vocabularies[0].index(category)] for category in vocabularies[1]]
        np.testing.assert_array_equal(new.weights[name], expected)
    losses = [read_history(tmp_path / name / "events.jsonl", "epoch")[0] for name in ("cold", "warm")]
    assert losses[1]["metrics"]["validation_loss"] < losses[0]["metrics"]["validation_loss"]
