"""What tests of several areas share: two small trained models, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class TrainedModels:
    """Two model folders of one signature: distance float64, hour int64, carrier string; one probability."""

    first: Path
    second: Path
    columns: dict[str, Any]  # rows to predict, nulls and a category that training never saw among them


def _flights(rows: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    carriers = ["UA", "DL", "AA", "B6", "EV"]
    carrier = random.integers(0, len(carriers), rows)
    distance = random.gamma(2.0, 500.0, rows)
    hour = random.integers(5, 24, rows)
    logit = -1.5 + 0.15 * (hour - 12) + 0.4 * (carrier - 2) - distance / 3000
    return {
        "distance": distance,
        "hour": hour,
        "carrier": [carriers[position] for position in carrier],
        "late": (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64),
    }


@pytest.fixture(scope="session")
def trained_models(tmp_path_factory: pytest.TempPathFactory) -> TrainedModels:
    """Trained on 600 made-up flights, with two seeds."""
    from mxpipe.data import write_snapshot
    from mxpipe.train import TrainSpec, fit

    folder = tmp_path_factory.mktemp("models")
    write_snapshot(str(folder / "snapshot"), _flights(600, seed=1))
    features = {"numeric": ["distance", "hour"], "categorical": ["carrier"], "label": "late"}
    paths = []
    for seed in (1, 2):
        spec = TrainSpec.from_json(
            {
                "model": {"builder": "wide_and_deep", "arguments": {"hidden_units": [8]}},
                "data": {"train": str(folder / "snapshot"), "features": features, "batch_size": 64},
                "optimizer": {"name": "adam", "arguments": {"learning_rate": 0.01}},
                "epochs": 2,
                "seed": seed,
            }
        )
        paths.append(fit(spec, folder / f"run-{seed}").model_path)
    columns = {"distance": [733.0, None, 2475.0], "hour": [8, 17, 22], "carrier": ["UA", "never seen", None]}
    return TrainedModels(paths[0], paths[1], columns)
