"""A real Spark on this machine writes snapshots: rows, types, digests, faults."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mxpipe.data import FeatureSpec, Loader, Preprocessor, Snapshot, write_snapshot
from mxpipe.errors import DataError, JobFailedError, MissingExtraError, SchemaError, StorageError

pytest.importorskip("pyspark")

import mxpipe_spark
from mxpipe_spark import session as session_module

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")

ROWS = 2000
COLUMNS = (
    "CAST(id % 12 AS TINYINT) AS month",
    "CAST(id % 700 AS SMALLINT) AS number",
    "CAST(id AS INT) AS flight",
    "id * 1000003 AS big",
    "CAST(id % 1000 AS FLOAT) AS narrow",
    "IF(id % 10 = 0, NULL, id * 1.5D) AS distance",
    "IF(id % 13 = 0, NULL, concat('Zürich ', id % 5)) AS place",
    "id % 4 = 0 AS late",
    "date_add(DATE '2013-01-01', CAST(id % 31 AS INT)) AS day",
    "timestamp_seconds(1357000000 + id) AS moment",
    "CAST(timestamp_seconds(id) AS TIMESTAMP_NTZ) AS local",
)


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    return spark.range(ROWS, numPartitions=3).selectExpr(*COLUMNS)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_session_is_bounded_and_private(spark: SparkSession):
    settings = dict(spark.sparkContext.getConf().getAll())
    assert settings["spark.master"] == "local[2,4]"
    assert settings["spark.driver.memory"] == "512m"
    assert settings["spark.ui.enabled"] == "false"
    assert settings["spark.driver.bindAddress"] == "127.0.0.1"
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.sparkContext.uiWebUrl is None


def test_every_type_arrives(frame: DataFrame, tmp_path: Path):
    snapshot = mxpipe_spark.write_snapshot(
        frame, tmp_path / "rows", sort_by=["flight"], metadata={"month": 1}
    )
    assert snapshot.column_types == {
        "month": "int8", "number": "int16", "flight": "int32", "big": "int64", "narrow": "float32",
        "distance": "float64", "place": "string", "late": "bool", "day": "date32",
        "moment": "timestamp[us, tz=UTC]", "local": "timestamp[us]",
    }  # fmt: skip
    assert snapshot.metadata == {"month": 1}
    assert snapshot.num_rows == ROWS
    assert len(snapshot.shards) == 4
    table = snapshot.to_table().sort_by("flight").to_pydict()
    assert table["flight"] == list(range(ROWS))
    assert table["big"] == [row * 1000003 for row in range(ROWS)]
    assert table["distance"] == [None if row % 10 == 0 else row * 1.5 for row in range(ROWS)]
    assert table["place"] == [None if row % 13 == 0 else f"Zürich {row % 5}" for row in range(ROWS)]
    assert table["late"] == [row % 4 == 0 for row in range(ROWS)]
    assert table["day"][40] == datetime.date(2013, 1, 10)
    assert table["moment"][0] == datetime.datetime.fromtimestamp(1357000000, datetime.UTC)
    assert table["local"][1] == datetime.datetime(1970, 1, 1, 0, 0, 1)
    assert names_in(tmp_path) == ["rows"]


def test_the_digest_depends_on_the_rows_alone(frame: DataFrame, tmp_path: Path):
    # Equal sort keys and another order of computation: everything that could differ between two runs.
    first = mxpipe_spark.write_snapshot(frame, tmp_path / "a", sort_by=["month"])
    shuffled = frame.orderBy(frame["big"] % 97).repartition(7)
    assert mxpipe_spark.write_snapshot(shuffled, tmp_path / "b", sort_by=["month"]).digest == first.digest
    again = mxpipe_spark.write_snapshot(frame, tmp_path / "a", sort_by=["month"])  # changes nothing
    assert again.digest == first.digest
    other = frame.where("flight <> 77")
    with pytest.raises(DataError, match="must not hold another snapshot"):
        mxpipe_spark.write_snapshot(other, tmp_path / "a", sort_by=["month"])
    assert names_in(tmp_path) == ["a", "b"]


def test_this_process_arranges_rows_as_spark_does(frame: DataFrame, tmp_path: Path):
    arrow = frame.toArrow().to_batches(max_chunksize=177)[::-1]
    for keys in (["month"], ["place", "late"], ["local", "narrow", "distance", "day"]):
        options = {"sort_by": keys, "rows_per_shard": 300}
        spark = mxpipe_spark.write_snapshot(frame, tmp_path / "_".join(["spark", *keys]), **options)
        assert write_snapshot(tmp_path / "_".join(keys), arrow, **options).digest == spark.digest


def test_workers_statistics_equal_those_of_one_process(frame: DataFrame, tmp_path: Path):
    snapshot = mxpipe_spark.write_snapshot(frame, tmp_path / "spark", rows_per_shard=300)
    assert [shard.rows for shard in snapshot.shards] == [300, 300, 66, 300, 300, 67, 300, 300, 67]
    local = write_snapshot(tmp_path / "local", snapshot.to_table())
    for name, column in snapshot.statistics.items():
        expected = local.statistics[name]
        assert column.categories == expected.categories
        assert column.quantiles == expected.quantiles
        assert (column.nulls, column.minimum, column.maximum) == (
            expected.nulls, expected.minimum, expected.maximum,
        )  # fmt: skip
        if column.mean is not None:
            assert (column.mean, column.std) == pytest.approx((expected.mean, expected.std), rel=1e-12)


def test_the_snapshot_is_ready_for_training(frame: DataFrame, tmp_path: Path):
    snapshot = mxpipe_spark.write_snapshot(frame, tmp_path / "rows", sort_by=["flight"])
    features = FeatureSpec(numeric=["distance"], categorical=["place", "month"], label="late")
    preprocessor = Preprocessor.fit(snapshot, features)
    assert preprocessor.cardinalities == [6, 13]
    total = sum(float(np.sum(batch.label.asnumpy())) for batch in Loader(snapshot, preprocessor))
    assert total == ROWS / 4


def test_bad_frames_are_named(spark: SparkSession, frame: DataFrame, tmp_path: Path):
    target = tmp_path / "rows"
    with pytest.raises(SchemaError, match=r"column 'price' must be a number.*got decimal\(10,2\)"):
        mxpipe_spark.write_snapshot(frame.selectExpr("CAST(big AS DECIMAL(10, 2)) AS price"), target)
    with pytest.raises(SchemaError, match="column 'week' must be in the DataFrame to sort by"):
        mxpipe_spark.write_snapshot(frame, target, sort_by=["week"])
    with pytest.raises(DataError, match="must hold at least one row; got none"):
        mxpipe_spark.write_snapshot(frame.where("flight < 0"), target)
    with pytest.raises(JobFailedError, match=r"must succeed; got .*DIVIDE_BY_ZERO"):
        mxpipe_spark.write_snapshot(frame.selectExpr("1 / (flight - 5) AS x"), target)
    assert names_in(tmp_path) == []


def test_an_error_of_the_users_own_function_is_told(frame: DataFrame, tmp_path: Path):
    def failing(batches: Any) -> Any:
        raise ValueError("the sensor is broken")
        yield from batches

    broken = frame.select("flight").mapInArrow(failing, "flight int")
    with pytest.raises(JobFailedError, match="got ValueError: the sensor is broken"):
        mxpipe_spark.write_snapshot(broken, tmp_path / "rows")
    assert names_in(tmp_path) == []


def test_a_full_disk_in_a_worker_is_a_storage_error(frame: DataFrame, tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    try:
        with pytest.raises(StorageError, match=r"there must be 1 MB free to write it; got 0 MB"):
            mxpipe_spark.write_snapshot(frame, disk / "rows")
        assert names_in(disk) == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


DRIVER = """
import sys
import mxpipe_spark
with mxpipe_spark.local_session("killed", memory="512m") as spark:
    frame = spark.range(400_000, numPartitions=8)
    print("go", flush=True)
    mxpipe_spark.write_snapshot(frame, sys.argv[1], rows_per_shard=5_000)
