"""Specification, status, events and lease: the files that survive a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mxpipe.errors import JobError, JobNotFoundError, LeaseHeldError, SpecificationError, StorageError
from mxpipe.model.storage import publish_folder, remove_partial, write_aside, write_json
from mxpipe.train import JobState, JobStatus, RunDirectory, TrainSpec, read_events, read_history
from mxpipe.train.events import EventWriter

MODEL = {"builder": "mlp"}
DATA = {"train": "t", "features": {"numeric": ["x"], "label": "y"}}


def spec(**changes: Any) -> TrainSpec:
    return TrainSpec.from_json({"model": MODEL, "data": DATA, "epochs": 1} | changes)


# --- specification


def test_a_specification_survives_json_and_its_digest_ignores_the_order_of_keys() -> None:
    first = spec(loss={"name": "l2", "arguments": {"b": [1, 2], "a": 1.5}}, metrics=["auc"])
    text = json.dumps(first.to_json())
    second = TrainSpec.from_json(dict(reversed(json.loads(text).items())))
    assert second == first
    assert second.digest() == first.digest() != spec().digest()
    assert first.metrics == ("auc",)
    written_out = spec(
        loss="sigmoid_binary_cross_entropy", data=DATA | {"batch_size": 1024, "preprocessing": {}}
    )
    assert written_out.digest() == spec().digest()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"epoch": 1}, "spec.epoch must be a known field"),
        ({"model": {}}, "spec.model.builder must be given"),
        ({"model": {"builder": 3}}, "spec.model.builder must be of type str"),
        ({"model": {"builder": ""}}, "builder must be a name"),
        ({"data": DATA | {"batch_size": True}}, "spec.data.batch_size must be of type int"),
        ({"data": DATA | {"batch_size": 0}}, "batch_size must be a positive number"),
        ({"data": {"train": "t", "features": {}}}, "label must be given"),
        ({"data": DATA | {"features": [1]}}, "spec.data.features must be an object"),
        ({"data": DATA | {"preprocessing": {"a": float("nan")}}}, "preprocessing.a must be a JSON value"),
        ({"optimizer": {"name": "sgd", "arguments": {"lr": object()}}}, "arguments.lr must be a JSON value"),
        ({"steps": 4}, "exactly one of epochs and steps"),
        ({"epochs": None}, "exactly one of epochs and steps"),
        ({"epochs": -1}, "spec.epochs must be a positive number"),
        ({"epochs": 1.5}, "spec.epochs must be of type int"),
        ({"seed": -1}, "spec.seed"),
        ({"metrics": "auc"}, "spec.metrics must be a list of text"),
        ({"checkpoint": {"keep": 0}}, "keep must be a positive number"),
        ({"early_stopping": {}}, "come with data.validation"),
        (
            {"early_stopping": {"metric": "auc"}, "data": DATA | {"validation": "v"}},
            "spec.early_stopping.metric must be one of",
        ),
    ],
)
def test_a_specification_that_does_not_fit_names_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecificationError) as caught:
        spec(**changes)
    assert field in str(caught.value)


# --- status


def test_a_finished_job_never_changes_its_state() -> None:
    done = JobStatus(JobState.RUNNING, "k").replace(state=JobState.SUCCEEDED)
    with pytest.raises(JobError, match="SUCCEEDED"):
        done.replace(state=JobState.RUNNING)
    assert JobStatus.from_json(done.to_json() | {"field_of_a_newer_version": 1}) == done
    with pytest.raises(JobError, match=r"status\.json"):
        JobStatus.from_json({"state": "PAUSED", "key": "k"})


# --- files


def test_a_run_directory_belongs_to_one_key_and_one_specification(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(JobNotFoundError, match=r"status\.json"):
        run.read_status()
    with run.acquire_lease():
        run.initialise(spec(), "k")
        run.initialise(spec(), "k")
        for other, key in ((spec(), "other"), (spec(seed=1), "k")):
            with pytest.raises(SpecificationError, match="run"):
                run.initialise(other, key)
    assert run.read_spec() == (spec(), "k")
    assert run.read_status() == JobStatus(JobState.SUBMITTED, "k")


def test_a_lease_is_held_by_one_and_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from mxpipe.train.run_directory import RunDirectory; "
        "lease = RunDirectory(sys.argv[1]).acquire_lease(); print('held', flush=True); time.sleep(60)"
    )
    run = RunDirectory(tmp_path)
    assert not run.is_lease_held()
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert run.is_lease_held()
    with pytest.raises(LeaseHeldError):
        run.acquire_lease()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not run.is_lease_held()
    with run.acquire_lease():
        assert run.is_lease_held()
    assert not run.is_lease_held()


def test_events_survive_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert list(read_events(path)) == []
    with EventWriter(path) as events:
        events.write("start", step=0)
        events.write("step", step=1, loss=0.5)
    with open(path, "ab") as file:
        file.write(b'{"event": "step", "st')
    assert [event["event"] for event in read_events(path)] == ["start", "step"]
    with EventWriter(path) as events:
        events.write("step", step=2, loss=0.25)
    assert [event.get("loss") for event in read_events(path)] == [None, 0.5, 0.25]


def test_the_history_of_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as events:
        events.write("start", step=0)
        for step in (1, 2, 3):
            events.write("step", step=step, loss=step / 10)
        events.write("start", step=1)
        for step in (2, 3, 4):
            events.write("step", step=step, loss=float(step))
    assert [(event["step"], event["loss"]) for event in read_history(path)] == [
        (1, 0.1),
        (2, 2),
        (3, 3),
        (4, 4),
    ]


# --- storage


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})

    def write_half() -> None:
        with write_aside(tmp_path / "a.json") as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_is_published_whole_or_not_at_all(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with publish_folder(tmp_path / "m") as aside:
            (aside / text).write_text(text)
            assert not (tmp_path / "m" / text).exists()
        assert os.listdir(tmp_path / "m") == [text]

    def publish_half() -> None:
        with publish_folder(tmp_path / "m") as aside:
            (aside / "third").touch()
            raise KeyError

    with pytest.raises(KeyError):
        publish_half()
    assert os.listdir(tmp_path) == ["m"]
    assert os.listdir(tmp_path / "m") == ["second"]


def test_a_full_disk_while_publishing_leaves_no_partial_state(small_disk: Path) -> None:
    with pytest.raises(StorageError, match="must be writable"), publish_folder(small_disk / "m") as aside:
        (aside / "weights").write_bytes(b"x" * 10_000_000)
    assert not list(small_disk.iterdir())


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.1.0.partial").write_text("")
    (tmp_path / ".b.1.0.partial").mkdir()
    (tmp_path / ".b.1.0.partial" / "file").write_text("")
    (tmp_path / "kept").write_text("")
    remove_partial(tmp_path)
    assert os.listdir(tmp_path) == ["kept"]
