"""Columns as they come: what is read, what is missing, what is refused."""

from __future__ import annotations

import decimal
from typing import Any

import pyarrow as pa
import pytest

from mxpipe.batch.values import check_type, missing, read_column
from mxpipe.errors import SchemaError
from mxpipe.serve.columns import ColumnRule


@pytest.mark.parametrize(
    ("values", "dtype", "expected", "refused"),
    [
        (pa.array([1, None, 3]), "float64", [1, None, 3], {}),
        (pa.array([1.0, float("nan"), 7.5, float("inf")]), "int64", [1, None, None, None],
         {"not an integer": [2, 3]}),
        (pa.array([127, 128, -129, None]), "int8", [127, None, None, None], {"out of range": [1, 2]}),
        (pa.array([2**63 - 1, 2**63], pa.uint64()), "int64", [2**63 - 1, None], {"out of range": [1]}),
        (pa.array([2.0**63, -(2.0**63)]), "int64", [None, -(2**63)], {"out of range": [0]}),
        (pa.array(["7", " 8.0 ", "+9", "", "x", "1_0", None]), "int64", [7, 8, 9, None, None, None, None],
         {"not an integer": [4, 5]}),
        (pa.array(["1e3", ".5", "5.", "-inf", "nan", "1e39", "0x1"]), "float64",
         [1000.0, 0.5, 5.0, float("-inf"), float("nan"), None, None],
         {"not a number": [6], "out of range": [5]}),
        (pa.array(["true", "FALSE", "yes", None]), "bool", [True, False, None, None], {"not a boolean": [2]}),
        (pa.array([decimal.Decimal("1.50"), None]), "float64", [1.5, None], {}),
        (pa.array(["a", "7"]).dictionary_encode(), "int32", [None, 7], {"not an integer": [0]}),
        (pa.nulls(2), "string", [None, None], {}),
    ],
)  # fmt: skip
def test_values_are_read_one_by_one(values: Any, dtype: str, expected: Any, refused: Any):
    rule = ColumnRule("x", dtype)
    check_type(values.type, rule)
    column, problems = read_column(values, rule)
    assert [str(value) for value in column.to_pylist()] == [str(value) for value in expected]
    found: dict[str, list[int]] = {}
    for problem in problems:
        found.setdefault(problem.reason, []).extend(problem.rows.nonzero()[0].tolist())
    assert found == refused


@pytest.mark.parametrize(
    ("data_type", "dtype"),
    [
        (pa.int64(), "string"),
        (pa.bool_(), "float64"),
        (pa.float64(), "bool"),
        (pa.timestamp("us"), "int64"),
        (pa.list_(pa.float64()), "float64"),
    ],
)
def test_types_that_can_never_be_read_are_refused(data_type: Any, dtype: str):
    with pytest.raises(SchemaError, match=f"column 'x' must hold {dtype}"):
        check_type(data_type, ColumnRule("x", dtype))


def test_nan_and_null_are_missing():
    assert missing(pa.array([1.0, None, float("nan")])).tolist() == [False, True, True]
    assert missing(pa.array(["", None])).tolist() == [False, True]
