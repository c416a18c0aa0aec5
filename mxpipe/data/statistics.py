"""Statistics of every column, gathered while shards are written and merged by the driver.

What enters: the tables of one shard after the other. What leaves: ``Statistics``, the part of a manifest from
which preprocessing is fitted and drift is measured, with no further pass over the rows.

Everything is deterministic: the same shards in the same order give the same numbers on every machine. Sums
are taken in fixed lanes (a vector unit may not choose the order), quantiles come from a sketch without
randomness.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mxpipe.data import _arrow
from mxpipe.data.sketch import CAPACITY, QuantileSketch
from mxpipe.errors import SchemaError, SnapshotCorruptError

if TYPE_CHECKING:
    import pyarrow

QUANTILES = (0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99)
HISTOGRAM_BINS = 20
MAX_STRING_CATEGORIES = 1 << 17
MAX_INTEGER_CATEGORIES = 1 << 12
_LANES = 256

Category = str | int


@dataclass(frozen=True)
class ColumnStatistics:
    """What a snapshot knows about one column.

    Attributes:
        type: Type name of the column (``float64``, ``string``, ...).
        rows: Rows, nulls included.
        nulls: Null values.
        nonfinite: NaN and infinite values of a float column; they are left out of everything below.
        minimum: Least value; dates and timestamps as their integer count since 1970. None without values.
        maximum: Greatest value.
        mean: Arithmetic mean. None for strings and without values.
        std: Population standard deviation.
        quantiles: Pairs (probability, value), ascending.
        edges: Ascending inner edges of the histogram; bin i holds values in (edges[i-1], edges[i]].
        counts: Values per bin, one more than edges.
        distinct: Distinct values, when categories are known.
        categories: Pairs (value, count), most frequent first; None where a column has too many integers
            to be categories, or floats.
        other: Values that belong to categories which were dropped because there were too many.
    """

    type: str
    rows: int = 0
    nulls: int = 0
    nonfinite: int = 0
    minimum: float | int | None = None
    maximum: float | int | None = None
    mean: float | None = None
    std: float | None = None
    quantiles: tuple[tuple[float, float], ...] = ()
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    distinct: int | None = None
    categories: tuple[tuple[Category, int], ...] | None = None
    other: int = 0

    @property
    def null_fraction(self) -> float:
        """Nulls and not-finite values per row, 0 for an empty column."""
        return (self.nulls + self.nonfinite) / self.rows if self.rows else 0.0

    def quantile(self, probability: float) -> float:
        """The stored quantile of this probability.

        Raises:
            KeyError: The probability is not one of ``QUANTILES``, or the column has no values.
        """
        return dict(self.quantiles)[probability]

    def _with_categories(self, most: int) -> ColumnStatistics:
        if self.categories is None:
            return self
        rest = sum(count for _, count in self.categories[most:])
        return replace(self, categories=self.categories[:most], other=self.other + rest)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary without the fields that say nothing."""
        default = ColumnStatistics(self.type)
        return {name: value for name, value in asdict(self).items() if value != getattr(default, name)} | {
            "type": self.type
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ColumnStatistics:
        """The statistics that ``to_json`` wrote.

        Raises:
            SnapshotCorruptError: A field is missing, unknown or of another type.
        """
        try:
            fields = dict(value)
            for name in ("quantiles", "categories"):
                if fields.get(name) is not None:
                    fields[name] = tuple((first, second) for first, second in fields[name])
            for name in ("edges", "counts"):
                fields[name] = tuple(fields.get(name, ()))
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise SnapshotCorruptError(
                f"[statistics] a column's entry must hold the fields of ColumnStatistics; got {error}."
            ) from error


class Statistics(Mapping[str, ColumnStatistics]):
    """Statistics of all columns of a snapshot, by column name.

    Example:
        >>> statistics = Statistics({"distance": ColumnStatistics("float64", rows=3, mean=2.0, std=1.0)})
        >>> statistics["distance"].mean
        2.0
        >>> Statistics.from_json(statistics.to_json()) == statistics
        True
    """

    def __init__(self, columns: Mapping[str, ColumnStatistics]) -> None:
        self._columns = dict(columns)

    def __getitem__(self, name: str) -> ColumnStatistics:
        try:
            return self._columns[name]
        except KeyError:
            raise SchemaError(
                f"[statistics] column {name!r} must be in the snapshot; it has {', '.join(self._columns)}."
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Statistics) and self._columns == other._columns

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Statistics({', '.join(self._columns)})"

    def summary(self, columns: Sequence[str], categories: int) -> Statistics:
        """The statistics of some columns with their most frequent categories only, small enough to travel.

        Args:
            columns: Columns to keep.
            categories: So many categories a column are kept; the values of all others count as ``other``.

        Raises:
            SchemaError: There is no such column.
        """
        return Statistics({name: self[name]._with_categories(categories) for name in columns})

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary, column name to fields."""
        return {name: column.to_json() for name, column in self._columns.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Statistics:
        """The statistics that ``to_json`` wrote.

        Raises:
            SnapshotCorruptError: The dictionary does not hold statistics.
        """
        return cls({name: ColumnStatistics.from_json(column) for name, column in value.items()})


class StatisticsAccumulator:
    """Statistics of a growing table, mergeable with those of another part.

    Example:
        >>> import pyarrow as pa
        >>> accumulator = StatisticsAccumulator([{"name": "x", "type": "float64"}])
        >>> accumulator.update(pa.table({"x": [1.0, 2.0, None]}))
        >>> column = accumulator.finish()["x"]
        >>> column.rows, column.nulls, column.mean
        (3, 1, 1.5)
    """

    def __init__(
        self, schema: Sequence[Mapping[str, str]], capacity: int = CAPACITY, max_categories: int | None = None
    ) -> None:
        """Start with no rows.

        Args:
            schema: ``name`` and ``type`` of each column.
            capacity: Of the quantile sketches; a smaller one is written faster, and less exact.
            max_categories: Categories that are kept of a string column; ``MAX_STRING_CATEGORIES`` by default.
        """
        self._columns = {
            column["name"]: _Column(column["type"], capacity, max_categories) for column in schema
        }

    def update(self, table: pyarrow.Table) -> None:
        """Count the rows of a table that has this accumulator's columns."""
        for name, column in self._columns.items():
            column.update(_arrow.single_array(table.column(name)))

    def update_columns(self, columns: Mapping[str, Any], rows: int) -> None:
        """Count rows that are given as columns, in any form that a model takes; pyarrow is not needed.

        Args:
            columns: A value per row for each column: NumPy arrays, pandas or Arrow columns, or sequences.
                None is a null, and so is NaN in a column that holds no floats. A column that is left out
                counts as null in every row; further columns are ignored.
            rows: Number of rows.
        """
        present = getattr(columns, "column_names", columns)
        for name, column in self._columns.items():
            column.update_values(columns[name] if name in present else [None] * rows)

    def merge(self, other: StatisticsAccumulator) -> None:
        """Add what another accumulator of the same schema has seen, as if it came after this one's rows."""
        for name, column in self._columns.items():
            column.merge(other._columns[name])

    def histogram(self, name: str, edges: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Values of a column by bin, to within the sketch's error.

        Args:
            name: A column of numbers.
            edges: Inner edges (k,), ascending; bin i holds values in (edges[i-1], edges[i]].

        Returns:
            Counts, shape (k + 1,).
        """
        return self._columns[name].sketch.counts(edges)

    def finish(self) -> Statistics:
        """The statistics of everything seen so far."""
        return Statistics({name: column.finish() for name, column in self._columns.items()})

    def to_json(self) -> dict[str, Any]:
        """The accumulator itself (not its results), to be sent from a worker to the driver."""
        return {name: column.to_json() for name, column in self._columns.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StatisticsAccumulator:
        """The accumulator that ``to_json`` wrote."""
        accumulator = cls([])
        accumulator._columns = {name: _Column.from_json(column) for name, column in value.items()}
        return accumulator


class _Column:
    """Running statistics of one column."""

    def __init__(self, type_name: str, capacity: int = CAPACITY, max_categories: int | None = None) -> None:
        self.type = type_name
        self.rows = self.nulls = self.nonfinite = self.count = 0
        self.minimum: float | int | None = None
        self.maximum: float | int | None = None
        self.mean = 0.0
        self.square_sum = 0.0  # of deviations from the mean
        self.sketch = QuantileSketch(capacity)
        self.categories: dict[Category, int] | None = None if type_name in _arrow.FLOAT_TYPES else {}
        self.max_categories = max_categories or MAX_STRING_CATEGORIES
        self.other = 0

    def update(self, array: pyarrow.Array) -> None:
        self.rows += len(array)
        self.nulls += array.null_count
        if self.type == "string":
            self._count_strings(array)
            return
        if array.null_count:
            array = array.drop_null()
        self._update_numbers(_arrow.physical_values(array, self.type))

    def update_values(self, values: Any) -> None:
        """As ``update``, for a column in any form."""
        if type(values).__module__.startswith("pyarrow"):
            self.update(_arrow.single_array(values))
            return
        if self.type == "string":
            counts = Counter(values)
            missing = [key for key in counts if not isinstance(key, str)]  # None, NaN, pandas' NA
            self.rows += sum(counts.values())
            self.nulls += sum(counts.pop(key) for key in missing)
            self._add_categories(counts.items())
            return
        numbers = np.asarray(values)
        if numbers.dtype == object:
            missing_rows = np.array([value is None or value != value for value in numbers], dtype=bool)
            self.rows += int(missing_rows.sum())
            self.nulls += int(missing_rows.sum())
            present = numbers[~missing_rows].tolist()
            numbers = np.asarray(present) if present else np.empty(0)
        elif numbers.dtype.kind == "f" and self.categories is not None:
            # Integers and booleans among which one is missing arrive as floats.
            missing_rows = np.isnan(numbers)
            self.rows += int(missing_rows.sum())
            self.nulls += int(missing_rows.sum())
            numbers = numbers[~missing_rows]
        self.rows += int(numbers.size)
        self._update_numbers(numbers)

    def _update_numbers(self, values: np.ndarray[Any, Any]) -> None:
        if self.type in _arrow.FLOAT_TYPES:
            finite = np.isfinite(values)
            self.nonfinite += int(values.size - np.count_nonzero(finite))
            values = values[finite]
        if not values.size:
            return
        if self.categories is not None:
            self._count_integers(values)
        part = _Column(self.type)  # carries moments only
        part.count = int(values.size)
        part.minimum, part.maximum = values.min().item(), values.max().item()
        numbers = values.astype(np.float64)
        part.mean = ordered_sum(numbers) / part.count
        part.square_sum = ordered_sum(np.square(numbers - part.mean))
        self._merge_moments(part)
        self.sketch.update(numbers)

    def merge(self, other: _Column) -> None:
        self.rows += other.rows
        self.nulls += other.nulls
        self.nonfinite += other.nonfinite
        self.other += other.other
        self._merge_moments(other)
        self.sketch.merge(other.sketch)
        if self.categories is not None and other.categories is not None:
            self._add_categories(other.categories.items())
        else:
            self.categories = None

    def finish(self) -> ColumnStatistics:
        numeric = self.count > 0
        edges, counts = self.sketch.histogram(HISTOGRAM_BINS) if numeric else ((), ())
        categories = None
        if self.categories is not None:
            categories = tuple(sorted(self.categories.items(), key=lambda item: (-item[1], item[0])))
        return ColumnStatistics(
            type=self.type,
            rows=self.rows,
            nulls=self.nulls,
            nonfinite=self.nonfinite,
            minimum=self.minimum,
            maximum=self.maximum,
            mean=self.mean if numeric else None,
            std=math.sqrt(self.square_sum / self.count) if numeric else None,
            quantiles=tuple(zip(QUANTILES, self.sketch.quantiles(QUANTILES), strict=True)) if numeric else (),
            edges=edges,
            counts=counts,
            distinct=None if categories is None else len(categories),
            categories=categories,
            other=self.other,
        )

    def to_json(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name not in ("sketch", "categories")}
        categories = None if self.categories is None else list(self.categories.items())
        return state | {"sketch": self.sketch.to_json(), "categories": categories}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> _Column:
        column = cls(value["type"])
        for name in vars(column):
            setattr(column, name, value[name])
        column.sketch = QuantileSketch.from_json(value["sketch"])
        column.categories = None if value["categories"] is None else dict(value["categories"])
        return column

    def _merge_moments(self, part: _Column) -> None:
        """Chan's update: mean and squared deviations of the union of two parts."""
        if not part.count:
            return
        count = self.count + part.count
        delta = part.mean - self.mean
        self.square_sum += part.square_sum + delta * delta * (self.count * (part.count / count))
        self.mean += delta * (part.count / count)
        self.count = count
        lows = [value for value in (self.minimum, part.minimum) if value is not None]
        highs = [value for value in (self.maximum, part.maximum) if value is not None]
        self.minimum, self.maximum = min(lows), max(highs)

    def _count_strings(self, array: pyarrow.Array) -> None:
        counts = _arrow.compute().value_counts(array.drop_null())
        keys = counts.field("values").cast(_arrow.pyarrow_module().string()).to_pylist()
        self._add_categories(zip(keys, counts.field("counts").to_pylist(), strict=True))

    def _count_integers(self, values: np.ndarray[Any, Any]) -> None:
        keys, counts = np.unique(values, return_counts=True)
        if len(keys) > MAX_INTEGER_CATEGORIES:
            self.categories = None
        else:
            self._add_categories(zip((int(key) for key in keys), counts.tolist(), strict=True))

    def _add_categories(self, counts: Any) -> None:
        assert self.categories is not None
        for key, count in counts:
            self.categories[key] = self.categories.get(key, 0) + count
        if self.type != "string":
            if len(self.categories) > MAX_INTEGER_CATEGORIES:
                self.categories = None
        elif len(self.categories) > self.max_categories:
            ranked = sorted(self.categories.items(), key=lambda item: (-item[1], item[0]))
            self.other += sum(count for _, count in ranked[self.max_categories :])
            self.categories = dict(ranked[: self.max_categories])


def ordered_sum(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Sum of shape (n,) float64 in an order that depends on n alone.

    ``np.sum`` adds in the order that suits the vector unit at hand, so its last bits differ between machines.

    Example:
        >>> ordered_sum(np.array([0.1] * 10))
        1.0
    """
    whole = values.size - values.size % _LANES
    lanes = np.add.reduce(values[:whole].reshape(-1, _LANES), axis=0)
    return math.fsum(lanes.tolist()) + math.fsum(values[whole:].tolist())
