"""What the tests of training share: small data, a small specification, a small disk."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SMALL_DISK_BYTES = 2_000_000
ROWS = 3000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in a process that may write no file of more than 2 MB: beyond it, as on a full disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_DISK_BYTES, hard))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="session")
def delays() -> Callable[[int, int], dict[str, Any]]:
    """Makes columns of flights from a number of rows and a seed."""
    return make_delays


def make_delays(rows: int, seed: int) -> dict[str, Any]:
    """Flights whose delay depends on carrier, distance and hour, with nulls in both kinds of columns."""
    random = np.random.default_rng(seed)
    carriers = np.array(["UA", "DL", "AA", "B6", "EV", "WN", "9E"])
    carrier = random.integers(0, len(carriers), rows)
    distance = random.gamma(2.0, 500.0, rows)
    hour = random.integers(5, 24, rows)
    logit = -1.5 + 0.15 * (hour - 12) + 0.4 * (carrier - 3) - distance / 3000
    label = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return {
        "distance": [None if random.random() < 0.05 else value for value in distance.tolist()],
        "hour": hour,
        "carrier": [None if random.random() < 0.05 else str(value) for value in carriers[carrier]],
        "late": label,
    }


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """URIs of a training and a validation snapshot."""
    from mxpipe.data import write_snapshot

    folder = tmp_path_factory.mktemp("snapshots")
    uris = str(folder / "train"), str(folder / "validation")
    for uri, rows, seed in zip(uris, (ROWS, 800), (1, 2), strict=True):
        write_snapshot(uri, make_delays(rows, seed))
    return uris


@pytest.fixture(scope="session")
def make_spec(snapshots: tuple[str, str]) -> Callable[..., Any]:
    """Makes a specification of a small training; keyword arguments replace its fields."""
    from mxpipe.train import TrainSpec

    def make(**changes: Any) -> TrainSpec:
        features = {"numeric": ["distance", "hour"], "categorical": ["carrier"], "label": "late"}
        data = {"train": snapshots[0], "validation": snapshots[1], "features": features, "batch_size": 128}
        fields = {
            "model": {"builder": "wide_and_deep", "arguments": {"hidden_units": [16], "dropout": 0.1}},
            "data": data | changes.pop("data", {}),
            "optimizer": {"name": "adam", "arguments": {"learning_rate": 0.01}},
            "metrics": ["auc"],
            "epochs": 3,
            "seed": 7,
            "checkpoint": {"every_steps": 10, "every_seconds": None},
            "threads": 1,
        }
        return TrainSpec.from_json({k: v for k, v in (fields | changes).items() if v is not None})

    return make
