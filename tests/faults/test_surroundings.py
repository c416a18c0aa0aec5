"""What a training needs goes away in the middle: the tracking server, the disk, the databases, the time."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from disturbance import FINISHED, STEPS, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_mlflow_is_away(make_training: Callable[..., Any], door: Any, snapshot: Any, matrix: Any) -> None:
    """For the middle third of the training: nobody listens at its address."""
    training = make_training(tracking_uri=door.url)
    training.start(snapshot)
    training.job_at(STEPS // 3)
    door.shut()
    training.job_at(2 * STEPS // 3)
    door.reopen()
    outcome = matrix["MLflow down for the middle third"] = training.outcome()
    assert outcome == FINISHED
    logged = training.logged_steps()
    assert logged == list(range(1, STEPS + 1)), "each step once, those of the outage too"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all that is left of a disk."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass
    return filler


def test_the_disk_is_full(
    make_training: Callable[..., Any], small_disk: Path, snapshot: Any, matrix: Any
) -> None:
    """At a checkpoint; the retry comes when there is room again."""
    training = make_training(root=small_disk)
    training.start(snapshot)
    job_id, _ = training.job_at(100)
    filler = fill(small_disk)
    wait_until(lambda: not training.launcher.poll(job_id).state.is_active, "the job to fail", 60)
    filler.unlink()
    outcome = matrix["Disk full at a checkpoint, room at the retry"] = training.outcome()
    assert outcome == FINISHED.but(attempts=2, starts=2)
    assert "No space left on device" in training.log(1)


def test_the_disk_stays_full(
    make_training: Callable[..., Any], small_disk: Path, snapshot: Any, matrix: Any
) -> None:
    training = make_training(root=small_disk)
    training.start(snapshot)
    training.job_at(100)
    fill(small_disk)
    outcome = matrix["Disk full at a checkpoint, and at each retry"] = training.outcome()
    assert outcome == FINISHED.but(task="failed", attempts=3, versions=0, run="FAILED", weights="-")


def test_the_databases_are_locked(
    make_training: Callable[..., Any], standalone: Any, snapshot: Any, matrix: Any
) -> None:
    """Airflow's for some seconds, MLflow's for longer than its own patience."""
    training = make_training()
    training.start(snapshot)
    training.job_at(100)
    for name, seconds in (("mlflow/mlflow.db", 8.0), ("airflow/airflow.db", 3.0)):
        held = sqlite3.connect(standalone.state / name, timeout=60.0, isolation_level=None)
        held.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        held.execute("ROLLBACK")
        held.close()
    outcome = matrix["MLflow's and Airflow's databases locked"] = training.outcome()
    assert outcome == FINISHED
    assert training.logged_steps() == list(range(1, STEPS + 1))


@pytest.fixture
def clock(tmp_path: Path) -> dict[str, str]:
    """Variables of a process whose wall clock is shifted by the seconds in the file ``CLOCK_SHIFT``."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("a C compiler is needed")
    library, shift = tmp_path / "clock.so", tmp_path / "shift"
    source = Path(__file__).parent / "clock.c"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"], check=True)
    shift.write_text("0")
    return {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)}


DAG_TEST = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(sys.argv[1]).dags["retraining"]
run = dag.test(run_conf=json.loads(sys.argv[2]))
print(json.dumps({task.task_id: {"state": str(task.state), "try_number": task.try_number}
                  for task in run.get_task_instances()}))
"""


def test_the_clock_jumps_back(
    make_training: Callable[..., Any],
    standalone: Any,
    snapshot: Any,
    matrix: Any,
    clock: dict[str, str],
    tmp_path: Path,
) -> None:
    """By two days, for the task, its trigger and its job: all of them are of the process of ``dag.test()``.

    A process cannot be given another clock from outside, so the scheduler's Airflow is not part of this one.
    """
    training = make_training()
    variables = standalone.variables | clock | of_its_own(tmp_path / "home", standalone, training)
    command = [sys.executable, "-c", DAG_TEST, standalone.variables["AIRFLOW__CORE__DAGS_FOLDER"]]
    command.append(json.dumps(training.configuration(snapshot)))
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, env=os.environ | variables, stdout=log, stderr=log, cwd=tmp_path)
        try:
            training.job_at(100)
            Path(clock["CLOCK_SHIFT"]).write_text(str(-2 * 86400))
            assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()[-4000:]
        finally:
            process.kill()
    tasks = json.loads((tmp_path / "log").read_text().splitlines()[-1])
    assert tasks["register"]["state"] == "success"
    outcome = matrix["Clock jumps back two days"] = training.outcome(tasks["train"])
    assert outcome == FINISHED
    assert training.logged_steps() == list(range(1, STEPS + 1))


def of_its_own(home: Path, standalone: Any, training: Any) -> dict[str, str]:
    """Variables of an Airflow without a scheduler, on a copy of the session's database."""
    home.mkdir()
    with (
        closing(sqlite3.connect(standalone.state / "airflow" / "airflow.db", timeout=60.0)) as source,
        closing(sqlite3.connect(home / "airflow.db")) as target,
    ):
        source.backup(target)
    extra = {"root": str(training.root), "tracking_uri": training.tracking_uri}
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        f"AIRFLOW_CONN_{training.name.upper()}": json.dumps({"conn_type": "mxpipe", "extra": extra}),
    }