"""


@pytest.mark.slow
def test_a_killed_driver_leaves_nothing_for_readers(spark: SparkSession, tmp_path: Path):
    target = tmp_path / "rows"
    command = [sys.executable, "-c", DRIVER, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        staging = tmp_path / ".rows.writing"
        while process.poll() is None and len(list(staging.glob("*.arrow"))) < 3:
            os.sched_yield()
        process.kill()
    with pytest.raises(DataError, match="must be a published snapshot"):
        Snapshot.open(target)
    snapshot = mxpipe_spark.write_snapshot(spark.range(100), target)
    assert snapshot.num_rows == 100
    assert names_in(tmp_path) == ["rows"]


def test_java_is_found_or_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert (mxpipe_spark.find_java() / "bin" / "java").exists()
    old = tmp_path / "old"
    (old / "bin").mkdir(parents=True)
    (old / "bin" / "java").write_text("#!/bin/sh\necho 'openjdk version \"11.0.1\"' >&2\n")
    (old / "bin" / "java").chmod(0o755)
    monkeypatch.setattr(session_module, "_java_homes", lambda: iter([tmp_path / "none", old]))
    with pytest.raises(
        MissingExtraError, match=r"Java 17 or later must be there; got .*none.*old \(version 11\)"
    ):
        mxpipe_spark.find_java()


def test_a_trimmed_java_gets_a_front(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    home = tmp_path / "trimmed java"
    (home / "bin").mkdir(parents=True)
    script = '#!/bin/sh\ncase $1 in -version) echo \'version "25.0.2"\' ;; *) echo "$@" ;; esac\n'
    (home / "bin" / "java").write_text(script)
    (home / "bin" / "java").chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(session_module, "_java_homes", lambda: iter([home]))
    front = mxpipe_spark.find_java()
    arguments = ["-Xmx1g", "--add-modules=jdk.incubator.vector", "a b"]
    shown = subprocess.run([front / "bin" / "java", *arguments], capture_output=True, text=True, check=True)
    assert shown.stdout == "-Xmx1g a b\n"
