"""Statistics against NumPy and pandas; merging; the sketch's error; the same bytes from any worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxpipe.data import Statistics, StatisticsAccumulator, write_snapshot
from mxpipe.data import statistics as statistics_module
from mxpipe.data.sketch import QuantileSketch
from mxpipe.data.statistics import QUANTILES, ordered_sum
from mxpipe.errors import SchemaError, SnapshotCorruptError


def statistics_of(*tables: pa.Table) -> Statistics:
    """Through one accumulator a table, sent as JSON and merged, as workers and driver do it."""
    schema = [{"name": field.name, "type": _type(field.type)} for field in tables[0].schema]
    merged = None
    for table in tables:
        part = StatisticsAccumulator(schema)
        part.update(table)
        received = StatisticsAccumulator.from_json(json.loads(json.dumps(part.to_json())))
        if merged is None:
            merged = received
        else:
            merged.merge(received)
    assert merged is not None
    return merged.finish()


def _type(data_type: pa.DataType) -> str:
    return {"double": "float64", "float": "float32"}.get(str(data_type), str(data_type))


@pytest.mark.parametrize("name", ["float32", "float64", "int16", "int64", "uint64"])
def test_numbers_against_numpy(name: str):
    random = np.random.default_rng(1)
    values = (random.normal(50, 20, 10_001)).astype(name)
    mask = random.random(10_001) < 0.1
    table = pa.table({"x": pa.array(values, mask=mask)})
    column = statistics_of(table.slice(0, 4000), table.slice(4000, 1), table.slice(4001))["x"]
    kept = values[~mask].astype(np.float64)
    assert (column.rows, column.nulls) == (10_001, int(mask.sum()))
    assert (column.minimum, column.maximum) == (kept.min(), kept.max())
    assert column.mean == pytest.approx(kept.mean(), rel=1e-13)
    assert column.std == pytest.approx(kept.std(), rel=1e-12)
    assert sum(column.counts) == kept.size
    for probability, value in column.quantiles:
        rank = np.searchsorted(np.sort(kept), value) / kept.size
        share = (kept == value).mean()
        assert rank - 0.002 <= probability <= rank + share + 0.002


def test_large_integers_are_exact_and_offsets_do_not_cancel():
    values = 2**62 + np.arange(10)
    column = statistics_of(pa.table({"x": values}))["x"]
    assert (column.minimum, column.maximum) == (2**62, 2**62 + 9)
    shifted = 1e9 + np.random.default_rng(0).normal(size=100_000)
    column = statistics_of(pa.table({"x": shifted[:100]}), pa.table({"x": shifted[100:]}))["x"]
    assert column.std == pytest.approx(shifted.std(), rel=1e-9)


def test_values_that_are_not_finite_are_counted_apart():
    column = statistics_of(pa.table({"x": pa.array([1.0, np.nan, np.inf, -np.inf, None, 3.0])}))["x"]
    assert (column.rows, column.nulls, column.nonfinite) == (6, 1, 3)
    assert (column.mean, column.std, column.minimum, column.maximum) == (2.0, 1.0, 1.0, 3.0)
    assert column.null_fraction == pytest.approx(4 / 6)


def test_columns_without_values():
    column = statistics_of(pa.table({"x": pa.nulls(3, pa.float64()), "c": pa.nulls(3, pa.string())}))
    assert column["x"].mean is None
    assert column["x"].quantiles == ()
    assert column["c"].categories == ()


def test_categories_against_pandas():
    random = np.random.default_rng(2)
    strings = random.choice(["UA", "DL", "AA", None], 5000, p=[0.5, 0.3, 0.1, 0.1])
    months = random.integers(1, 13, 5000)
    table = pa.table({"c": pa.array(strings, pa.string()), "m": months, "b": months > 6})
    parts = [table.slice(start, 999) for start in range(0, 5000, 999)]
    parts[1] = parts[1].set_column(0, "c", parts[1]["c"].dictionary_encode())
    statistics = statistics_of(*parts)
    for name in ("c", "m", "b"):
        expected = pd.Series(table[name].to_pylist()).value_counts().to_dict()
        assert dict(statistics[name].categories or ()) == expected
        counts = [count for _, count in statistics[name].categories or ()]
        assert counts == sorted(counts, reverse=True)
    assert statistics["c"].distinct == 3
    assert all(isinstance(value, int) for value, _ in statistics["b"].categories or ())


def test_too_many_categories(monkeypatch: pytest.MonkeyPatch):
    many = statistics_of(pa.table({"x": np.arange(5000)}))["x"]
    assert many.categories is None
    monkeypatch.setattr(statistics_module, "MAX_STRING_CATEGORIES", 3)
    table = pa.table({"c": ["a", "a", "b", "b", "c", "c", "d", "e"]})
    column = statistics_of(table)["c"]
    assert column.categories == (("a", 2), ("b", 2), ("c", 2))
    assert column.other == 2


def test_json_round_trip(tmp_path: Path):
    table = pa.table({"x": [1.5, None, 2.5], "c": ["a", "b", "a"], "n": [1, 2, 3]})
    statistics = write_snapshot(tmp_path / "rows", table).statistics
    again = Statistics.from_json(json.loads(json.dumps(statistics.to_json())))
    assert again == statistics
    with pytest.raises(SchemaError, match="column 'z' must be in the snapshot; it has x, c, n"):
        statistics["z"]
    for bad in ({"x": {}}, {"x": {"type": "int8", "color": 1}}, {"x": {"type": "int8", "edges": 3}}):
        with pytest.raises(SnapshotCorruptError, match="a column's entry must hold"):
            Statistics.from_json(bad)


@given(values=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=300))
@settings(max_examples=100, deadline=None)
def test_a_small_sketch_is_exact(values: list[float]):
    sketch = QuantileSketch()
    sketch.update(np.array(values))
    wanted = np.quantile(values, QUANTILES, method="inverted_cdf")
    assert np.array_equal(sketch.quantiles(QUANTILES), wanted)


@pytest.mark.parametrize("order", ["random", "ascending", "descending"])
def test_a_large_sketch_stays_within_its_error(order: str):
    count = 1_000_000
    values = np.arange(count, dtype=np.float64)
    if order == "random":
        np.random.default_rng(3).shuffle(values)
    if order == "descending":
        values = values[::-1]
    parts = [QuantileSketch() for _ in range(5)]
    for part, piece in zip(parts, np.array_split(values, 5), strict=True):
        for batch in np.array_split(piece, 37):
            part.update(batch)
    merged = parts[0]
    for part in parts[1:]:
        merged.merge(QuantileSketch.from_json(json.loads(json.dumps(part.to_json()))))
    for probability, value in zip(QUANTILES, merged.quantiles(QUANTILES), strict=True):
        assert abs(value / count - probability) < 0.002
    edges, counts = merged.histogram(20)
    assert sum(counts) == count
    assert len(counts) == len(edges) + 1
    assert len(json.dumps(merged.to_json())) < 300_000


@given(data=st.lists(st.floats(-1e6, 1e6), max_size=2000))
@settings(max_examples=50, deadline=None)
def test_ordered_sum(data: list[float]):
    values: Any = np.array(data, dtype=np.float64)
    assert ordered_sum(values) == pytest.approx(float(np.sum(values)), rel=1e-12, abs=1e-6)
