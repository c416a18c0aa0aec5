"""The search for hyper-parameters: deterministic, resumable, pruned, and no trial trained twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mxpipe.data import write_snapshot
from mxpipe.errors import JobNotFoundError, SpecificationError
from mxpipe.jobs import JobState, LocalLauncher, get_launcher
from mxpipe.train import TrainSpec, read_events
from mxpipe.tune import (
    SearchSpace,
    Study,
    TrialState,
    choices,
    integers,
    log_uniform,
    tune,
    uniform,
    write_report,
)

SPACE = {
    "optimizer.learning_rate": log_uniform(1e-4, 1.0),
    "data.batch_size": integers(32, 96, step=32),
    "model.hidden_units": choices([4], [8, 4]),
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> TrainSpec:
    """A small training on rows that a line tells apart."""
    folder = tmp_path_factory.mktemp("rows")
    for name, seed in (("train", 0), ("validation", 1)):
        x, y = np.random.default_rng(seed).normal(size=(2, 400))
        columns = {"x": x, "y": y, "label": (x + y > 0).astype(np.int32)}
        write_snapshot(folder / name, columns)
    return TrainSpec.from_json(
        {
            "model": {"builder": "mlp", "arguments": {"hidden_units": [8]}},
            "data": {
                "train": str(folder / "train"),
                "validation": str(folder / "validation"),
                "features": {"numeric": ["x", "y"], "label": "label"},
            },
            "optimizer": {"name": "adam"},
            "metrics": ["auc"],
            "epochs": 4,
            "threads": 1,
        }
    )


def with_trials(directory: Path, spec: TrainSpec, values: list[float], **search: Any) -> Study:
    """A study whose first trials were told to have these values."""
    study = Study.create(directory, spec, SPACE, **search)
    for number, value in enumerate(values):
        study.suggest(number)
        study.tell(number, TrialState.COMPLETE, value)
    return study


# --- space


def test_a_path_leads_to_a_field_or_to_an_argument(spec: TrainSpec) -> None:
    space = SearchSpace(SPACE)
    parameters = {"optimizer.learning_rate": 0.5, "data.batch_size": 64, "model.hidden_units": [8, 4]}
    changed = TrainSpec.from_json(space.changed(spec.to_json(), parameters))
    assert changed.optimizer.arguments == {"learning_rate": 0.5}
    assert changed.data.batch_size == 64
    assert changed.model.arguments == {"hidden_units": [8, 4]}
    assert spec.model.arguments == {"hidden_units": [8]}
    assert space.drawn(space.undrawn(parameters)) == parameters
    assert SearchSpace(json.loads(json.dumps(space.to_json()))).to_json() == space.to_json()


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ({}, "at least one path"),
        ({"epochs": {"type": "gaussian"}}, "have a type of"),
        ({"epochs": integers(5, 5)}, "low below its high"),
        ({"epochs": {"type": "integers", "low": 1.5, "high": 3}}, "a low and a high number"),
        ({"optimizer.learning_rate": log_uniform(0.0, 1.0)}, "positive low"),
        ({"optimizer.learning_rate": {**uniform(0.0, 1.0), "mean": 0.5}}, "fields"),
        ({"loss": choices()}, "list of options"),
        ({"data.batch_sise": integers(1, 5)}, "batch_sise must be a known field"),
        ({"epochs": integers(-5, 5)}, "epochs must be a positive number"),
        ({"data..x": integers(1, 5)}, "be a path"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(
    dimensions: dict[str, Any], message: str, spec: TrainSpec, tmp_path: Path
) -> None:
    with pytest.raises(SpecificationError, match=message):
        Study.create(tmp_path / "study", spec, dimensions)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    "search",
    [
        {"metric": "validation_accuracy"},
        {"direction": "up"},
        {"sampler": "grid"},
        {"pruner": "axe"},
        {"pruner": {"name": "median", "sharpness": 3}},
    ],
)
def test_a_search_that_does_not_fit_is_refused(
    search: dict[str, Any], spec: TrainSpec, tmp_path: Path
) -> None:
    with pytest.raises(SpecificationError, match=r"\[study\]"):
        Study.create(tmp_path / "study", spec, SPACE, **search)


# --- study


def test_random_suggestions_follow_from_seed_and_number_alone(spec: TrainSpec, tmp_path: Path) -> None:
    first = Study.create(tmp_path / "first", spec, SPACE, sampler="random", seed=3)
    second = Study.create(tmp_path / "second", spec, dict(reversed(SPACE.items())), sampler="random", seed=3)
    other = Study.create(tmp_path / "other", spec, SPACE, sampler="random", seed=4)
    forwards = [first.suggest(number).parameters for number in range(5)]
    backwards = [second.suggest(number).parameters for number in reversed(range(5))]
    assert forwards == backwards[::-1]
    assert len({json.dumps(parameters) for parameters in forwards}) == 5
    assert other.suggest(0).parameters != forwards[0]
    assert Study.open(tmp_path / "first").suggest(2).parameters == forwards[2]


def test_tpe_follows_from_the_finished_trials_and_learns_from_them(spec: TrainSpec, tmp_path: Path) -> None:
    def cost(study: Study, number: int) -> float:
        rate = study.suggest(number).parameters["optimizer.learning_rate"]
        return float(abs(np.log10(rate) + 2))  # the best rate is 0.01

    space = {"optimizer.learning_rate": log_uniform(1e-4, 1.0)}
    suggested = []
    for name in ("first", "second"):
        study = Study.create(tmp_path / name, spec, space, sampler="tpe", seed=0, startup=5)
        for number in range(30):
            study.suggest(number)
            study.tell(number, TrialState.COMPLETE, cost(study, number))
        suggested.append([trial.parameters for trial in study.trials()])
    assert suggested[0] == suggested[1]
    costs = [cost(study, number) for number in range(30)]
    assert np.mean(costs[15:]) < 0.75, "blindly drawn, the mean is 1"
    different = Study.create(tmp_path / "third", spec, space, sampler="tpe", seed=0, startup=5)
    for number in range(6):
        different.suggest(number)
        different.tell(number, TrialState.COMPLETE, -cost(study, number))
    assert different.suggest(6).parameters != suggested[0][6]


def test_trials_at_work_are_not_all_the_same(spec: TrainSpec, tmp_path: Path) -> None:
    study = with_trials(tmp_path / "s", spec, [0.5, 0.4, 0.3, 0.2], seed=1, startup=2)
    batch = [study.suggest(number).parameters["optimizer.learning_rate"] for number in range(4, 8)]
    assert len(set(batch)) == 4
    assert [trial.state for trial in study.trials()[-4:]] == [TrialState.PENDING] * 4


def test_what_was_told_once_stays_and_a_torn_line_is_left_out(spec: TrainSpec, tmp_path: Path) -> None:
    study = with_trials(tmp_path / "s", spec, [0.5, 0.3])
    assert study.tell(0, TrialState.FAILED, error="late").value == 0.5
    best = study.best()
    assert best is not None
    assert best.number == 1
    with open(tmp_path / "s" / "trials.jsonl", "ab") as file:
        file.write(b'{"event": "told", "trial": 1, "sta')
    again = Study.open(tmp_path / "s")
    assert [trial.value for trial in again.trials()] == [0.5, 0.3]
    again.suggest(2)
    assert [trial.number for trial in Study.open(tmp_path / "s").trials()] == [0, 1, 2]
    with pytest.raises(SpecificationError, match="suggested"):
        study.tell(9, TrialState.COMPLETE, 0.1)
    with pytest.raises(SpecificationError, match="finite"):
        study.tell(2, TrialState.COMPLETE, float("nan"))
    with pytest.raises(SpecificationError, match=r"another \['seed'\]"):
        Study.create(tmp_path / "s", spec, SPACE, seed=99)
    with pytest.raises(JobNotFoundError):
        Study.open(tmp_path / "nothing")


def test_processes_that_ask_at_once_get_the_same_trial(spec: TrainSpec, tmp_path: Path) -> None:
    Study.create(tmp_path / "s", spec, SPACE)
    code = (
        "import sys, json; from mxpipe.tune import Study; "
        "print(json.dumps([Study.open(sys.argv[1]).suggest(n).parameters for n in range(3)]))"
    )
    askers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "s")], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert len({asker.communicate(timeout=60)[0] for asker in askers}) == 1
    events = [event["event"] for event in read_events(tmp_path / "s" / "trials.jsonl")]
    assert events == ["suggested"] * 3


# --- tune


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Path]:
    """A directory for a study, whose jobs are ended with the test."""
    yield tmp_path / "study"
    launcher = LocalLauncher(tmp_path / "study" / "runs")
    for job_id, _ in launcher.list():
        launcher.cancel(job_id, timeout=0.0)


def starts(directory: Path) -> Counter[str]:
    """How often each job began to train."""
    counts: Counter[str] = Counter()
    for path in directory.glob("runs/*/events.jsonl"):
        counts[path.parent.name] = sum(event["event"] == "start" for event in read_events(path))
    return counts


def test_a_search_finds_the_better_trial_and_is_not_run_twice(
    spec: TrainSpec, ended: Path, tmp_path: Path
) -> None:
    space = {"optimizer.learning_rate": choices(1e-6, 0.05), "seed": integers(0, 1)}
    seen: list[int] = []
    search = {"metric": "validation_auc", "direction": "maximize", "sampler": "random", "seed": 5}
    study = tune(spec, space, ended, trials=3, on_trial=lambda _, trial: seen.append(trial.number), **search)
    assert seen == [0, 1, 2]
    best = study.best()
    assert best is not None
    assert best.value == max(trial.value or 0.0 for trial in study.trials())
    assert best.parameters["optimizer.learning_rate"] == 0.05
    assert list(best.values) == [1, 2, 3, 4]
    assert (Path(best.model_uri or "") / "weights.safetensors").exists()
    counts = starts(ended)
    again = tune(spec, space, ended, trials=4, **search)  # one more
    assert [trial.number for trial in again.trials()] == [0, 1, 2, 3]
    assert set(starts(ended).values()) == {1}
    assert counts.items() <= starts(ended).items()
    for name in ("one", "two"):
        write_report(again, tmp_path / f"{name}.html")
    page = (tmp_path / "one.html").read_text()
    assert page == (tmp_path / "two.html").read_text()
    assert page.count("<svg") == 3
    assert f"Best: trial {best.number}" in page


def test_a_trial_that_cannot_be_trained_is_passed_over(spec: TrainSpec, ended: Path) -> None:
    space = {"optimizer.name": choices("adam", "no_such_optimizer")}
    study = tune(spec, space, ended, trials=5, sampler="random", seed=1)
    states = {trial.parameters["optimizer.name"]: trial.state for trial in study.trials()}
    assert states == {"adam": TrialState.COMPLETE, "no_such_optimizer": TrialState.FAILED}
    failed = next(trial for trial in study.trials() if trial.state is TrialState.FAILED)
    assert "no_such_optimizer" in (failed.error or "")


def test_a_hopeless_trial_is_given_up(spec: TrainSpec, ended: Path) -> None:
    pruner = {"name": "median", "n_startup_trials": 1}
    study = Study.create(ended, spec, SPACE, sampler="random", seed=0, pruner=pruner)
    study.suggest(0)
    epochs = dict.fromkeys(range(1, 2000), 0.001)
    study.tell(0, TrialState.COMPLETE, 0.001, values=epochs)  # better than anything that comes
    endless = TrainSpec.from_json(spec.to_json() | {"epochs": 1_000_000})
    study.suggest(1)
    launcher = get_launcher("trial", root=ended / "runs", study=ended, trial=1)
    handle = launcher.submit(endless, study.key(1))
    status = launcher.wait(handle.id, timeout=60)
    assert status.state is JobState.CANCELLED
    assert not launcher.run_directory(handle.id).is_lease_held()
    # Whoever decided is killed before it tells: the next one neither resumes the job nor decides anew.
    steps = status.step
    assert launcher.submit(endless, study.key(1)) == handle
    assert launcher.poll(handle.id).state is JobState.CANCELLED
    trial = study.settle(1, launcher.poll(handle.id), launcher.run_directory(handle.id))
    assert (trial.state, trial.pruned_at, list(trial.values)) == (TrialState.PRUNED, 1, [1])
    assert launcher.poll(handle.id).step == steps
    assert sum(starts(ended).values()) == 1


@pytest.mark.parametrize("pruner", ["median", {"name": "halving", "min_resource": 1, "reduction_factor": 2}])
def test_pruning_does_not_depend_on_when_one_looks(spec: TrainSpec, tmp_path: Path, pruner: Any) -> None:
    from mxpipe.tune import sampling

    study = Study.create(tmp_path / "s", spec, SPACE, pruner=pruner)
    for number in range(6):
        study.suggest(number)
        values = {epoch: 1.0 / epoch + 0.01 * number for epoch in range(1, 5)}
        study.tell(number, TrialState.COMPLETE, values[4], values=values)
    values = {1: 0.9, 2: 0.9, 3: 0.9, 4: 0.9}
    told = study.trials()
    at_once = sampling.pruning_epoch(study.definition, told, values)
    step_by_step = [
        sampling.pruning_epoch(study.definition, told, {e: v for e, v in values.items() if e <= seen})
        for seen in range(1, 5)
    ]
    assert at_once is not None
    assert next(epoch for epoch in step_by_step if epoch is not None) == at_once
    assert step_by_step[: at_once - 1] == [None] * (at_once - 1)


@pytest.mark.slow
def test_a_search_that_is_killed_again_and_again_trains_each_trial_once(
    spec: TrainSpec, tmp_path: Path
) -> None:
    space = {"optimizer.learning_rate": log_uniform(1e-3, 1e-1)}
    code = (
        "import sys, json; from mxpipe.tune import tune; from mxpipe.train import TrainSpec; "
        "tune(TrainSpec.from_json(json.loads(sys.argv[2])), json.loads(sys.argv[3]), sys.argv[1], trials=4,"
        " seed=2, startup=2, pruner='median', poll_interval=0.02)"
    )
    longer = TrainSpec.from_json(spec.to_json() | {"epochs": 20, "checkpoint": {"every_steps": 5}})

    def command(name: str) -> list[str]:
        texts = [json.dumps(longer.to_json()), json.dumps(space)]
        return [sys.executable, "-c", code, str(tmp_path / name), *texts]

    subprocess.run(command("undisturbed"), check=True, timeout=200)
    random = np.random.default_rng(0)
    for _ in range(6):
        process = subprocess.Popen(command("killed"))
        try:
            process.wait(timeout=2.0 + float(random.uniform(0.0, 1.5)))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    else:
        subprocess.run(command("killed"), check=True, timeout=200)
    assert process.returncode in (0, -9)
    first, second = (
        [(trial.number, trial.parameters, trial.state, trial.value) for trial in study.trials()]
        for study in (Study.open(tmp_path / name) for name in ("undisturbed", "killed"))
    )
    assert first == second
    assert len(first) == 4
    assert set(starts(tmp_path / "killed").values()) == {1}, "a job is not started twice"
    events = read_events(tmp_path / "killed" / "trials.jsonl")
    counts = Counter((event["event"], event["trial"]) for event in events)
    assert set(counts.values()) == {1}
    deadline = time.monotonic() + 10
    while any(status.state.is_active for _, status in LocalLauncher(tmp_path / "killed" / "runs").list()):
        assert time.monotonic() < deadline
