"""A real Spark on this machine predicts in batches: rows, refused rows, repeats, a worker killed at work."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from mxpipe.batch import PredictionOptions, Predictions, predict_snapshot, resolve_model
from mxpipe.data import Snapshot, write_snapshot
from mxpipe.errors import DataError, SchemaError, SpecificationError
from mxpipe.model import load_model

pytest.importorskip("pyspark")

import mxpipe_spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")

ROWS = 2000
COLUMNS = (
    "id",
    "CAST(id AS INT) AS number",
    "timestamp_seconds(id) AS moment",
    "IF(id % 10 = 0, NULL, id * 1.5D) AS distance",
    "CAST(5 + id % 19 AS BIGINT) AS hour",
    "element_at(array('UA', 'DL', 'AA', NULL, 'never seen'), CAST(1 + id % 5 AS INT)) AS carrier",
)


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    # Two of five partitions are empty.
    return spark.range(ROWS, numPartitions=5).where(f"id < {ROWS * 3 // 5}").selectExpr(*COLUMNS)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_dataframe_gets_one_row_for_each_row(frame: DataFrame, trained_models: Any):
    model = trained_models.first
    late = mxpipe_spark.predict(frame, model, PredictionOptions(keys=["id", "number", "moment"]))
    assert [field.dataType.simpleString() for field in late.schema.fields] == [
        "bigint", "int", "timestamp", "float", "string",
    ]  # fmt: skip
    result, rows = late.toArrow(), frame.toArrow()
    keys = ["id", "number", "moment"]
    assert result.select(keys).equals(rows.select(keys))
    np.testing.assert_allclose(result["probability"].to_numpy(), load_model(model).predict(rows), rtol=1e-5)
    assert result["error"].null_count == len(rows)
    # It is an ordinary DataFrame: joined and counted without another pass of ours.
    assert late.join(frame, "id").where("probability > 2").count() == 0


def test_a_poisoned_row_says_why_and_the_rest_goes_on(frame: DataFrame, trained_models: Any, tmp_path: Path):
    text = "IF(id = 77, 'far', CAST(distance AS STRING)) AS distance"
    rows = frame.selectExpr("id", text, "hour", "IF(id = 900, NULL, carrier) AS carrier")
    options = PredictionOptions(keys=["id"], required=["hour"])
    errors = mxpipe_spark.predict(rows, trained_models.first, options).where("error IS NOT NULL").collect()
    assert [(row.id, row.probability, row.error) for row in errors] == [
        (77, None, "[column 'distance'] not a number: 'far'")
    ]
    done = mxpipe_spark.write_predictions(rows, trained_models.first, tmp_path / "late", options)
    assert (done.rows, done.predicted, done.refused) == (1200, 1199, {"distance: not a number": 1})
    assert done.errors is not None
    refused = done.errors.to_table().to_pylist()
    assert [(row["id"], row["error_partition"], row["error_row"]) for row in refused] == [(77, 0, 77)]
    assert done.snapshot.to_table()["id"].to_pylist() == [row for row in range(1200) if row != 77]
    assert len(done.snapshot.shards) == 3, "nothing is written for empty partitions"
    assert done.statistics.rows == 1199


def test_bad_frames_are_named_before_anything_runs(frame: DataFrame, trained_models: Any, tmp_path: Path):
    model, place = trained_models.first, tmp_path / "late"
    with pytest.raises(SchemaError, match="column 'carrier' must be in the rows"):
        mxpipe_spark.write_predictions(frame.drop("carrier"), model, place)
    with pytest.raises(SchemaError, match=r"column 'hour' must hold int64.*timestamp"):
        mxpipe_spark.predict(frame.selectExpr("distance", "moment AS hour", "carrier"), model)
    with pytest.raises(SpecificationError, match="error must have a name of its own"):
        mxpipe_spark.predict(frame, model, error="probability")
    with pytest.raises(DataError, match="at least one row must be predicted; got 0 rows"):
        mxpipe_spark.write_predictions(frame.where("id < 0"), model, place)
    assert names_in(tmp_path) == []


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    random = np.random.default_rng(3)
    rows = 24_000
    columns = {
        "id": np.arange(rows),
        "distance": random.gamma(2.0, 500.0, rows),
        "hour": random.integers(5, 24, rows),
        "carrier": pa.array(["UA", "DL", None]).take(pa.array(random.integers(0, 3, rows))).to_pylist(),
    }
    return write_snapshot(tmp_path_factory.mktemp("rows") / "rows", columns, rows_per_shard=3000)


def test_a_snapshot_is_predicted_shard_by_shard_as_one_process_would(
    spark: SparkSession, snapshot: Snapshot, trained_models: Any, tmp_path: Path
):
    options = PredictionOptions(keys=["id"])
    model = resolve_model(trained_models.first)
    local = predict_snapshot(snapshot, model, tmp_path / "local", options, threads=1)
    done = mxpipe_spark.predict_snapshot(spark, snapshot, model, tmp_path / "spark", options)
    assert (done.digest, done.rows) == (local.digest, 24_000)
    assert mxpipe_spark.predict_snapshot(spark, snapshot, model, tmp_path / "spark", options).reused


def worker_processes() -> list[int]:
    """Spark's Python workers, all of them descendants of this process."""
    parents: dict[int, int] = {}
    commands: dict[int, bytes] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                commands[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue

    def is_ours(process: int) -> bool:
        while process > 1:
            if process == os.getpid():
                return True
            process = parents.get(process, 0)
        return False

    workers = [
        process for process, command in commands.items() if b"pyspark" in command and b"java" not in command
    ]
    return [process for process in workers if parents[process] in workers and is_ours(process)]


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(
    spark: SparkSession, snapshot: Snapshot, trained_models: Any, tmp_path: Path
):
    model = resolve_model(trained_models.second)
    options = PredictionOptions(keys=["id"], rows_per_batch=8)  # many small batches: it takes its time
    target, staging = tmp_path / "late", tmp_path / ".late.writing"
    killed: list[int] = []
    kept: dict[Path, int] = {}

    def kill() -> None:
        while not any(staging.glob("part-*.json")):
            time.sleep(0.001)
        for process in worker_processes():
            os.kill(process, signal.SIGKILL)
            killed.append(process)
        kept.update({path: path.stat().st_mtime_ns for path in staging.glob("part-*.json")})

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    done = mxpipe_spark.predict_snapshot(spark, snapshot, model, target, options)
    killer.join(60)
    assert killed, "a worker was at work"
    assert kept, "and something was finished already"
    assert done.predicted == 24_000
    undisturbed = predict_snapshot(snapshot, model, tmp_path / "undisturbed", options, threads=1)
    assert done.digest == undisturbed.digest
    assert names_in(tmp_path) == ["late", "undisturbed"]
    assert Predictions.open(target).snapshot.to_table()["id"].to_pylist() == list(range(24_000))
