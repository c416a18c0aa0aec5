"""From a column as it comes to a column as the model takes it; what cannot be read is told row by row.

A column whose type can never be what the model wants (text where it wants text is fine; a list is not) is an
error of the whole data. Text is read as numbers where the model wants numbers, value by value; blank text is
missing. A number must be whole where training saw integers, and within the range of its type, as in a request
to the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mxpipe.data import _arrow
from mxpipe.errors import SchemaError
from mxpipe.serve.columns import ColumnRule

if TYPE_CHECKING:
    import pyarrow

MISSING = "missing"
NOT_FINITE = "prediction not finite"
OUT_OF_RANGE = "out of range"
_NOT = {"float": "not a number", "int": "not an integer", "bool": "not a boolean"}
_INTEGER = re.compile(r"[+-]?\d{1,40}(\.0*)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?|nan", re.IGNORECASE)
_INT64 = np.iinfo(np.int64)

Mask = npt.NDArray[np.bool_]


class Problem(NamedTuple):
    """Rows of a column that cannot be read.

    Attributes:
        rows: Where, shape (n,).
        reason: Why, in a few words that can be counted.
    """

    rows: Mask
    reason: str


def check_type(data_type: pyarrow.DataType, rule: ColumnRule) -> None:
    """Refuse a column that can never be read, whatever its values are.

    Raises:
        SchemaError: Its type is of another kind; the error names it.
    """
    types = _arrow.pyarrow_module().types
    if types.is_dictionary(data_type):
        data_type = data_type.value_type
    number = types.is_integer(data_type) or types.is_floating(data_type) or types.is_decimal(data_type)
    fits = {
        "string": _is_text(data_type),
        "bool": types.is_boolean(data_type) or _is_text(data_type),
        "int": number or _is_text(data_type),
        "float": number or _is_text(data_type),
    }
    if not fits[rule.kind] and not types.is_null(data_type):
        raise SchemaError(
            f"[batch] column {rule.name!r} must hold {rule.dtype}, or text that can be read as such; "
            f"got {data_type}."
        )


def read_column(column: pyarrow.Array, rule: ColumnRule) -> tuple[pyarrow.Array, list[Problem]]:
    """Read a column of a type that ``check_type`` lets through.

    Args:
        column: Shape (n,).
        rule: What the model wants.

    Returns:
        The column for ``Model.predict``, null where a value is missing or cannot be read, and what could not.

    Example:
        >>> import pyarrow as pa
        >>> column, problems = read_column(pa.array(["733", "far", " "]), ColumnRule("distance", "float64"))
        >>> column.to_pylist(), [(problem.rows.tolist(), problem.reason) for problem in problems]
        ([733.0, None, None], [([False, True, False], 'not a number')])
    """
    arrow, types = _arrow.pyarrow_module(), _arrow.pyarrow_module().types
    wanted = _arrow.type_from_name(rule.dtype)
    if types.is_dictionary(column.type) and rule.kind != "string":
        column = column.cast(column.type.value_type)
    if types.is_null(column.type):
        return arrow.nulls(len(column), wanted), []
    if rule.kind == "string":
        return column, []
    if _is_text(column.type):
        column, problems = _read_text(column, rule)
    else:
        problems = []
    if types.is_decimal(column.type):
        column = column.cast(arrow.float64())
    if rule.kind == "int" and not column.type.equals(wanted):
        column, more = _read_integers(column, rule, wanted)
        problems += more
    if rule.kind == "float" and column.type.equals(arrow.float64()):
        column, more = _within_float32(column)
        problems += more
    return column, problems


def missing(column: pyarrow.Array) -> Mask:
    """Where a column has no value: null, or NaN. Shape (n,)."""
    functions = _arrow.compute()
    rows: Mask = functions.is_null(column, nan_is_null=True).to_numpy(zero_copy_only=False)
    return rows


def _is_text(data_type: pyarrow.DataType) -> bool:
    types = _arrow.pyarrow_module().types
    return bool(
        types.is_string(data_type) or types.is_large_string(data_type) or str(data_type) == "string_view"
    )


def _read_text(column: pyarrow.Array, rule: ColumnRule) -> tuple[pyarrow.Array, list[Problem]]:
    """Each distinct text is read once."""
    arrow, functions = _arrow.pyarrow_module(), _arrow.compute()
    encoded = column.cast(arrow.string()).dictionary_encode()
    parse: Callable[[str], Any] = {"float": _number, "int": _integer, "bool": _boolean}[rule.kind]
    values, reasons = [], []
    for text in encoded.dictionary.to_pylist():
        value = parse(text.strip()) if text.strip() else None
        reason = value if isinstance(value, str) else None
        values.append(None if reason else value)
        reasons.append(reason)
    kinds = {"float": arrow.float64(), "int": arrow.int64(), "bool": arrow.bool_()}
    column = arrow.array(values, kinds[rule.kind]).take(encoded.indices)
    codes = functions.fill_null(encoded.indices, len(reasons)).to_numpy(zero_copy_only=False)
    problems = []
    for reason in sorted({reason for reason in reasons if reason}):
        of_reason = np.array([*(given == reason for given in reasons), False], dtype=np.bool_)
        problems.append(Problem(of_reason[codes], reason))
    return column, problems


def _number(text: str) -> float | str:
    return float(text) if _NUMBER.fullmatch(text) else _NOT["float"]


def _integer(text: str) -> int | str:
    if not _INTEGER.fullmatch(text):
        return _NOT["int"]
    value = int(text.partition(".")[0])
    return value if _INT64.min <= value <= _INT64.max else OUT_OF_RANGE


def _boolean(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text.lower(), _NOT["bool"])


def _read_integers(
    column: pyarrow.Array, rule: ColumnRule, wanted: pyarrow.DataType
) -> tuple[pyarrow.Array, list[Problem]]:
    """Numbers that must be whole and within the range of the training's type."""
    arrow, functions = _arrow.pyarrow_module(), _arrow.compute()
    problems = []
    present = ~missing(column)
    values = functions.fill_null(column, 0).to_numpy(zero_copy_only=False)
    if arrow.types.is_floating(column.type):
        whole = ~present | (np.isfinite(values) & (values == np.trunc(values)))
        if not whole.all():
            problems.append(Problem(~whole, _NOT["int"]))
            present &= whole
    information = np.iinfo(rule.dtype)
    if values.dtype.kind == "f":  # the greatest int64 has no float64 of its own, the number behind it has
        within = (values >= float(information.min)) & (values < float(information.max) + 1.0)
    else:
        within = (values >= information.min) & (values <= information.max)
    outside = present & ~within
    if outside.any():
        problems.append(Problem(outside, OUT_OF_RANGE))
        present &= within
    safe = np.where(present, values, 0).astype(rule.dtype)
    return arrow.array(safe, wanted, mask=~present), problems


def _within_float32(column: pyarrow.Array) -> tuple[pyarrow.Array, list[Problem]]:
    """The engine computes in float32: a larger number could only become infinite there."""
    functions = _arrow.compute()
    values = functions.fill_null(column, 0.0).to_numpy(zero_copy_only=False)
    outside = np.isfinite(values) & (np.abs(values) > np.finfo(np.float32).max)
    if not outside.any():
        return column, []
    arrow = _arrow.pyarrow_module()
    within = functions.if_else(arrow.array(outside), arrow.scalar(None, column.type), column)
    return within, [Problem(outside, OUT_OF_RANGE)]
