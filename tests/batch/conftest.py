"""Rows for the small trained models, good ones and poisoned ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

ROWS = 1000


def make_rows(rows: int = ROWS) -> pa.Table:
    """Flights with a key, nulls among them, and a category that training never saw."""
    random = np.random.default_rng(5)
    carriers = ["UA", "DL", "AA", None, "never seen"]
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "note": [f"row {row}" for row in range(rows)],
            "distance": pa.array(random.gamma(2.0, 500.0, rows), mask=random.random(rows) < 0.05),
            "hour": random.integers(5, 24, rows),
            "carrier": [carriers[code] for code in random.integers(0, 5, rows)],
        }
    )


def poison(table: pa.Table, cells: dict[str, dict[int, Any]]) -> pa.Table:
    """The rows as text, with some cells replaced."""
    columns = {}
    for name in table.column_names:
        values = table.column(name).to_pylist()
        if name in cells:
            values = [None if value is None else str(value) for value in values]
            for row, value in cells[name].items():
                values[row] = value
        columns[name] = values
    return pa.table(columns)


@pytest.fixture(scope="session")
def flights() -> pa.Table:
    """1000 rows."""
    return make_rows()
