"""The model's raw columns as rules for a request.

What enters: the signature of a model, and lists of JSON values. What leaves: checked columns that
``Model.predict`` takes. A refusal is a :class:`~mxpipe.errors.RequestError` that names column and row.

A missing value is ``null``, or NaN, which pandas and MLflow write for it in columns of any type: the model's
preprocessing fills it. A category that training never saw is no error: it takes the model's out-of-vocabulary
path (id 0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mxpipe.errors import RequestError, ServingError

if TYPE_CHECKING:
    from mxpipe.model import Model

DATATYPES: Mapping[str, str] = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
"""Open Inference Protocol datatype of each column dtype."""

# The engine computes in float32, so that a larger number could only become infinite there.
_LARGEST = float(np.finfo(np.float32).max)

ColumnValues = np.ndarray[Any, Any] | list[Any]


@dataclass(frozen=True)
class ColumnRule:
    """One raw column of a model: what a request may hold for it.

    Attributes:
        name: Column name, as in the training data.
        dtype: NumPy name of its type, or ``"string"``.
        required: Whether a request must carry it; a column left out counts as missing in every row.
    """

    name: str
    dtype: str
    required: bool = True

    @property
    def datatype(self) -> str:
        """Its Open Inference Protocol datatype."""
        return DATATYPES[self.dtype]

    @property
    def kind(self) -> Literal["string", "bool", "int", "float"]:
        """What its values are, whatever their width."""
        if self.dtype == "string":
            return "string"
        if self.dtype == "bool":
            return "bool"
        return "int" if "int" in self.dtype else "float"

    def accepts(self, datatype: str) -> bool:
        """Whether values of a V2 datatype fit this column without loss of meaning."""
        if self.kind == "int":
            return "INT" in datatype
        if self.kind == "float":
            return datatype not in ("BYTES", "BOOL")
        return datatype == self.datatype

    def check(self, values: Sequence[Any]) -> ColumnValues:
        """Check JSON values and give them as a column.

        Args:
            values: One JSON scalar a row; ``None`` is a missing value.

        Returns:
            An array of the column's dtype, shape (n,); a list, with ``None`` for what is missing, for strings
            and where integers or booleans are missing.

        Raises:
            RequestError: A value has another type, or is out of range; the text names the column and the row.

        Example:
            >>> ColumnRule("distance", "float64").check([733, None])
            array([733.,  nan])
            >>> ColumnRule("carrier", "string").check([7])
            Traceback (most recent call last):
            mxpipe.errors.RequestError: [column 'carrier'] row 0 must be a string or null; got 7.
        """
        if self.kind == "string":
            return self._strings(values)
        if self.kind == "float":
            return self._floats(values)
        return self._integers(values) if self.kind == "int" else self._booleans(values)

    def _refuse(self, row: int, what: str, value: object) -> RequestError:
        text = repr(value)
        shown = text if len(text) <= 60 else text[:57] + "..."
        return RequestError(f"[column {self.name!r}] row {row} must be {what}; got {shown}.")

    def _strings(self, values: Sequence[Any]) -> list[Any]:
        if set(map(type, values)) <= {str, type(None)}:
            return list(values)
        for row, value in enumerate(values):
            if not isinstance(value, str) and not _is_missing(value):
                raise self._refuse(row, "a string or null", value)
        return [None if _is_missing(value) else value for value in values]

    def _floats(self, values: Sequence[Any]) -> np.ndarray[Any, Any]:
        # `type` rather than `isinstance`: True is an int for Python, but a client that sends it is mistaken.
        if not set(map(type, values)) <= {int, float, type(None)}:
            row = next(i for i, value in enumerate(values) if type(value) not in (int, float, type(None)))
            raise self._refuse(row, "a number or null", values[row])
        try:
            column = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
        except OverflowError:
            column = np.array([math.inf])
        if np.any(np.abs(column) > _LARGEST):
            row = next(i for i, value in enumerate(values) if value is not None and abs(value) > _LARGEST)
            raise self._refuse(row, "a number that float32 can hold", values[row])
        return column.astype(self.dtype)

    def _integers(self, values: Sequence[Any]) -> ColumnValues:
        information = np.iinfo(self.dtype)
        column: list[int | None] = []
        for row, value in enumerate(values):
            if _is_missing(value):
                column.append(None)
                continue
            # JSON written by pandas turns integers into 7.0 as soon as one of them is missing.
            if type(value) is not int and not (type(value) is float and value.is_integer()):
                raise self._refuse(row, "an integer or null", value)
            if not information.min <= value <= information.max:
                raise self._refuse(row, f"within {self.dtype}", value)
            column.append(int(value))
        return self._array(column)

    def _booleans(self, values: Sequence[Any]) -> ColumnValues:
        for row, value in enumerate(values):
            if type(value) is not bool and not _is_missing(value):
                raise self._refuse(row, "true, false or null", value)
        return self._array([None if _is_missing(value) else value for value in values])

    def _array(self, values: Sequence[Any]) -> ColumnValues:
        return list(values) if None in values else np.array(values, dtype=self.dtype)


def _is_missing(value: object) -> bool:
    return value is None or (type(value) is float and math.isnan(value))


@dataclass(frozen=True)
class Signature:
    """The raw columns that a model takes and the columns that it gives.

    Attributes:
        columns: Rules in the model's order.
        outputs: A name for each column of the prediction.
    """

    columns: tuple[ColumnRule, ...]
    outputs: tuple[str, ...]

    @staticmethod
    def of(model: Model) -> Signature:
        """Read the rules off a loaded model.

        Raises:
            ServingError: A column has a type that requests cannot carry.
        """
        if model.tensors:
            raise ServingError(f"[model {model.path}] must take columns to be served; it takes arrays.")
        for column in model.signature:
            if column.dtype not in DATATYPES:
                raise ServingError(
                    f"[column {column.name!r}] must be of a type that requests can carry "
                    f"({', '.join(DATATYPES)}); got {column.dtype}."
                )
        rules = tuple(ColumnRule(column.name, column.dtype, column.required) for column in model.signature)
        return Signature(rules, tuple(model.output_names))

    def rule(self, name: str) -> ColumnRule | None:
        """The rule of one column, or None when the model has no such column."""
        return next((rule for rule in self.columns if rule.name == name), None)

    def check(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, ColumnValues]:
        """Check whole columns: present, of one length, of the right types.

        Columns that the model does not know are left out here; V2 refuses them before.

        Raises:
            RequestError: A required column is missing, lengths differ, there is no row, or a value does not
                fit.
        """
        missing = [rule.name for rule in self.columns if rule.required and rule.name not in columns]
        if missing:
            raise RequestError(f"[column {missing[0]!r}] must be present; missing: {', '.join(missing)}.")
        known = {rule.name: columns[rule.name] for rule in self.columns if rule.name in columns}
        lengths = {name: len(values) for name, values in known.items()}
        if not lengths or min(lengths.values()) == 0:
            raise RequestError("[rows] at least one row must be given; got none.")
        if len(set(lengths.values())) > 1:
            shortest = min(lengths, key=lambda name: lengths[name])
            raise RequestError(
                f"[column {shortest!r}] must be as long as the others ({max(lengths.values())} rows); "
                f"got {lengths[shortest]}."
            )
        return {rule.name: rule.check(known[rule.name]) for rule in self.columns if rule.name in known}


def require_finite(predictions: np.ndarray[Any, Any]) -> None:
    """Refuse predictions that JSON cannot carry.

    A model is only served after a finite warm-up, so that an infinite or NaN prediction comes from the
    request.

    Raises:
        RequestError: A row's prediction is not finite; the text names the row.
    """
    finite = np.isfinite(predictions)
    if not finite.all():
        row = int(np.argwhere(~finite)[0][0])
        raise RequestError(
            f"[row {row}] inputs must be within the model's range; its prediction is not finite."
        )
