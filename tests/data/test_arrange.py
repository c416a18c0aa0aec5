"""One arrangement of rows: in whatever order they arrive, the snapshot is the same."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mxpipe.data import write_snapshot
from mxpipe.data.arrange import bucket_of, sorted_rows
from mxpipe.errors import SchemaError

# SELECT pmod(hash(...), 1000) of Spark 4.
HASHES = {"id": [805, 669, 728], "name": [372, 765, 382], "all": [491, 194, 720]}


def rows() -> pa.Table:
    random = np.random.default_rng(0)
    number = random.normal(size=500)
    number[::50] = np.nan
    return pa.table(
        {
            "place": [None if row % 13 == 0 else f"Zürich {row % 70}" for row in range(500)],
            "number": pa.array(number, mask=random.random(500) < 0.1),
            "flag": random.random(500) < 0.5,
            "row": range(500),
        }
    )


def test_the_digest_depends_on_the_rows_alone(tmp_path: Path):
    table = rows()
    shuffled = table.take(np.random.default_rng(1).permutation(500)).to_batches(max_chunksize=33)
    written = [
        write_snapshot(tmp_path / name, data, sort_by=["place", "number"], rows_per_shard=60)
        for name, data in (("a", table), ("b", shuffled))
    ]
    assert written[0].digest == written[1].digest
    assert sorted(written[0].to_table()["row"].to_pylist()) == list(range(500))
    assert {path.suffix for path in (tmp_path / "a").iterdir()} == {".arrow", ".json"}


def test_rows_are_sorted_by_the_columns_then_by_all_others():
    table = pa.table({"b": ["z", "a", "y", "x", "b"], "a": [2.0, None, math.nan, -math.inf, 2.0]})
    assert sorted_rows(table, ["a"])["b"].to_pylist() == ["a", "x", "b", "z", "y"]


def test_the_hash_is_sparks():
    table = pa.table({"id": [0, 1, 2], "name": ["", "Spark", "Zürich"], "x": [0.0, -0.0, None]})
    assert bucket_of(table, ["id"], 1000).tolist() == HASHES["id"]
    assert bucket_of(table, ["name"], 1000).tolist() == HASHES["name"]
    assert bucket_of(table, ["name", "x", "id"], 1000).tolist() == HASHES["all"]


def test_a_column_to_sort_by_must_be_there(tmp_path: Path):
    with pytest.raises(SchemaError, match="column 'week' must be there to sort by; got place"):
        write_snapshot(tmp_path / "rows", rows(), sort_by=["week"])
    assert list(tmp_path.iterdir()) == []
