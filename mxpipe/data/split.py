"""Splitting a snapshot into training rows and a frozen holdout.

Both parts are snapshots of their own, and a function of the source and the rule alone: splitting again, on
another machine, gives the same two digests. Their manifests name the source and the rule.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe.data import _arrow
from mxpipe.data.snapshot import Snapshot, write_snapshot
from mxpipe.errors import DataError, SchemaError

if TYPE_CHECKING:
    import pyarrow

Boundary = int | float | str | datetime.date | datetime.datetime
Predicate = Callable[["pyarrow.Table"], Any]


@dataclass(frozen=True)
class Split:
    """The two parts of a split snapshot."""

    train: Snapshot
    holdout: Snapshot


def split_snapshot(
    snapshot: Snapshot,
    train_uri: str | Path,
    holdout_uri: str | Path,
    *,
    column: str | None = None,
    at: Boundary | None = None,
    until: Boundary | None = None,
    predicate: Predicate | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Split:
    """Split by time (or any ordered column), or by a predicate.

    Args:
        snapshot: The source.
        train_uri: Where the training part is published.
        holdout_uri: Where the holdout is published.
        column: Rows with a value below ``at`` are for training, all others are holdout.
        at: The first value of the holdout; text is understood for dates, timestamps and numbers.
        until: The first value that belongs to neither part: a window of a backtest ends there.
        predicate: Instead of ``column`` and ``at``: takes an Arrow table and gives a bool per row, True for
            the holdout. It must be a function of the rows alone.
        metadata: Notes for both manifests; part of the digests.

    Raises:
        SchemaError: The column is not in the snapshot, or cannot be compared with ``at``.
        DataError: A value of ``column`` (or of the predicate) is null, or one part would have no rows.
        StorageError: A part could not be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     source = write_snapshot(f"{folder}/all", {"day": [1, 2, 3, 4], "x": [0.1, 0.2, 0.3, 0.4]})
        ...     split = split_snapshot(source, f"{folder}/train", f"{folder}/holdout", column="day", at=4)
        ...     split.train.num_rows, split.holdout.num_rows
        (3, 1)
    """
    if (predicate is None) == (column is None or at is None) or (predicate and until is not None):
        raise DataError("[split] either column and at, or predicate must be given; got both or neither.")
    rule: dict[str, Any] = {"source": snapshot.digest}
    outside: Predicate | None = None
    if predicate is None:
        assert column is not None
        boundary = _boundary(snapshot, column, at)
        rule |= {"column": column, "at": str(boundary)}
        predicate = _at_or_after(snapshot, column, boundary)
        if until is not None:
            end = _boundary(snapshot, column, until)
            rule |= {"until": str(end)}
            outside = _at_or_after(snapshot, column, end)
    else:
        rule |= {"predicate": getattr(predicate, "__qualname__", type(predicate).__name__)}
    parts = {}
    for name, uri, wanted in (("train", train_uri, False), ("holdout", holdout_uri, True)):
        rows = _filtered(snapshot, predicate, wanted, outside)
        notes = {**(metadata or {}), "split": {**rule, "part": name}}
        parts[name] = write_snapshot(uri, rows, metadata=notes)
    return Split(**parts)


def _filtered(
    snapshot: Snapshot, predicate: Predicate, wanted: bool, outside: Predicate | None
) -> Iterator[pyarrow.Table]:
    arrow, functions = _arrow.pyarrow_module(), _arrow.compute()
    for table in snapshot.tables():
        if outside is not None:
            table = table.filter(functions.invert(outside(table)))
        chosen = predicate(table)
        if not isinstance(chosen, arrow.Array | arrow.ChunkedArray):
            chosen = arrow.array(chosen, type=arrow.bool_())
        if len(chosen) != table.num_rows or chosen.null_count:
            raise DataError(
                f"[split] the predicate must give True or False for each of {table.num_rows} rows; "
                f"got {len(chosen)} values, {chosen.null_count} of them null."
            )
        yield table.filter(chosen if wanted else functions.invert(chosen))


def _at_or_after(snapshot: Snapshot, column: str, boundary: Any) -> Predicate:
    arrow, functions = _arrow.pyarrow_module(), _arrow.compute()

    def predicate(table: pyarrow.Table) -> Any:
        values = table.column(column)
        if values.null_count:
            raise DataError(
                f"[split] column {column!r} must have no nulls to split by; "
                f"got {values.null_count} in {snapshot.uri}."
            )
        return functions.greater_equal(values, arrow.scalar(boundary, type=values.type))

    return predicate


def _boundary(snapshot: Snapshot, column: str, at: Any) -> Any:
    """``at`` as a value that compares with the column's type."""
    snapshot.require_columns([column])
    arrow = _arrow.pyarrow_module()
    data_type = snapshot.schema.field(column).type
    value = at
    try:
        if _arrow.is_temporal(snapshot.column_types[column]) and not isinstance(at, int):
            moment = datetime.datetime.fromisoformat(at) if isinstance(at, str) else at
            if data_type == arrow.date32():
                value = moment.date() if isinstance(moment, datetime.datetime) else moment
            elif not isinstance(moment, datetime.datetime):
                value = datetime.datetime.combine(moment, datetime.time())
            else:
                value = moment
            if data_type != arrow.date32():
                value = value if data_type.tz is None or value.tzinfo else value.replace(tzinfo=datetime.UTC)
        if isinstance(value, str) and not arrow.types.is_string(
            data_type
        ):  # a number, as a template gives it
            return arrow.scalar(value).cast(data_type).as_py()
        return arrow.scalar(value, type=data_type).as_py()
    except (TypeError, ValueError, arrow.ArrowException) as error:
        raise SchemaError(
            f"[split] the boundary of column {column!r} must be a {data_type}; got {at!r}."
        ) from error
