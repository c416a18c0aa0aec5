"""Rows in, one row out for each: its predictions, or why there are none.

This is what all engines share of the work itself: columns are read, the model is applied, and rows that it
cannot take are told apart from the rest, with reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mxpipe.batch.values import MISSING, NOT_FINITE, check_type, missing, read_column
from mxpipe.data import _arrow
from mxpipe.errors import SchemaError, SpecificationError
from mxpipe.serve.columns import ColumnRule

if TYPE_CHECKING:
    import pyarrow

    from mxpipe.model import Model

ROWS_PER_BATCH = 1 << 14  # four of a session's largest plans
ERROR_COLUMNS = ("error_partition", "error_row", "error_column", "error_reason", "error_value")
_LONGEST_VALUE = 200


@dataclass(frozen=True)
class PredictionOptions:
    """What is predicted, and what goes with it. All of it decides the result's bytes.

    Attributes:
        keys: Columns that are carried through to the predictions, and to the rows that were refused.
        required: Columns of the model that must have a value. A row without is refused; in all other columns
            the model's preprocessing fills what is missing.
        output_names: Names of the columns of the predictions; the model's own by default.
        rows_per_batch: Rows that are predicted at a time.
        rows_per_shard: Rows that a worker holds in memory at a time; a larger partition becomes several
            shards.
    """

    keys: Sequence[str] = ()
    required: Sequence[str] = ()
    output_names: Sequence[str] | None = None
    rows_per_batch: int = ROWS_PER_BATCH
    rows_per_shard: int = 1 << 18

    def __post_init__(self) -> None:
        for name in ("keys", "required", "output_names"):
            names = getattr(self, name)
            if names is None:
                continue
            if isinstance(names, str) or not all(isinstance(item, str) for item in names):
                raise SpecificationError(f"[batch] {name} must list names of columns; got {names!r}.")
            if len(set(names)) != len(names):
                raise SpecificationError(f"[batch] {name} must name each column once; got {list(names)}.")
            object.__setattr__(self, name, tuple(names))
        for name in ("rows_per_batch", "rows_per_shard"):
            if getattr(self, name) < 1:
                raise SpecificationError(f"[batch] {name} must be at least 1; got {getattr(self, name)}.")

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PredictionOptions:
        """The options that ``to_json`` wrote."""
        return cls(**value)


class Refused(NamedTuple):
    """One row that has no prediction.

    Attributes:
        row: Its position in the batch.
        column: The column that is to blame; empty for a prediction that is not finite.
        reason: Why, in words that can be counted.
        value: What was there, as text.
    """

    row: int
    column: str
    reason: str
    value: str | None

    @property
    def message(self) -> str:
        """All of it in one line."""
        place = f"column {self.column!r}" if self.column else "row"
        shown = "" if self.value is None else f": {self.value!r}"
        return f"[{place}] {self.reason}{shown}"


class Scored(NamedTuple):
    """A batch after the model.

    Attributes:
        values: float32 (n, outputs); NaN in rows that were refused.
        refused: Rows without a prediction, in order.
        columns: The model's columns as they were read, null where a value could not be.
    """

    values: npt.NDArray[np.float32]
    refused: list[Refused]
    columns: dict[str, Any]


class Predictor:
    """A model and how it is applied to tables. May be used from several threads.

    Args:
        model: A loaded model.
        options: What is carried through and what is refused.

    Raises:
        SpecificationError: The model takes arrays, or names of keys, required columns and outputs do not go
            together.
    """

    def __init__(self, model: Model, options: PredictionOptions) -> None:
        if not model.signature:
            raise SpecificationError("[batch] the model must take columns; it takes arrays.")
        self.model, self.options = model, options
        self.rules = tuple(
            ColumnRule(column.name, column.dtype, column.required) for column in model.signature
        )
        self.outputs = tuple(options.output_names or model.output_names)
        known = [rule.name for rule in self.rules]
        if unknown := sorted(set(options.required) - set(known)):
            raise SpecificationError(
                f"[batch] required must name columns of the model ({', '.join(known)}); got {unknown}."
            )
        if len(self.outputs) != len(model.output_names):
            raise SpecificationError(
                f"[batch] output_names must hold {len(model.output_names)} names; got {self.outputs}."
            )
        if taken := set(options.keys) & {*self.outputs, *ERROR_COLUMNS}:
            raise SpecificationError(
                f"[batch] keys must have other names than the results; got {sorted(taken)}."
            )

    def check_schema(self, schema: pyarrow.Schema) -> None:
        """Refuse rows of another shape before any of them is read.

        Raises:
            SchemaError: A key or a required column is missing, or a type can never be read; the error names
                the column.
        """
        needed = [*self.options.keys, *(rule.name for rule in self.rules if rule.required)]
        for name in [*needed, *self.options.required]:
            if name not in schema.names:
                raise SchemaError(
                    f"[batch] column {name!r} must be in the rows; they have {', '.join(schema.names)}."
                )
        for rule in self.rules:
            if rule.name in schema.names:
                check_type(schema.field(rule.name).type, rule)

    def columns_of(self, names: Sequence[str]) -> list[str]:
        """Which of these columns are read at all, in their order."""
        read = {*self.options.keys, *(rule.name for rule in self.rules)}
        return [name for name in names if name in read]

    def tables(self, data: Any) -> Iterator[pyarrow.Table]:
        """Arrow data in tables of ``rows_per_batch`` rows, however they are cut; their schema is checked."""
        checked = None
        for table in _arrow.rechunked(data, self.options.rows_per_batch):
            if checked is None or not checked.equals(table.schema):
                checked = table.schema
                self.check_schema(checked)
            yield table

    def score(self, table: pyarrow.Table) -> Scored:
        """Predict all rows of a table; see ``check_schema`` for what must be in it."""
        refused: dict[int, Refused] = {}
        columns = {}
        for rule in self.rules:
            if rule.name not in table.column_names:
                columns[rule.name] = _arrow.pyarrow_module().nulls(
                    table.num_rows, _arrow.type_from_name(rule.dtype)
                )
                continue
            given = _arrow.single_array(table.column(rule.name))
            columns[rule.name], problems = read_column(given, rule)
            reasons = [(problem.rows, problem.reason) for problem in problems]
            if rule.name in self.options.required:
                reasons.append((missing(columns[rule.name]), MISSING))
            for rows, reason in reasons:
                for row in np.flatnonzero(rows).tolist():
                    refused.setdefault(row, Refused(row, rule.name, reason, _shown(given[row].as_py())))
        predictions = self.model.predict(columns).reshape(table.num_rows, len(self.outputs))
        for row in np.flatnonzero(~np.isfinite(predictions).all(axis=1)).tolist():
            refused.setdefault(row, Refused(row, "", NOT_FINITE, _shown(predictions[row].tolist())))
        ordered = [refused[row] for row in sorted(refused)]
        if ordered:
            predictions = predictions.copy()
            predictions[[item.row for item in ordered]] = np.nan
        return Scored(predictions, ordered, columns)

    def annotated(self, table: pyarrow.Table, error: str, text_type: Any = None) -> pyarrow.Table:
        """One row for each row: keys, predictions (null where refused) and why.

        Args:
            table: The rows.
            error: Name of the column of reasons; null where there is a prediction.
            text_type: Arrow type of that column; ``string`` by default.
        """
        arrow = _arrow.pyarrow_module()
        scored = self.score(table)
        messages: list[str | None] = [None] * table.num_rows
        for item in scored.refused:
            messages[item.row] = item.message
        absent = np.array([message is not None for message in messages], dtype=np.bool_)
        columns = [table.column(name) for name in self.options.keys]
        columns += [arrow.array(values, mask=absent) for values in scored.values.T]
        columns.append(arrow.array(messages, text_type or arrow.string()))
        return arrow.Table.from_arrays(columns, names=[*self.options.keys, *self.outputs, error])

    def split(self, table: pyarrow.Table, partition: int, first_row: int) -> tuple[Any, Any, Scored]:
        """Rows with predictions, and rows that were refused.

        Args:
            table: The rows.
            partition: Number of the partition, for the refused rows.
            first_row: Position of the first row in the partition.

        Returns:
            Keys and predictions; keys and ``ERROR_COLUMNS`` (None without refused rows); the whole.
        """
        arrow = _arrow.pyarrow_module()
        scored = self.score(table)
        keys = table.select(list(self.options.keys))
        rows = [item.row for item in scored.refused]
        kept = np.ones(table.num_rows, dtype=np.bool_)
        kept[rows] = False
        values = scored.values[kept] if rows else scored.values
        columns = (keys.filter(arrow.array(kept)) if rows else keys).columns
        columns += [arrow.array(np.ascontiguousarray(column)) for column in values.T]
        predictions = arrow.Table.from_arrays(columns, names=[*self.options.keys, *self.outputs])
        if not rows:
            return predictions, None, scored
        told = {
            "error_partition": arrow.array([partition] * len(rows), arrow.int32()),
            "error_row": arrow.array([first_row + row for row in rows], arrow.int64()),
            "error_column": arrow.array([item.column for item in scored.refused], arrow.string()),
            "error_reason": arrow.array([item.reason for item in scored.refused], arrow.string()),
            "error_value": arrow.array([item.value for item in scored.refused], arrow.string()),
        }
        columns = [*keys.take(arrow.array(rows)).columns, *told.values()]
        return predictions, arrow.Table.from_arrays(columns, names=[*self.options.keys, *told]), scored


def counted(refused: Sequence[Refused]) -> Counter[str]:
    """How many rows were refused by reason, with the column: ``distance: not a number``."""
    return Counter(f"{item.column}: {item.reason}" if item.column else item.reason for item in refused)


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
