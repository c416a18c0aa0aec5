"""The session's Airflow with its scheduler, triggerer and API, trainings in it, and the matrix of faults."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from disturbance import Door, Outcome, Training, specification, table, write_rows


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Rows that a small network can learn, with missing values and categories."""
    return write_rows(tmp_path_factory.mktemp("data") / "rows")


@pytest.fixture(scope="session")
def undisturbed(snapshot: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a job that nobody disturbed, started without Airflow and MLflow."""
    from mxpipe.jobs import JobState, LocalLauncher
    from mxpipe.train import TrainSpec

    launcher = LocalLauncher(tmp_path_factory.mktemp("undisturbed"))
    job = launcher.submit(TrainSpec.from_json(specification(snapshot.uri)), "undisturbed")
    assert launcher.wait(job.id, timeout=120).state is JobState.SUCCEEDED, launcher.logs(job.id)[0]
    return job.run_directory / "model"


@pytest.fixture
def door(standalone: Any) -> Iterator[Door]:
    """A door to the session's MLflow server."""
    door = Door(int(standalone.mlflow_url.rpartition(":")[2]))
    yield door
    with suppress(OSError):
        door.shut()


@pytest.fixture
def make_training(
    standalone: Any, api: Any, undisturbed: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[..., Training]:
    """Makes a :class:`Training` that is named as the test."""

    def make(root: Path | None = None, tracking_uri: str | None = None, suffix: str = "") -> Training:
        name = f"{request.node.originalname.removeprefix('test_')}{suffix}_{uuid.uuid4().hex[:6]}"
        where, place = tracking_uri or standalone.mlflow_url, root or tmp_path
        api.connect(name, {"root": str(place), "tracking_uri": where})
        return Training(name, standalone, api, place, where, undisturbed)

    return make


MATRIX: dict[str, Outcome] = {}


@pytest.fixture(scope="session")
def matrix() -> dict[str, Outcome]:
    """Faults and what became of the training; printed at the end."""
    return MATRIX


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the matrix."""
    if MATRIX:
        terminalreporter.section("faults")
        for line in table(MATRIX):
            terminalreporter.write_line(line)
