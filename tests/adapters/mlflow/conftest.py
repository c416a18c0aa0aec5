"""A real MLflow on SQLite, made once; each test has names of its own in it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

# Telemetry and progress bars of MLflow have no place in a test.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database that holds all tests' runs and models; also MLflow's own setting while the tests run."""
    import mlflow

    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.MlflowClient().search_experiments()  # makes the tables
    yield uri
    mlflow.set_tracking_uri(before)


@pytest.fixture
def name() -> str:
    """A name that no other test uses: for experiments, models and keys."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of the test's own: MLflow likes to write where it stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
