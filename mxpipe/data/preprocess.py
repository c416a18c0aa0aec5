"""Preprocessing: raw columns in, the matrices of a tabular model out, the same way in training and serving.

It is fitted from a snapshot's statistics (no pass over the rows), travels inside the model folder as JSON,
and runs in the native gather, which the loader uses as well: a row gives the same bits on both sides.

* numeric: ``(value - mean) * (1 / std)`` in float64, rounded to float32. Null, NaN and infinite take the fill
  value.
* categorical: 1 + position in the vocabulary, as int32. Null and out-of-vocabulary values are 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mxpipe import _native
from mxpipe.data import _arrow
from mxpipe.data.statistics import Category, ColumnStatistics
from mxpipe.errors import DataError, SchemaError, SpecificationError

if TYPE_CHECKING:
    from mxpipe.data.snapshot import Snapshot

FORMAT_VERSION = 1


@dataclass(frozen=True)
class FeatureSpec:
    """Which columns a model reads, and how.

    Attributes:
        numeric: Columns that are normalised.
        categorical: Columns that become ids; strings, integers or bools.
        label: Column of the label; a numeric or bool one without nulls.

    Example:
        >>> FeatureSpec(numeric=["distance"], categorical=["carrier"], label="late").columns
        ('distance', 'carrier')
    """

    numeric: Sequence[str] = ()
    categorical: Sequence[str] = ()
    label: str | None = None

    def __post_init__(self) -> None:
        for role in ("numeric", "categorical"):
            names = getattr(self, role)
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise SpecificationError(f"[features] {role} must list names of columns; got {names!r}.")
            object.__setattr__(self, role, tuple(names))
        roles = [*self.columns, self.label]
        for name in roles:
            if roles.count(name) > 1:
                raise SpecificationError(f"[features] a column must have one role; got {name!r} twice.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Numeric, then categorical columns; the label is not among them."""
        return (*self.numeric, *self.categorical)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        return {"numeric": list(self.numeric), "categorical": list(self.categorical), "label": self.label}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FeatureSpec:
        """The features that ``to_json`` wrote.

        Raises:
            SpecificationError: A field is unknown or of another type.
        """
        try:
            return cls(**value)
        except TypeError as error:
            raise SpecificationError(
                f"[features] must have numeric, categorical and label; got {error}."
            ) from error


@dataclass(frozen=True)
class NumericFeature:
    """How one numeric column is normalised.

    Attributes:
        name: Column.
        type: Its type in the snapshot it was fitted on.
        mean: Subtracted from each value.
        std: Each value is divided by it; 1 for a constant column.
        fill: Stands for null, NaN and infinite values.
        indicator: Whether a further output column tells (by 1.0) where ``fill`` was used.
    """

    name: str
    type: str
    mean: float
    std: float
    fill: float
    indicator: bool = False


@dataclass(frozen=True)
class CategoricalFeature:
    """How one categorical column becomes ids.

    Attributes:
        name: Column.
        type: Its type in the snapshot it was fitted on.
        vocabulary: Known values, most frequent first; the id of a value is its position plus one.
    """

    name: str
    type: str
    vocabulary: tuple[Category, ...]


