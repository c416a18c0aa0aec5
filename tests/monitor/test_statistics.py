"""Statistics of predictions: the same from any form of the columns, and from any way to part the rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mxpipe.errors import DataError
from mxpipe.monitor import PredictionStatistics

COLUMNS = {"distance": "float64", "hour": "int64", "carrier": "string", "night": "bool"}


def rows(count: int, seed: int = 0) -> dict[str, list[Any]]:
    random = np.random.default_rng(seed)
    columns = {
        "distance": random.normal(size=count).tolist(),
        "hour": random.integers(0, 24, count).tolist(),
        "carrier": random.choice(["A", "B", "C"], count).tolist(),
        "night": (random.random(count) < 0.3).tolist(),
    }
    for values in columns.values():
        for row in np.flatnonzero(random.random(count) < 0.1):
            values[row] = None
    return columns


def of(columns: Any, predictions: np.ndarray[Any, Any]) -> PredictionStatistics:
    statistics = PredictionStatistics(COLUMNS, ["late"])
    statistics.update(columns, predictions)
    return statistics


def figures(statistics: PredictionStatistics, name: str) -> dict[str, Any]:
    column = statistics.inputs[name].to_json()
    # A null in a column of floats may come as NaN: what counts is that it is missing.
    column["missing"] = column.pop("nulls", 0) + column.pop("nonfinite", 0)
    return column


def test_every_form_of_the_same_columns_gives_the_same_figures() -> None:
    given, predictions = rows(500), np.random.default_rng(1).random(500).astype(np.float32)
    arrow = pa.table(given)
    forms = {
        "lists": given,
        "arrow": arrow,
        "dictionaries": arrow.set_column(2, "carrier", arrow["carrier"].dictionary_encode()),
        "pandas": pd.DataFrame(given),
        "arrays": given | {name: np.array(given[name], dtype=float) for name in ("distance", "hour")},
    }
    expected = of(given, predictions)
    assert expected.inputs["carrier"].distinct == 3
    assert expected.inputs["hour"].nulls == sum(value is None for value in given["hour"])
    for form, columns in forms.items():
        statistics = of(columns, predictions)
        assert statistics.predictions == expected.predictions
        for name in COLUMNS:
            assert figures(statistics, name) == figures(expected, name), (form, name)


def test_parts_that_travel_as_json_merge_to_the_whole() -> None:
    given, predictions = rows(900), np.random.default_rng(1).random(900).astype(np.float32)
    merged = PredictionStatistics(COLUMNS, ["late"])
    for start in range(0, 900, 300):
        part = of(
            {name: values[start : start + 300] for name, values in given.items()},
            predictions[start : start + 300],
        )
        part.failed, part.dropped = 2, 1
        merged.merge(PredictionStatistics.from_json(json.loads(json.dumps(part.to_json()))))
    whole = of(given, predictions)
    assert (merged.rows, merged.failed, merged.dropped) == (900, 6, 3)
    assert merged.inputs["carrier"].categories == whole.inputs["carrier"].categories
    assert merged.inputs["distance"].quantiles == whole.inputs["distance"].quantiles
    assert merged.predictions["late"].quantiles == whole.predictions["late"].quantiles
    assert merged.predictions["late"].mean == pytest.approx(whole.predictions["late"].mean, rel=1e-12)


def test_many_rows_stay_small_and_near_the_truth() -> None:
    random = np.random.default_rng(0)
    statistics = PredictionStatistics({"x": "float64", "id": "string"}, ["y"])
    values = random.normal(size=200_000)
    for start in range(0, values.size, 20_000):
        part = values[start : start + 20_000]
        statistics.update({"x": part, "id": [f"{start}-{row}" for row in range(part.size)]}, part)
    assert len(json.dumps(statistics.to_json())) < 600_000
    ordered = np.sort(values)
    for probability, value in statistics.inputs["x"].quantiles:
        assert abs(np.searchsorted(ordered, value) / values.size - probability) < 0.01
    identifiers = statistics.inputs["id"]
    assert sum(count for _, count in identifiers.categories or ()) + identifiers.other == 200_000


def test_optional_columns_left_out_are_missing_and_further_ones_ignored() -> None:
    statistics = of({"carrier": ["A", "B"], "unknown": [1, 2]}, np.float32([0.1, 0.2]))
    assert statistics.inputs["distance"].null_fraction == 1.0
    assert statistics.inputs["carrier"].null_fraction == 0.0
    assert "unknown" not in statistics.inputs


def test_what_does_not_fit_is_refused() -> None:
    statistics = of(rows(3), np.float32([0.1, 0.2, 0.3]))
    with pytest.raises(DataError, match="1 columns; got 2"):
        statistics.update(rows(2), np.zeros((2, 2), np.float32))
    images = PredictionStatistics({}, ["map"])
    images.update({}, np.ones((3, 4, 4), np.float32))
    assert (images.rows, images.predictions["map"].rows) == (3, 48)
    with pytest.raises(DataError, match="got another"):
        statistics.merge(PredictionStatistics({"another": "float64"}, ["late"]))
    with pytest.raises(DataError, match="'version' must be 1; got 2"):
        PredictionStatistics.from_json(statistics.to_json() | {"version": 2})
    with pytest.raises(DataError, match="all fields"):
        PredictionStatistics.from_json({"version": 1})
