"""A trained model, and rows like those that it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mxpipe.model import Model, load_model


@pytest.fixture(scope="session")
def model(trained_models: Any) -> Model:
    """The first model; its metadata says what it was trained on."""
    return load_model(trained_models.first)


@pytest.fixture(scope="session")
def flights() -> Callable[..., dict[str, Any]]:
    """Makes rows: as in training, or farther, or of another carrier."""

    def make(rows: int, seed: int = 9, farther: float = 1.0, newcomer: float = 0.0) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        carrier = random.choice(["UA", "DL", "AA", "B6", "EV"], rows)
        carrier[random.random(rows) < newcomer] = "XX"
        return {
            "distance": random.gamma(2.0, 500.0, rows) * farther,
            "hour": random.integers(5, 24, rows),
            "carrier": carrier.tolist(),
        }

    return make
