"""Does a snapshot look as expected? Schema, nulls, ranges, categories, row counts, and drift.

Everything but drift is answered by the manifest's statistics. Drift of a column is the population stability
index (PSI) of its rows against reference statistics, usually those that the champion was trained on: below
0.1 is usually read as stable, above 0.25 as shifted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mxpipe.data import _arrow
from mxpipe.data.drift import population_stability_index, same_kind, shared_bins
from mxpipe.data.statistics import ColumnStatistics, Statistics
from mxpipe.errors import SchemaError, SpecificationError, ValidationError

if TYPE_CHECKING:
    from mxpipe.data.snapshot import Snapshot


@dataclass(frozen=True)
class ColumnExpectation:
    """What must hold of one column. Everything left at None is not checked.

    Attributes:
        type: Type name (``float64``, ``string``, ...) or several of them.
        required: Whether the column must be there.
        max_null_fraction: Greatest share of null (or not finite) values; 0.0 allows none.
        minimum: Least allowed value.
        maximum: Greatest allowed value.
        allowed: All allowed categories.
        max_unknown_fraction: Share of non-null values that may lie outside ``allowed``.
    """

    type: str | Sequence[str] | None = None
    required: bool = True
    max_null_fraction: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    allowed: Sequence[str | int] | None = None
    max_unknown_fraction: float = 0.0


@dataclass(frozen=True)
class DriftExpectation:
    """How far columns may drift from the reference.

    Attributes:
        threshold: Greatest allowed PSI.
        columns: Columns to compare; all that both sides have when None.
        thresholds: Thresholds of single columns.
        severity: ``error`` fails the report, ``warning`` only shows in it.
    """

    threshold: float = 0.25
    columns: Sequence[str] | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    severity: str = "error"


@dataclass(frozen=True)
class Expectations:
    """What must hold of a snapshot.

    Attributes:
        columns: Expectations by column name.
        minimum_rows: Least number of rows.
        maximum_rows: Greatest number of rows, not checked when None.
        closed: Whether columns that ``columns`` does not name are a failure.
        drift: Bounds for drift, used when reference statistics are given.

    Example:
        >>> Expectations.from_json({"columns": {"x": {"minimum": 0}}}).columns["x"].minimum
        0
    """

    columns: Mapping[str, ColumnExpectation] = field(default_factory=dict)
    minimum_rows: int = 1
    maximum_rows: int | None = None
    closed: bool = False
    drift: DriftExpectation = field(default_factory=DriftExpectation)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Expectations:
        """Expectations from a dictionary, as ``to_json`` wrote it or as a person did.

        Raises:
            SpecificationError: A field is unknown.
        """
        try:
            fields = dict(value)
            columns = {
                name: ColumnExpectation(**column) for name, column in fields.pop("columns", {}).items()
            }
            drift = DriftExpectation(**fields.pop("drift", {}))
            return cls(columns=columns, drift=drift, **fields)
        except TypeError as error:
            raise SpecificationError(
                f"[validation] expectations must have the documented fields; got {error}."
            ) from error


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: What was checked: rows, present, type, nulls, minimum, maximum, allowed, closed or drift.
        column: The column, None for the snapshot as a whole.
        ok: Whether it held.
        expected: The bound, in words.
        observed: What was found.
        severity: ``error`` or ``warning``.
    """

    name: str
    column: str | None
    ok: bool
    expected: str
    observed: Any
    severity: str = "error"

    def __str__(self) -> str:
        subject = "the snapshot" if self.column is None else f"column {self.column!r}"
        return f"{subject}: {self.name} must be {self.expected}; got {self.observed}"


