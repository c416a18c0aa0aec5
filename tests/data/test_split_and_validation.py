"""Splits that can be rebuilt, and reports that name what is wrong."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mxpipe.data import (
    Expectations,
    Snapshot,
    ValidationReport,
    population_stability,
    split_snapshot,
    validate_snapshot,
    write_snapshot,
)
from mxpipe.errors import DataError, SchemaError, SpecificationError, ValidationError

START = datetime.datetime(2013, 1, 1)


def january(rows: int = 3100, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    moments = np.datetime64(START) + np.sort(random.integers(0, 31 * 24 * 60, rows)).astype("timedelta64[m]")
    return pa.table(
        {
            "moment": pa.array(moments.astype("datetime64[us]")),
            "day": pa.array(moments.astype("datetime64[D]")),
            "distance": pa.array(random.gamma(2.0, 500.0, rows), mask=random.random(rows) < 0.02),
            "carrier": random.choice(["UA", "DL", "AA"], rows, p=[0.6, 0.3, 0.1]),
            "late": (random.random(rows) < 0.2).astype(np.int8),
        }
    )


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return write_snapshot(tmp_path_factory.mktemp("month") / "rows", january(), rows_per_shard=1000)


@pytest.mark.parametrize(
    ("column", "at"),
    [
        ("moment", "2013-01-25"),
        ("moment", datetime.datetime(2013, 1, 25)),
        ("moment", datetime.date(2013, 1, 25)),
        ("day", "2013-01-25"),
        ("day", datetime.date(2013, 1, 25)),
        ("day", datetime.datetime(2013, 1, 25, 13)),
    ],
)
def test_holdout_is_strictly_later(snapshot: Snapshot, tmp_path: Path, column: str, at: Any):
    split = split_snapshot(snapshot, tmp_path / "train", tmp_path / "holdout", column=column, at=at)
    assert split.train.num_rows + split.holdout.num_rows == snapshot.num_rows
    assert pc.max(split.train.to_table()[column]).as_py() < pc.min(split.holdout.to_table()[column]).as_py()
    assert pc.min(split.holdout.to_table()["day"]).as_py() == datetime.date(2013, 1, 25)
    whole = pa.concat_tables([split.train.to_table(), split.holdout.to_table()])
    assert whole.equals(snapshot.to_table())  # the source is sorted by time
    rule = split.holdout.metadata["split"]
    assert (rule["source"], rule["column"], rule["part"]) == (snapshot.digest, column, "holdout")


def test_a_window_of_a_backtest_ends(snapshot: Snapshot, tmp_path: Path):
    window = {"column": "day", "at": "2013-01-10", "until": "2013-01-17"}
    split = split_snapshot(snapshot, tmp_path / "train", tmp_path / "holdout", **window)
    days = [part.to_table(["day"]).column("day").to_pylist() for part in (split.train, split.holdout)]
    assert (max(days[0]), min(days[1]), max(days[1])) == tuple(
        datetime.date(2013, 1, day) for day in (9, 10, 16)
    )
    assert len(days[0]) + len(days[1]) < snapshot.num_rows
    assert split.holdout.metadata["split"]["until"] == "2013-01-17"


def test_a_number_may_come_as_text(tmp_path: Path):
    numbered = write_snapshot(tmp_path / "rows", {"number": np.arange(10, dtype=np.int32)})
    split = split_snapshot(numbered, tmp_path / "train", tmp_path / "holdout", column="number", at="7")
    assert split.holdout.to_table()["number"].to_pylist() == [7, 8, 9]
    with pytest.raises(SchemaError, match="boundary of column 'number' must be a int32; got 'seven'"):
        split_snapshot(numbered, tmp_path / "t", tmp_path / "h", column="number", at="seven")


def test_a_split_is_rebuilt_identically(snapshot: Snapshot, tmp_path: Path):
    splits = [
        split_snapshot(snapshot, tmp_path / f"t{i}", tmp_path / f"h{i}", column="day", at="2013-01-25")
        for i in (0, 1)
    ]
    assert splits[0].train.digest == splits[1].train.digest
    assert splits[0].holdout.digest == splits[1].holdout.digest
    again = split_snapshot(snapshot, tmp_path / "t0", tmp_path / "h0", column="day", at="2013-01-25")
    assert again.train.digest == splits[0].train.digest


def test_split_by_predicate_with_notes(snapshot: Snapshot, tmp_path: Path):
    def of_delta(rows: pa.Table) -> Any:
        return pc.equal(rows["carrier"], "DL")

    split = split_snapshot(
        snapshot, tmp_path / "train", tmp_path / "holdout", predicate=of_delta, metadata={"why": "test"}
    )
    assert set(split.holdout.to_table()["carrier"].to_pylist()) == {"DL"}
    assert set(split.train.to_table()["carrier"].to_pylist()) == {"UA", "AA"}
    assert split.train.metadata["why"] == "test"
    listed = split_snapshot(
        snapshot,
        tmp_path / "train list",
        tmp_path / "holdout list",
        predicate=lambda rows: [value == "DL" for value in rows["carrier"].to_pylist()],
    )
    assert listed.holdout.num_rows == split.holdout.num_rows


def test_bad_splits_are_named(snapshot: Snapshot, tmp_path: Path):
    places = (tmp_path / "train", tmp_path / "holdout")
    with pytest.raises(DataError, match="either column and at, or predicate"):
        split_snapshot(snapshot, *places, column="day")
    with pytest.raises(DataError, match="either column and at, or predicate"):
        split_snapshot(snapshot, *places, column="day", at="2013-01-25", predicate=lambda rows: rows["late"])
    with pytest.raises(SchemaError, match="column 'week' must be in"):
        split_snapshot(snapshot, *places, column="week", at=3)
    with pytest.raises(SchemaError, match="the boundary of column 'day' must be a date32"):
        split_snapshot(snapshot, *places, column="day", at="soon")
    with pytest.raises(DataError, match=r"column 'distance' must have no nulls to split by; got \d+"):
        split_snapshot(snapshot, *places, column="distance", at=500.0)
    with pytest.raises(DataError, match="must hold at least one row"):
        split_snapshot(snapshot, tmp_path / "all", tmp_path / "none", column="day", at="2014-01-01")
    with pytest.raises(DataError, match="must give True or False for each of 1000 rows; got 1 values"):
        split_snapshot(snapshot, *places, predicate=lambda rows: [True])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all"]


def test_a_good_snapshot_passes(snapshot: Snapshot):
    report = validate_snapshot(
        snapshot,
        {
            "minimum_rows": 1000,
            "maximum_rows": 10_000,
            "closed": True,
            "columns": {
                "moment": {"type": "timestamp[us]", "max_null_fraction": 0.0},
                "day": {"type": ["date32", "timestamp[us]"]},
                "distance": {"type": "float64", "minimum": 0, "max_null_fraction": 0.05},
                "carrier": {"allowed": ["UA", "DL", "AA", "B6"]},
                "late": {"allowed": [0, 1], "minimum": 0, "maximum": 1},
                "optional": {"required": False},
            },
        },
        snapshot.statistics,
    )
    assert report.ok, report.failures
    report.raise_for_failures()
    assert max(report.drift.values()) < 0.001
    again = ValidationReport.from_json(json.loads(json.dumps(report.to_json())))
    assert again == report


def test_everything_wrong_is_listed(snapshot: Snapshot):
    report = validate_snapshot(
        snapshot,
        Expectations.from_json(
            {
                "minimum_rows": 10_000,
                "maximum_rows": 100,
                "closed": True,
                "columns": {
                    "day": {"type": "string"},
                    "distance": {"minimum": 1000, "maximum": 1500, "max_null_fraction": 0.0},
                    "carrier": {"allowed": ["UA", "DL"]},
                    "moment": {"allowed": [1]},
                    "speed": {},
                },
            }
        ),
    )
    assert not report.ok
    assert [(check.name, check.column) for check in report.failures] == [
        ("rows", None), ("rows", None), ("closed", None),
        ("type", "day"),
        ("nulls", "distance"), ("minimum", "distance"), ("maximum", "distance"),
        ("allowed", "carrier"), ("allowed", "moment"),
        ("present", "speed"),
    ]  # fmt: skip
    with pytest.raises(ValidationError, match=r"column 'carrier': allowed must be one of 2 .* got 'AA'"):
        report.raise_for_failures()


def test_allowed_with_a_share_of_unknown_values(snapshot: Snapshot):
    for share, ok in ((0.2, True), (0.05, False)):
        expected = {"columns": {"carrier": {"allowed": ["UA", "DL"], "max_unknown_fraction": share}}}
        assert validate_snapshot(snapshot, expected).ok is ok


def test_drift_is_measured_by_hand(snapshot: Snapshot, tmp_path: Path):
    shifted = january(seed=9)
    shifted = shifted.set_column(2, "distance", pc.multiply(shifted["distance"], 1.8))
    carriers = np.random.default_rng(1).choice(["UA", "DL", "AA", "B6"], 3100, p=[0.2, 0.3, 0.4, 0.1])
    shifted = shifted.set_column(3, "carrier", pa.array(carriers))
    current = write_snapshot(tmp_path / "current", shifted)
    drift = population_stability(current, snapshot.statistics)
    assert drift["late"] < 0.02

    expected, observed = (
        np.array([0, *[np.count_nonzero(rows == name) for name in ("UA", "DL", "AA")], 0], dtype=float)
        for rows in (np.array(january()["carrier"].to_pylist()), carriers)
    )
    observed[-1] = np.count_nonzero(carriers == "B6")
    p, q = ((counts + 0.5) / (counts.sum() + 2.5) for counts in (expected, observed))
    assert drift["carrier"] == pytest.approx(float(((q - p) * np.log(q / p)).sum()))

    before = january()["distance"].drop_null().to_numpy()
    after = shifted["distance"].drop_null().to_numpy()
    edges = np.array(snapshot.statistics["distance"].edges)
    counts = [np.bincount(np.searchsorted(edges, values), minlength=20) for values in (before, after)]
    missing = [3100 - before.size, 3100 - after.size]
    p, q = (
        (np.array([gap, *count]) + 0.5) / (3100 + 0.5 * 21)
        for gap, count in zip(missing, counts, strict=True)
    )
    assert drift["distance"] == pytest.approx(float(((q - p) * np.log(q / p)).sum()), rel=1e-3)

    report = validate_snapshot(current, {}, snapshot.statistics.to_json())
    assert {check.column for check in report.failures} == {"distance", "carrier"}
    warned = validate_snapshot(
        current, {"drift": {"severity": "warning", "thresholds": {"distance": 9.0}}}, snapshot.statistics
    )
    assert warned.ok
    assert {check.column for check in warned.warnings} == {"carrier"}


def test_drift_of_columns_that_cannot_be_compared(snapshot: Snapshot, tmp_path: Path):
    other = write_snapshot(tmp_path / "other", {"distance": ["far"], "carrier": ["UA"], "new": [1]})
    report = validate_snapshot(
        other, {"drift": {"columns": ["distance", "new", "late", "gone"]}}, snapshot.statistics
    )
    assert [(check.column, check.observed) for check in report.failures] == [
        ("distance", "string"), ("new", "none in the reference"),
        ("late", "none in the snapshot"), ("gone", "none in the snapshot"),
    ]  # fmt: skip
    with pytest.raises(SchemaError, match="column 'distance' must be of the reference's kind"):
        population_stability(other, snapshot.statistics, ["distance"])


def test_unknown_expectations_are_refused():
    for bad in ({"column": {}}, {"columns": {"x": {"min": 0}}}, {"drift": {"limit": 1}}):
        with pytest.raises(SpecificationError, match="expectations must have the documented fields"):
            Expectations.from_json(bad)