@dataclass(frozen=True)
class Preprocessor:
    """Raw columns to model inputs. Build one with ``Preprocessor.fit`` or ``Preprocessor.from_json``.

    Attributes:
        features: The columns it reads.
        numeric: Normalisation by numeric column, in the order of ``features``.
        categorical: Vocabulary by categorical column, in the order of ``features``.

    Example:
        >>> preprocessor = Preprocessor(
        ...     FeatureSpec(numeric=["distance"], categorical=["carrier"]),
        ...     (NumericFeature("distance", "float64", mean=100.0, std=50.0, fill=100.0),),
        ...     (CategoricalFeature("carrier", "string", ("UA", "DL")),),
        ... )
        >>> batch = preprocessor.transform({"distance": [200, None], "carrier": ["DL", "??"]})
        >>> batch["numeric"].ravel().tolist(), batch["categorical"].ravel().tolist()
        ([2.0, 0.0], [2, 0])
    """

    features: FeatureSpec
    numeric: tuple[NumericFeature, ...]
    categorical: tuple[CategoricalFeature, ...]

    @classmethod
    def fit(
        cls,
        snapshot: Snapshot,
        features: FeatureSpec,
        *,
        max_categories: int | None = None,
        min_count: int = 1,
        fill: str = "mean",
        indicators: bool = False,
        shared: Sequence[Sequence[str]] = (),
    ) -> Preprocessor:
        """Take means, deviations and vocabularies from a snapshot's statistics.

        Args:
            snapshot: The training snapshot.
            features: Columns and their roles.
            max_categories: Keep only so many categories a column, the most frequent ones.
            min_count: Drop categories that are rarer than this.
            fill: What stands for a null in numeric columns: ``mean`` or ``median``.
            indicators: Add a column of 0/1 for each numeric column that has nulls.
            shared: Groups of numeric columns that are normalised by the mean and deviation of all their
                values together: the pixels of an image, the hours of a series.

        Raises:
            SchemaError: A column is missing or its type does not suit its role; the error names it.
            SpecificationError: A group names a column that is not numeric here, or is in another group.
        """
        if fill not in ("mean", "median"):
            raise SpecificationError(f"[features] fill must be 'mean' or 'median'; got {fill!r}.")
        snapshot.require_columns(features.columns)
        statistics = snapshot.statistics
        pools = _pools(features.numeric, shared)
        numeric = tuple(
            _fit_numeric(
                name, statistics[name], _moments([statistics[one] for one in pool]), fill, indicators
            )
            for name, pool in pools.items()
        )
        categorical = tuple(
            _fit_categorical(name, statistics[name], max_categories, min_count)
            for name in features.categorical
        )
        return cls(features, numeric, categorical)

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """Names of the columns of ``numeric`` as it comes out: the columns, then ``<column>_is_null``."""
        indicators = (f"{column.name}_is_null" for column in self.numeric if column.indicator)
        return (*(column.name for column in self.numeric), *indicators)

    @property
    def numeric_width(self) -> int:
        """Columns of the numeric output."""
        return len(self.numeric_names)

    @property
    def cardinalities(self) -> list[int]:
        """Number of ids per categorical column: its vocabulary and one for everything else."""
        return [len(column.vocabulary) + 1 for column in self.categorical]

    @property
    def column_types(self) -> dict[str, str]:
        """Type name of every raw column it reads, in order."""
        return {feature.name: feature.type for feature in self._fitted}

    def transform(self, columns: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Preprocess rows that are given as columns.

        Args:
            columns: A value per row for each column: NumPy arrays, pandas or Arrow columns, or sequences
                (None is null). A pandas DataFrame or an Arrow table will do. Further columns are ignored.

        Returns:
            ``{"numeric": float32 (n, numeric_width), "categorical": int32 (n, len(categorical))}``.

        Raises:
            SchemaError: A column is missing or holds values of another kind; the error names it.
            DataError: Columns differ in length.
        """
        present = columns.column_names if hasattr(columns, "column_names") else columns
        for name in self.features.columns:
            if name not in present:
                given = ", ".join(map(str, present))
                raise SchemaError(f"[preprocess] column {name!r} must be given; got {given}.")
        source = _native.RowSource(list(self.features.columns))
        types = self.column_types
        source.append_columns(
            [(_importable(columns[name]), types[name] == "string") for name in self.features.columns]
        )
        rows = source.num_rows
        numeric = np.empty((rows, self.numeric_width), dtype=np.float32)
        categorical = np.empty((rows, len(self.categorical)), dtype=np.int32)
        self.gather(source).gather(None, numeric, categorical, None)
        return {"numeric": numeric, "categorical": categorical}

    def gather(self, source: Any, label: str | None = None) -> Any:
        """The native gather of these features (and the label) from the columns of a ``RowSource``."""
        numeric = [
            (column.name, column.mean, 1.0 / column.std, column.fill, column.indicator)
            for column in self.numeric
        ]
        return _native.RowGather(source, numeric, self._vocabularies, label)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary, as it travels inside a model folder."""
        return {
            "version": FORMAT_VERSION,
            "features": self.features.to_json(),
            "numeric": [asdict(column) for column in self.numeric],
            "categorical": [
                asdict(column) | {"vocabulary": list(column.vocabulary)} for column in self.categorical
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessor:
        """The preprocessor that ``to_json`` wrote.

        Raises:
            DataError: A field is missing, unknown or of another type; the error names it.
        """
        if not isinstance(value, Mapping) or value.get("version") != FORMAT_VERSION:
            got = value.get("version") if isinstance(value, Mapping) else type(value).__name__
            raise DataError(f"[preprocess] field 'version' must be {FORMAT_VERSION}; got {got!r}.")
        try:
            features = FeatureSpec.from_json(value["features"])
            numeric = tuple(NumericFeature(**column) for column in value["numeric"])
            categorical = tuple(
                CategoricalFeature(**{**column, "vocabulary": tuple(column["vocabulary"])})
                for column in value["categorical"]
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"[preprocess] must have all fields of a Preprocessor; got {error}.") from error
        for role, fitted in (("numeric", numeric), ("categorical", categorical)):
            names = tuple(column.name for column in fitted)
            if names != getattr(features, role):
                raise DataError(f"[preprocess] field {role!r} must list the {role} features; got {names}.")
        for column in numeric:
            numbers = (column.mean, column.std, column.fill)
            if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers) or column.std <= 0:
                raise DataError(
                    f"[preprocess] mean, std and fill of {column.name!r} must be finite, std positive; "
                    f"got {numbers}."
                )
        for feature in categorical:
            kind = str if feature.type == "string" else int
            if not all(isinstance(word, kind) for word in feature.vocabulary):
                raise DataError(
                    f"[preprocess] the vocabulary of {feature.name!r} must hold {kind.__name__} only."
                )
        return cls(features, numeric, categorical)

    @property
    def _fitted(self) -> tuple[NumericFeature | CategoricalFeature, ...]:
        return (*self.numeric, *self.categorical)

    @functools.cached_property
    def _vocabularies(self) -> list[tuple[str, Any]]:
        """(column, native map from value to id), built once."""
        return [
            (column.name, _native.Vocabulary(list(column.vocabulary), column.type == "string"))
            for column in self.categorical
        ]


def _pools(names: Sequence[str], shared: Sequence[Sequence[str]]) -> dict[str, Sequence[str]]:
    """The columns whose values normalise each numeric column: its group, or itself."""
    pools: dict[str, Sequence[str]] = {name: (name,) for name in names}
    seen: set[str] = set()
    for group in shared:
        for name in group:
            if name not in pools or name in seen or isinstance(group, str):
                raise SpecificationError(
                    f"[features] shared must list groups of numeric columns, each column once; got {name!r}."
                )
            seen.add(name)
            pools[name] = group
    return pools


def _moments(columns: Sequence[ColumnStatistics]) -> tuple[float, float]:
    """Mean and population deviation of the values of some columns together."""
    counts = [column.rows - column.nulls - column.nonfinite for column in columns]
    known = [
        (count, column.mean, column.std or 0.0)
        for count, column in zip(counts, columns, strict=True)
        if column.mean is not None
    ]
    if len(known) <= 1:
        return (known[0][1], known[0][2]) if known else (0.0, 0.0)
    total = math.fsum(count for count, _, _ in known)
    mean = math.fsum(count * mean for count, mean, _ in known) / total
    spread = math.fsum(count * (std * std + (own - mean) ** 2) for count, own, std in known)
    return mean, math.sqrt(spread / total)


def _fit_numeric(
    name: str, column: ColumnStatistics, moments: tuple[float, float], fill: str, indicators: bool
) -> NumericFeature:
    if column.type not in _arrow.NUMERIC_TYPES:
        raise SchemaError(f"[features] column {name!r} must be numeric to be normalised; got {column.type}.")
    mean, std = moments
    value = column.quantile(0.5) if fill == "median" and column.quantiles else mean
    return NumericFeature(name, column.type, mean, std or 1.0, value, indicators and column.null_fraction > 0)


def _fit_categorical(
    name: str, column: ColumnStatistics, max_categories: int | None, min_count: int
) -> CategoricalFeature:
    if column.categories is None or _arrow.is_temporal(column.type):
        raise SchemaError(
            f"[features] column {name!r} must hold categories (strings, bools, or integers of at most 4096 "
            f"distinct values); got {column.type}."
        )
    kept = [value for value, count in column.categories if count >= min_count]
    return CategoricalFeature(name, column.type, tuple(kept[:max_categories]))


def _importable(values: Any) -> Any:
    """A column in a form that the native side takes: an Arrow exporter, an array of numbers, or a list."""
    if hasattr(values, "__arrow_c_array__") or hasattr(values, "__arrow_c_stream__"):
        return values
    if isinstance(values, list):
        return values
    array = np.asarray(values)
    if array.ndim == 0:
        return values  # to be refused with the column's name
    return np.ascontiguousarray(array) if array.dtype.kind in "biuf" else array.tolist()
