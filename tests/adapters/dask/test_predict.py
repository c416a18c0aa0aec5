"""A real Dask cluster on this machine predicts in batches: rows, refused rows, repeats, a worker killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mxpipe.batch import PredictionOptions, predict_snapshot, resolve_model
from mxpipe.data import Snapshot, write_snapshot
from mxpipe.errors import DataError, SchemaError
from mxpipe.model import load_model

pytest.importorskip("dask.dataframe")

import dask.dataframe as dd

import mxpipe_dask

if TYPE_CHECKING:
    from distributed import Client

ROWS = 1200


def make_rows(rows: int = ROWS) -> pd.DataFrame:
    row = np.arange(rows)
    carriers = np.array(["UA", "DL", "AA", None, "never seen"], dtype=object)
    return pd.DataFrame(
        {
            "id": row,
            "distance": pd.array(np.where(row % 10 == 0, None, row * 1.5), dtype="double[pyarrow]"),
            "hour": 5 + row % 19,
            "carrier": carriers[row % 5],
        }
    )


@pytest.fixture
def frame(client: Client) -> Any:
    return dd.from_pandas(make_rows(), npartitions=4)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_dataframe_gets_one_row_for_each_row(frame: Any, trained_models: Any):
    late = mxpipe_dask.predict(frame, trained_models.first, PredictionOptions(keys=["id"]))
    result = late.compute()
    assert list(late.columns) == ["id", "probability", "error"] == list(result.columns)
    assert (late.dtypes == result.dtypes).all()
    assert result["id"].tolist() == list(range(ROWS))
    assert result.index.tolist() == list(range(ROWS))
    rows = pa.Table.from_pandas(make_rows(), preserve_index=False)
    expected = load_model(trained_models.first).predict(rows)
    np.testing.assert_allclose(result["probability"].to_numpy(np.float32), expected, rtol=1e-5)
    assert result["error"].isna().all()


def test_a_poisoned_row_says_why_and_the_rest_goes_on(frame: Any, trained_models: Any, tmp_path: Path):
    def poison(part: pd.DataFrame) -> pd.DataFrame:
        distance = part["distance"].astype(object)
        distance[part["id"] == 77] = "far"
        empty = part[part["id"] < 0] if 300 in part["id"].values else part
        return part.assign(distance=distance).loc[empty.index]

    rows = frame.map_partitions(poison, meta=frame._meta.astype({"distance": object}))
    options = PredictionOptions(keys=["id"], required=["hour"])
    result = mxpipe_dask.predict(rows, trained_models.first, options).compute()
    errors = result[result["error"].notna()]
    assert errors["id"].tolist() == [77]
    assert errors["error"].tolist() == ["[column 'distance'] not a number: 'far'"]
    done = mxpipe_dask.write_predictions(rows, trained_models.first, tmp_path / "late", options)
    assert (done.rows, done.refused) == (900, {"distance: not a number": 1})
    expected = [row for row in range(ROWS) if row != 77 and not 300 <= row < 600]
    assert done.snapshot.to_table()["id"].to_pylist() == expected
    assert done.errors is not None
    assert done.errors.to_table()["error_row"].to_pylist() == [77]


def test_bad_frames_are_named_before_anything_runs(frame: Any, trained_models: Any, tmp_path: Path):
    with pytest.raises(SchemaError, match="column 'carrier' must be in the rows"):
        mxpipe_dask.write_predictions(frame.drop(columns="carrier"), trained_models.first, tmp_path / "late")
    with pytest.raises(DataError, match="at least one row must be predicted; got 0 rows"):
        mxpipe_dask.write_predictions(frame[frame["id"] < 0], trained_models.first, tmp_path / "late")
    assert names_in(tmp_path) == []


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    rows = pa.Table.from_pandas(make_rows(24_000), preserve_index=False)
    return write_snapshot(tmp_path_factory.mktemp("rows") / "rows", rows, rows_per_shard=3000)


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(
    client: Client, snapshot: Snapshot, trained_models: Any, tmp_path: Path
):
    model = resolve_model(trained_models.second)
    options = PredictionOptions(keys=["id"], rows_per_batch=8)  # many small batches: it takes its time
    staging = tmp_path / ".late.writing"
    victim = next(iter(client.run(os.getpid).values()))
    killed: list[int] = []

    def kill() -> None:
        while not any(staging.glob("part-*.json")):
            time.sleep(0.001)
        os.kill(victim, signal.SIGKILL)
        killed.append(len(list(staging.glob("part-*.json"))))

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    done = mxpipe_dask.predict_snapshot(snapshot, model, tmp_path / "late", options)
    killer.join(60)
    assert killed, "a worker was killed at work"
    assert killed[0] < 8, "before all was done"
    undisturbed = predict_snapshot(snapshot, model, tmp_path / "undisturbed", options, threads=1)
    assert (done.digest, done.predicted) == (undisturbed.digest, 24_000)
    assert mxpipe_dask.predict_snapshot(snapshot, model, tmp_path / "late", options).reused
    assert names_in(tmp_path) == ["late", "undisturbed"]


def test_without_a_cluster_this_process_computes(snapshot: Snapshot, trained_models: Any, tmp_path: Path):
    import dask

    with dask.config.set(scheduler="threads"):
        done = mxpipe_dask.predict_snapshot(snapshot, trained_models.first, tmp_path / "late")
    assert done.rows == 24_000
