"""What every engine is given: shapes, initial weights and data, from seeds, so that all do the same work.

Dense weights are (out, in); uniform means U(-1/sqrt(in), 1/sqrt(in)). Training cycles over `nbatch` batches
that are staged beforehand; a step is forward, loss, backward and update.
"""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from pathlib import Path

import numpy as np

SEED = 20240229
MLP = (64, 256, 256, 1)


def generator(key: str) -> np.random.Generator:
    """Numbers that depend on the key alone, not on the order of generation."""
    return np.random.default_rng([SEED, zlib.crc32(key.encode())])


@dataclasses.dataclass(frozen=True)
class Workload:
    """One row of the table."""

    id: str
    model: str
    description: str
    batch: int
    steps: int
    warmup: int = 10
    nbatch: int = 4
    opt: tuple[str, dict[str, float]] = ("adam", {"lr": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8})
    loss: str = "bce"

    def params(self) -> dict[str, np.ndarray]:
        """Initial weights by name."""
        weights = {}
        for index, (inputs, outputs) in enumerate(itertools.pairwise(MLP)):
            for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
                key = f"mlp/fc{index}.{name}"
                bound = inputs**-0.5
                weights[f"fc{index}.{name}"] = generator(key).uniform(-bound, bound, shape).astype(np.float32)
        return weights

    def batch_data(self, index: int) -> tuple[np.ndarray, ...]:
        """Inputs and target of one batch."""
        key = f"{self.id}/{index}"
        inputs = generator(key + "x").standard_normal((self.batch, MLP[0]), np.float32)
        return inputs, generator(key + "y").integers(0, 2, (self.batch, 1)).astype(np.float32)

    def flops(self) -> int:
        """2 multiply-adds a weight and row forward, twice that backward."""
        return 6 * self.batch * sum(a * b for a, b in itertools.pairwise(MLP))


WORKLOADS = {
    workload.id: workload
    for workload in (
        Workload("T1s", "mlp", "MLP 64-256-256-1, batch 32, Adam", 32, steps=1000, warmup=50),
        Workload("T1", "mlp", "MLP 64-256-256-1, batch 256, Adam", 256, steps=400, warmup=20),
        Workload("T1b", "mlp", "MLP 64-256-256-1, batch 8192, Adam", 8192, steps=40, warmup=6),
        Workload(
            "flights", "wide_and_deep", "the flight model's step on its real rows, AdamW", 1024, steps=150
        ),
    )
}


def flight_data(path: Path) -> dict[str, np.ndarray]:
    """The encoded rows that `make run` trained on: numeric, categorical, label, cardinalities."""
    with np.load(path) as archive:  # plain arrays: allow_pickle stays off
        return dict(archive)
