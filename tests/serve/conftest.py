"""A real server process, started once, over a copy of a trained model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mxpipe.serve import process
from mxpipe.serve.process import ServerHandle


@pytest.fixture(scope="session")
def server(trained_models: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    """The first model, under the name ``late``; tests only ask it."""
    state_file = tmp_path_factory.mktemp("server") / "server.json"
    arguments = ["--body-bytes=20000"]
    yield process.start(model=trained_models.first, name="late", state_file=state_file, arguments=arguments)
    process.stop(state_file)


@pytest.fixture(scope="session")
def client(server: ServerHandle) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30.0) as client:
        yield client


@pytest.fixture(scope="session")
def expected(trained_models: Any) -> np.ndarray[Any, Any]:
    """What the first model predicts in this process."""
    from mxpipe.model import load_model

    return load_model(trained_models.first).predict(trained_models.columns)


@pytest.fixture(scope="session")
def infer_body(trained_models: Any) -> dict[str, Any]:
    """The rows as an Open Inference request."""
    datatypes = {"distance": "FP64", "hour": "INT64", "carrier": "BYTES"}
    columns = trained_models.columns
    return {
        "id": "rows-1",
        "inputs": [
            {"name": name, "datatype": datatype, "shape": [3], "data": columns[name]}
            for name, datatype in datatypes.items()
        ],
    }


@pytest.fixture
def state_file(tmp_path: Path) -> Iterator[Path]:
    """A state file of a test's own; whatever serves under it is ended."""
    path = tmp_path / "own" / "server.json"
    yield path
    process.stop(path)


@pytest.fixture
def model_copy(trained_models: Any, tmp_path: Path) -> Callable[[Path], Path]:
    """Puts a model folder where the test's server looks for it."""

    def copy(source: Path) -> Path:
        target = tmp_path / "model"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        return target

    return copy
