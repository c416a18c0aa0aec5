"""Preprocessing: fitted from statistics, the same bits from every kind of column, errors by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mxpipe.data import FeatureSpec, Preprocessor, Snapshot, write_snapshot
from mxpipe.errors import DataError, SchemaError, SpecificationError

FEATURES = FeatureSpec(
    numeric=["distance", "hour"], categorical=["carrier", "month", "weekend"], label="late"
)


def rows(count: int = 500) -> pa.Table:
    random = np.random.default_rng(4)
    carriers = random.choice(["UA", "DL", "AA", "B6"], count, p=[0.5, 0.3, 0.15, 0.05])
    return pa.table(
        {
            "distance": pa.array(random.gamma(2.0, 500.0, count), mask=random.random(count) < 0.1),
            "hour": random.integers(5, 24, count).astype(np.int32),
            "carrier": pa.array(carriers, mask=random.random(count) < 0.05),
            "month": random.integers(1, 13, count),
            "weekend": random.random(count) < 0.3,
            "late": random.random(count) < 0.2,
        }
    )


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return write_snapshot(tmp_path_factory.mktemp("preprocess") / "rows", rows())


def test_fit_takes_everything_from_the_statistics(snapshot: Snapshot):
    preprocessor = Preprocessor.fit(snapshot, FEATURES, fill="median", indicators=True)
    frame = rows().to_pandas()
    distance, hour = preprocessor.numeric
    assert distance.mean == pytest.approx(frame["distance"].mean())
    assert distance.std == pytest.approx(frame["distance"].std(ddof=0))
    assert distance.fill == pytest.approx(frame["distance"].median(), rel=0.01)
    assert (distance.indicator, hour.indicator) == (True, False)
    assert preprocessor.numeric_names == ("distance", "hour", "distance_is_null")
    assert preprocessor.numeric_width == 3
    assert preprocessor.categorical[0].vocabulary == ("UA", "DL", "AA", "B6")
    assert preprocessor.cardinalities == [5, 13, 3]
    assert preprocessor.column_types == {
        "distance": "float64", "hour": "int32", "carrier": "string", "month": "int64", "weekend": "bool",
    }  # fmt: skip


def test_a_group_of_columns_shares_its_mean_and_deviation(tmp_path: Path):
    random = np.random.default_rng(5)
    pixels = {f"p{index}": random.integers(0, 2 + 4 * index, 300).astype(np.int16) for index in range(4)}
    pixels["p0"][:] = 0  # a margin that is always empty
    holes = pa.array(random.normal(3.0, 1.0, 300), mask=random.random(300) < 0.2)
    snapshot = write_snapshot(
        tmp_path / "pixels", {**pixels, "alone": random.normal(size=300), "holes": holes}
    )
    features = FeatureSpec(numeric=[*pixels, "alone", "holes"])
    fitted = Preprocessor.fit(snapshot, features, shared=[list(pixels)[:3], ["p3", "holes"]]).numeric
    together = np.concatenate([pixels[name] for name in list(pixels)[:3]]).astype(np.float64)
    assert [column.mean for column in fitted[:3]] == [pytest.approx(together.mean())] * 3
    assert [column.std for column in fitted[:3]] == [pytest.approx(together.std())] * 3
    uneven = np.concatenate([pixels["p3"], holes.drop_null().to_numpy()])
    assert (fitted[3].mean, fitted[5].std) == (pytest.approx(uneven.mean()), pytest.approx(uneven.std()))
    assert fitted[4] == Preprocessor.fit(snapshot, features).numeric[4]
    for wrong in ([["p0", "p1"], ["p1"]], [["late"]], ["p0"]):
        with pytest.raises(SpecificationError, match="groups of numeric columns, each column once; got"):
            Preprocessor.fit(snapshot, features, shared=wrong)


def test_vocabulary_limits(snapshot: Snapshot):
    carrier = Preprocessor.fit(snapshot, FEATURES, max_categories=2).categorical[0]
    assert carrier.vocabulary == ("UA", "DL")
    counts = pd.Series(rows()["carrier"].to_pylist()).value_counts()
    rare = Preprocessor.fit(snapshot, FEATURES, min_count=int(counts["AA"])).categorical[0]
    assert rare.vocabulary == ("UA", "DL", "AA")


def test_transform_against_numpy(snapshot: Snapshot):
    preprocessor = Preprocessor.fit(snapshot, FEATURES, indicators=True)
    frame = rows().to_pandas()
    out = preprocessor.transform(rows())
    assert out["numeric"].dtype == np.float32
    assert out["categorical"].dtype == np.int32
    distance = preprocessor.numeric[0]
    filled = frame["distance"].fillna(distance.fill).to_numpy()
    expected = ((filled - distance.mean) * (1.0 / distance.std)).astype(np.float32)
    assert np.array_equal(out["numeric"][:, 0], expected)
    assert np.array_equal(out["numeric"][:, 2], frame["distance"].isna().to_numpy(np.float32))
    positions = {value: index + 1 for index, value in enumerate(preprocessor.categorical[0].vocabulary)}
    assert out["categorical"][:, 0].tolist() == [positions.get(value, 0) for value in frame["carrier"]]
    kept = out["numeric"][out["numeric"][:, 2] == 0, 0]
    assert abs(kept.mean()) < 1e-6
    assert kept.std() == pytest.approx(1.0, abs=1e-5)


def test_every_kind_of_column_gives_the_same_bits(snapshot: Snapshot):
    preprocessor = Preprocessor.from_json(
        json.loads(json.dumps(Preprocessor.fit(snapshot, FEATURES, indicators=True).to_json()))
    )
    assert preprocessor == Preprocessor.fit(snapshot, FEATURES, indicators=True)
    table = rows()
    frame = table.to_pandas()
    expected = preprocessor.transform(table)
    layouts: dict[str, Any] = {
        "chunked": pa.concat_tables([table.slice(0, 100), table.slice(100)]),
        "differently chunked": {
            name: pa.chunked_array([table[name].combine_chunks()[:cut], table[name].combine_chunks()[cut:]])
            for cut, name in enumerate(table.column_names, start=7)
        },
        "record batch": {name: table.to_batches()[0][name] for name in table.column_names},
        "dictionary": table.set_column(2, "carrier", table["carrier"].dictionary_encode()),
        "pandas": frame,
        "pandas categorical": frame.assign(carrier=frame["carrier"].astype("category")),
        "pandas float month": frame.assign(month=frame["month"].astype(float)),
        "lists": table.to_pydict(),
        "tuples": {name: tuple(values) for name, values in table.to_pydict().items()},
        "numpy": {name: frame[name].to_numpy() for name in frame},
        "object arrays": {name: np.array(values, object) for name, values in table.to_pydict().items()},
        "strided numpy": {name: np.repeat(frame[name].to_numpy(), 2)[::2] for name in frame},
    }
    for name, layout in layouts.items():
        out = preprocessor.transform(layout)
        for part, values in expected.items():
            assert np.array_equal(out[part], values), name


def test_unknown_null_and_single_rows(snapshot: Snapshot):
    preprocessor = Preprocessor.fit(snapshot, FEATURES)
    columns = {
        "distance": [None, float("nan"), float("inf"), 100],
        "hour": [8, 9, None, 10],
        "carrier": ["never seen", None, float("nan"), "UA"],
        "month": [99, None, 2.5, 1],
        "weekend": [True, False, None, 1],
        "ignored": [object()] * 4,
    }
    out = preprocessor.transform(columns)
    assert out["numeric"][:3, 0].tolist() == [0.0, 0.0, 0.0]  # filled with the mean
    assert out["categorical"][:3].tolist()[0][:2] == [0, 0]
    assert out["categorical"][1:3, :2].tolist() == [[0, 0], [0, 0]]
    assert out["categorical"][3, 0] == 1
    assert out["categorical"][2, 2] == 0
    empty = preprocessor.transform({name: [] for name in FEATURES.columns})
    assert empty["numeric"].shape == (0, 2)
    assert empty["categorical"].shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"hour": None}, SchemaError, "column 'hour' must be given; got distance, carrier"),
        ({"hour": ["8"]}, SchemaError, "column 'hour' must hold numbers; got '8'"),
        ({"hour": [[8]]}, SchemaError, r"column 'hour' must hold numbers; got \[8\]"),
        ({"hour": np.array(["8"])}, SchemaError, "column 'hour' must hold numbers; got '8'"),
        ({"hour": pa.array(["8"])}, SchemaError, "column 'hour' must be numeric; got strings"),
        ({"hour": np.array([[8]])}, SchemaError, "column 'hour' must be one-dimensional; got 2 dimensions"),
        ({"hour": 8}, SchemaError, "column 'hour' must hold a value per row; got 8"),
        ({"hour": [2**70]}, SchemaError, "column 'hour' must hold numbers of at most 64 bits"),
        ({"carrier": [5]}, SchemaError, "column 'carrier' must hold strings; got 5"),
        ({"carrier": "UA"}, SchemaError, "column 'carrier' must hold a value per row; got 'UA'"),
        ({"carrier": np.array([5])}, SchemaError, "column 'carrier' must hold strings; got int64"),
        ({"month": ["May"]}, SchemaError, "column 'month' must hold numbers; got 'May'"),
        ({"month": pa.array(["May"])}, SchemaError, "column 'month' must hold integers; got strings"),
        ({"month": [1, 2]}, DataError, "columns must be equally long; got 1 rows in column 'distance' and 2"),
    ],
)
def test_bad_columns_are_named(
    snapshot: Snapshot, change: dict[str, Any], error: type[Exception], message: str
):
    columns: dict[str, Any] = {
        "distance": [1.0],
        "hour": [8],
        "carrier": ["UA"],
        "month": [1],
        "weekend": [True],
    }
    columns |= change
    columns = {name: values for name, values in columns.items() if values is not None}
    with pytest.raises(error, match=message):
        Preprocessor.fit(snapshot, FEATURES).transform(columns)


def test_bad_features_are_named(snapshot: Snapshot):
    with pytest.raises(SpecificationError, match="a column must have one role; got 'hour' twice"):
        FeatureSpec(numeric=["hour"], categorical=["hour"])
    for names in ("hour", [1]):
        with pytest.raises(SpecificationError, match="numeric must list names of columns"):
            FeatureSpec(numeric=names)  # type: ignore[arg-type]
    with pytest.raises(SpecificationError, match="must have numeric, categorical and label"):
        FeatureSpec.from_json({"numerical": []})
    with pytest.raises(SchemaError, match="column 'speed' must be in"):
        Preprocessor.fit(snapshot, FeatureSpec(numeric=["speed"]))
    with pytest.raises(SchemaError, match="column 'carrier' must be numeric to be normalised; got string"):
        Preprocessor.fit(snapshot, FeatureSpec(numeric=["carrier"]))
    with pytest.raises(SchemaError, match="column 'distance' must hold categories"):
        Preprocessor.fit(snapshot, FeatureSpec(categorical=["distance"]))
    with pytest.raises(SpecificationError, match="fill must be 'mean' or 'median'; got 'mode'"):
        Preprocessor.fit(snapshot, FEATURES, fill="mode")


def test_bad_json_is_named(snapshot: Snapshot):
    value = Preprocessor.fit(snapshot, FEATURES).to_json()
    with pytest.raises(DataError, match="field 'version' must be 1; got 2"):
        Preprocessor.from_json({**value, "version": 2})
    with pytest.raises(DataError, match="field 'version' must be 1; got 'list'"):
        Preprocessor.from_json([])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="must have all fields of a Preprocessor; got 'numeric'"):
        Preprocessor.from_json({name: part for name, part in value.items() if name != "numeric"})
    with pytest.raises(DataError, match="field 'numeric' must list the numeric features"):
        Preprocessor.from_json({**value, "numeric": value["numeric"][:1]})


@pytest.mark.parametrize(
    ("role", "field", "value", "message"),
    [
        ("numeric", "std", 0.0, "std and fill of 'distance' must be finite, std positive"),
        ("numeric", "mean", "high", "std and fill of 'distance' must be finite"),
        ("numeric", "fill", float("nan"), "std and fill of 'distance' must be finite"),
        ("categorical", "vocabulary", ["UA", 5], "vocabulary of 'carrier' must hold str only"),
        ("categorical", "vocabulary", None, "must have all fields"),
        ("categorical", "color", 1, "must have all fields"),
    ],
)
def test_forged_json_is_refused(snapshot: Snapshot, role: str, field: str, value: Any, message: str):
    forged = json.loads(json.dumps(Preprocessor.fit(snapshot, FEATURES).to_json()))
    forged[role][0][field] = value
    with pytest.raises(DataError, match=message):
        Preprocessor.from_json(forged)


def test_a_constant_column_stays_finite(tmp_path: Path):
    snapshot = write_snapshot(tmp_path / "rows", {"x": [3.0, 3.0], "y": pa.array([None, None], pa.float64())})
    preprocessor = Preprocessor.fit(snapshot, FeatureSpec(numeric=["x", "y"]))
    assert preprocessor.transform({"x": [3.0, 4.0], "y": [None, 1.0]})["numeric"].tolist() == [[0, 0], [1, 1]]