@dataclass(frozen=True)
class ValidationReport:
    """All checks of a snapshot.

    Attributes:
        snapshot: Digest of the snapshot.
        rows: Its number of rows.
        checks: Every check, in a fixed order.
        drift: PSI by column, for the columns that were compared.
    """

    snapshot: str
    rows: int
    checks: tuple[Check, ...]
    drift: Mapping[str, float]

    @property
    def failures(self) -> tuple[Check, ...]:
        """Checks of severity ``error`` that did not hold."""
        return tuple(check for check in self.checks if not check.ok and check.severity == "error")

    @property
    def warnings(self) -> tuple[Check, ...]:
        """Checks of severity ``warning`` that did not hold."""
        return tuple(check for check in self.checks if not check.ok and check.severity != "error")

    @property
    def ok(self) -> bool:
        """Whether nothing failed; warnings are allowed."""
        return not self.failures

    def raise_for_failures(self) -> None:
        """Raise when something failed.

        Raises:
            ValidationError: Names every failed check.
        """
        if self.failures:
            details = "; ".join(str(check) for check in self.failures)
            raise ValidationError(
                f"[validation] snapshot {self.snapshot[:12]} must be as expected: {details}."
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        return {
            "snapshot": self.snapshot,
            "rows": self.rows,
            "ok": self.ok,
            "checks": [asdict(check) for check in self.checks],
            "drift": dict(self.drift),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ValidationReport:
        """The report that ``to_json`` wrote."""
        checks = tuple(Check(**check) for check in value["checks"])
        return cls(value["snapshot"], value["rows"], checks, dict(value["drift"]))


def validate_snapshot(
    snapshot: Snapshot,
    expectations: Expectations | Mapping[str, Any],
    reference_statistics: Statistics | Mapping[str, Any] | None = None,
) -> ValidationReport:
    """Compare a snapshot with what is expected of it.

    Args:
        snapshot: The snapshot.
        expectations: What must hold; a dictionary is read by ``Expectations.from_json``.
        reference_statistics: Statistics to measure drift against (or their JSON). No drift check without
            them.

    Returns:
        The report. Nothing is raised for a bad snapshot: see ``ok`` and ``raise_for_failures``.

    Example:
        >>> import tempfile
        >>> from mxpipe.data import write_snapshot
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     snapshot = write_snapshot(f"{folder}/rows", {"x": [1.0, None]})
        ...     report = validate_snapshot(snapshot, {"columns": {"x": {"max_null_fraction": 0.1}}})
        >>> report.ok, str(report.failures[0])
        (False, "column 'x': nulls must be at most 0.1 of the rows; got 0.5")
    """
    if not isinstance(expectations, Expectations):
        expectations = Expectations.from_json(expectations)
    if reference_statistics is not None and not isinstance(reference_statistics, Statistics):
        reference_statistics = Statistics.from_json(reference_statistics)
    checks = list(_check_whole(snapshot, expectations))
    for name, expected in expectations.columns.items():
        if name in snapshot.statistics:
            checks += _check_column(name, expected, snapshot.statistics[name])
        elif expected.required:
            checks.append(Check("present", name, False, "in the snapshot", "no such column"))
    drift: dict[str, float] = {}
    if reference_statistics is not None:
        bounds = expectations.drift
        comparable, checks_of_kind = _comparable(snapshot, reference_statistics, bounds)
        checks += checks_of_kind
        drift = population_stability(snapshot, reference_statistics, comparable)
        for name, value in drift.items():
            limit = bounds.thresholds.get(name, bounds.threshold)
            text = f"a PSI of at most {limit}"
            checks.append(Check("drift", name, value <= limit, text, round(value, 6), bounds.severity))
    return ValidationReport(snapshot.digest, snapshot.num_rows, tuple(checks), drift)


def population_stability(
    snapshot: Snapshot, reference: Statistics, columns: Sequence[str] | None = None
) -> dict[str, float]:
    """PSI of each column's rows against reference statistics; needs one pass over those columns.

    Args:
        snapshot: The rows.
        reference: What they are compared with.
        columns: Columns to compare; all that both sides have when None.

    Raises:
        SchemaError: A named column is missing on one side.
    """
    if columns is None:
        columns = [name for name in snapshot.column_types if name in reference]
    snapshot.require_columns(columns)
    result = {}
    for name in columns:
        expected = reference[name]
        if not same_kind(snapshot.statistics[name], expected):
            raise SchemaError(
                f"[validation] column {name!r} must be of the reference's kind, {expected.type}; "
                f"got {snapshot.statistics[name].type}."
            )
        bins = shared_bins(expected, snapshot.statistics[name], partial(_histogram, snapshot, name))
        if bins is not None:
            result[name] = population_stability_index(bins.expected, bins.observed)
    return result


def _comparable(
    snapshot: Snapshot, reference: Statistics, bounds: DriftExpectation
) -> tuple[list[str], list[Check]]:
    """Columns whose drift can be measured, and a failed check for each asked-for column where it cannot."""
    comparable, checks = [], []
    for name in snapshot.column_types if bounds.columns is None else bounds.columns:
        if name not in snapshot.statistics or name not in reference:
            if bounds.columns is not None:
                side = "the reference" if name in snapshot.statistics else "the snapshot"
                text = "in the snapshot and the reference"
                checks.append(Check("drift", name, False, text, f"none in {side}", bounds.severity))
        elif same_kind(snapshot.statistics[name], reference[name]):
            comparable.append(name)
        else:
            text, observed = (
                f"of the reference's kind, {reference[name].type}",
                snapshot.statistics[name].type,
            )
            checks.append(Check("drift", name, False, text, observed, bounds.severity))
    return comparable, checks


def _check_whole(snapshot: Snapshot, expectations: Expectations) -> Iterator[Check]:
    rows = snapshot.num_rows
    minimum, maximum = expectations.minimum_rows, expectations.maximum_rows
    yield Check("rows", None, rows >= minimum, f"at least {minimum}", rows)
    if maximum is not None:
        yield Check("rows", None, rows <= maximum, f"at most {maximum}", rows)
    if expectations.closed:
        unknown = [name for name in snapshot.column_types if name not in expectations.columns]
        yield Check("closed", None, not unknown, "without further columns", unknown or "none")


def _check_column(name: str, expected: ColumnExpectation, column: ColumnStatistics) -> Iterator[Check]:
    if expected.type is not None:
        types = [expected.type] if isinstance(expected.type, str) else list(expected.type)
        yield Check("type", name, column.type in types, " or ".join(types), column.type)
    if expected.max_null_fraction is not None:
        fraction = column.null_fraction
        text = f"at most {expected.max_null_fraction} of the rows"
        yield Check("nulls", name, fraction <= expected.max_null_fraction, text, round(fraction, 6))
    if expected.minimum is not None and column.minimum is not None:
        text = f"at least {expected.minimum}"
        yield Check("minimum", name, column.minimum >= expected.minimum, text, column.minimum)
    if expected.maximum is not None and column.maximum is not None:
        text = f"at most {expected.maximum}"
        yield Check("maximum", name, column.maximum <= expected.maximum, text, column.maximum)
    if expected.allowed is not None:
        yield _check_allowed(name, expected, column)


def _check_allowed(name: str, expected: ColumnExpectation, column: ColumnStatistics) -> Check:
    allowed = set(expected.allowed or ())
    limit = expected.max_unknown_fraction
    text = f"one of {len(allowed)} allowed values" + (f" but for {limit} of the values" if limit else "")
    if column.categories is None:
        return Check("allowed", name, False, text, "too many distinct values to list")
    unknown = {value: count for value, count in column.categories if value not in allowed}
    fraction = (sum(unknown.values()) + column.other) / max(column.rows - column.nulls, 1)
    shown = ", ".join(f"{value!r} ({count} times)" for value, count in list(unknown.items())[:5])
    return Check("allowed", name, fraction <= limit, text, shown or "only allowed values")


def _histogram(snapshot: Snapshot, name: str, edges: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The snapshot's values by bin, exactly: one pass over the column."""
    counts = np.zeros(len(edges) + 1, dtype=np.int64)
    for table in snapshot.tables([name]):
        array = _arrow.single_array(table.column(name))
        values = _arrow.physical_values(array.drop_null(), snapshot.statistics[name].type).astype(np.float64)
        values = values[np.isfinite(values)]
        counts += np.bincount(np.searchsorted(edges, values, side="left"), minlength=counts.size)
    return counts
