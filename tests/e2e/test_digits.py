"""A convolutional network on real images: as good in bfloat16 as in float32, and killed without a trace."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from images import features
from images.rows import digits_until
from killing import assert_same_result, kill_at, run_undisturbed

from mxpipe.data import split_snapshot, write_snapshot
from mxpipe.jobs import LocalLauncher
from mxpipe.model import load_model
from mxpipe.train import TrainSpec, fit
from mxpipe.train.tasks import evaluate_classes

pytestmark = pytest.mark.slow
PRECISIONS = ("float32", "bfloat16")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """1437 images to learn from and 360 to judge by, all hands on both sides."""
    folder = tmp_path_factory.mktemp("digits")
    table, _ = digits_until(folder, 4)
    order = np.random.default_rng(0).permutation(table.num_rows)
    numbered = table.take(order).set_column(0, "number", pa.array(np.arange(len(order), dtype=np.int32)))
    whole = write_snapshot(folder / "rows", numbered)
    return split_snapshot(whole, folder / "train", folder / "holdout", column="number", at=1437)


def test_bfloat16_reads_digits_as_well(split: Any, tmp_path: Path) -> None:
    holdout = split.holdout.to_table()
    columns = {name: holdout.column(name) for name in features.PIXELS}
    found: dict[str, list[float]] = {}
    for precision in PRECISIONS:
        for seed in (1, 2, 3):
            spec = TrainSpec.from_json(features.training(split.train.uri, seed, precision))
            result = fit(spec, tmp_path / f"{precision}-{seed}", builders=[features.BUILDER])
            probabilities = load_model(result.model_path).predict(columns)
            metrics = evaluate_classes(np.asarray(holdout.column(features.LABEL)), probabilities).metrics
            found.setdefault(precision, []).append(metrics["accuracy"])
    assert min(min(values) for values in found.values()) >= 0.98, found
    wide, narrow = (float(np.mean(found[precision])) for precision in PRECISIONS)
    assert abs(wide - narrow) < 0.005, found  # seeds alone move it by 0.003


@pytest.mark.parametrize("precision", PRECISIONS)
def test_kills_change_no_byte_of_a_convolutional_network(split: Any, tmp_path: Path, precision: str) -> None:
    spec = TrainSpec.from_json(features.training(split.train.uri, 1, precision))
    builders = [features.BUILDER]
    undisturbed = run_undisturbed(spec, tmp_path / "undisturbed", builders)
    points = random.Random(8)
    launcher = LocalLauncher(tmp_path / "killed")
    for half in range(2):
        kill_at(launcher, spec, points.randrange(200 * half + 1, 200 * half + 150), 0.0, builders)
    assert_same_result(launcher, spec, undisturbed, attempts=3, builders=builders)
