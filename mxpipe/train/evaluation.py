"""How good are probabilities? Metrics, calibration, slices, and the paired comparison of two models.

Enters: labels (0 or 1) and probabilities of the same rows, as NumPy arrays. Leaves: numbers, and records that
turn into JSON. Called by evaluation stages and reports. Pure functions over NumPy: no engine, no files, no
clock. :mod:`mxpipe.train.metrics` and :mod:`mxpipe.train.bootstrap` are reached from here.

A metric that is not defined (the AUC of rows of one class) is NaN here and null in JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mxpipe.errors import DataError, SpecificationError
from mxpipe.train.bootstrap import (
    Comparison,
    Interval,
    bootstrap_interval,
    bootstrap_values,
    paired_bootstrap,
    percentile_interval,
)
from mxpipe.train.metrics import (
    IS_MORE_BETTER,
    Vector,
    auc,
    brier,
    checked_probabilities,
    log_loss,
    metric_value,
    or_null,
)

__all__ = [
    "IS_MORE_BETTER",
    "CalibrationBin",
    "CalibrationTable",
    "Comparison",
    "Evaluation",
    "Interval",
    "SliceMetrics",
    "auc",
    "bootstrap_interval",
    "bootstrap_values",
    "brier",
    "calibration_table",
    "evaluate",
    "expected_calibration_error",
    "log_loss",
    "metric_value",
    "paired_bootstrap",
    "percentile_interval",
    "slice_metrics",
    "wilson_interval",
]


def expected_calibration_error(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 10, strategy: str = "quantile"
) -> float:
    """Mean distance between predicted and observed rate over the bins of :func:`calibration_table`.

    Example:
        >>> expected_calibration_error([0, 0, 1, 1], [0.25, 0.25, 0.5, 0.5], bins=2)
        0.375
    """
    return calibration_table(labels, probabilities, bins, strategy).error


@dataclass(frozen=True)
class CalibrationBin:
    """Rows of similar probability.

    Attributes:
        rows: Their number.
        probability: Their mean probability.
        rate: The share of ones among them.
        low: Lower end of the 95% Wilson interval of the rate.
        high: Its upper end.
    """

    rows: int
    probability: float
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class CalibrationTable:
    """Predicted against observed rates.

    Attributes:
        bins: The bins that have rows, by rising probability.
        error: The expected calibration error: the mean over rows of their bin's |rate - probability|.
    """

    bins: tuple[CalibrationBin, ...]
    error: float

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        return {"bins": [asdict(item) for item in self.bins], "error": or_null(self.error)}


def calibration_table(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 10, strategy: str = "quantile"
) -> CalibrationTable:
    """Group rows by probability and compare the predicted with the observed rate.

    Args:
        labels: 0 or 1 (n,).
        probabilities: In [0, 1] (n,).
        bins: Number of bins; equal probabilities always share one, so there may be fewer.
        strategy: "quantile" makes bins of equally many rows, "uniform" of equal width.

    Raises:
        DataError: As for :func:`auc`, or a probability lies outside [0, 1].
        SpecificationError: There is no such strategy, or `bins` is not positive.

    Example:
        >>> table = calibration_table([0, 1, 1, 1], [0.1, 0.3, 0.8, 0.8], bins=2)
        >>> [(item.rows, item.probability, item.rate) for item in table.bins]
        [(2, 0.2, 0.5), (2, 0.8, 1.0)]
    """
    truth, values = checked_probabilities(labels, probabilities)
    if bins < 1:
        raise SpecificationError(f"[calibration] bins must be positive; got {bins}.")
    if strategy not in ("quantile", "uniform"):
        raise SpecificationError(f"[calibration] strategy must be quantile or uniform; got {strategy!r}.")
    shares = np.arange(1, bins) / bins
    edges = np.unique(np.quantile(values, shares)) if strategy == "quantile" else shares
    position = np.searchsorted(edges, values, side="left")
    rows = np.bincount(position, minlength=edges.size + 1)
    predicted = np.bincount(position, weights=values, minlength=rows.size)
    observed = np.bincount(position, weights=truth, minlength=rows.size)
    filled = rows > 0
    rows, predicted, observed = rows[filled], predicted[filled], observed[filled]
    low, high = wilson_interval(observed, rows)
    table = tuple(
        CalibrationBin(int(count), *map(float, rest))
        for count, *rest in zip(rows, predicted / rows, observed / rows, low, high, strict=True)
    )
    return CalibrationTable(table, float(np.abs(observed - predicted).sum() / rows.sum()))


def wilson_interval(successes: npt.ArrayLike, trials: npt.ArrayLike) -> tuple[Vector, Vector]:
    """95% Wilson score intervals of rates: sensible for few trials and for rates near 0 and 1.

    Example:
        >>> low, high = wilson_interval([0], [10])
        >>> round(float(low[0]), 3), round(float(high[0]), 3)
        (0.0, 0.278)
    """
    z = 1.959963984540054
    count = np.asarray(trials, dtype=np.float64)
    rate = np.asarray(successes, dtype=np.float64) / count
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)


@dataclass(frozen=True)
class SliceMetrics:
    """How good a model is on the rows that share a value.

    Attributes:
        value: The value.
        rows: Number of rows.
        rate: Share of ones.
        probability: Mean probability.
        auc: Area under the ROC curve; NaN where one class is absent.
        log_loss: Mean negative log likelihood.
    """

    value: str
    rows: int
    rate: float
    probability: float
    auc: float
    log_loss: float


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a set of rows.

    Attributes:
        metrics: rows, rate (share of ones), probability (mean), auc, log_loss, brier, ece.
        calibration: Predicted against observed rates.
        slices: Metrics by value, for each column to slice by.
        labels_digest: SHA-256 of the labels in their order. Evaluations of the same rows have the same.
    """

    metrics: Mapping[str, float]
    calibration: CalibrationTable
    slices: Mapping[str, tuple[SliceMetrics, ...]]
    labels_digest: str

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary; what is not defined is null."""
        return {
            "metrics": {name: or_null(value) for name, value in self.metrics.items()},
            "calibration": self.calibration.to_json(),
            "slices": {
                name: [{key: or_null(value) for key, value in asdict(item).items()} for item in items]
                for name, items in self.slices.items()
            },
            "labels_digest": self.labels_digest,
        }


def evaluate(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    slices: Mapping[str, npt.ArrayLike] | None = None,
    minimum_slice_rows: int = 100,
) -> Evaluation:
    """All metrics of a model on one set of rows.

    Args:
        labels: 0 or 1 (n,).
        probabilities: In [0, 1] (n,).
        slices: Values (n,) by column to slice by.
        minimum_slice_rows: Values with fewer rows say little, and are left out.

    Raises:
        DataError: There are no rows, or as for :func:`calibration_table`.

    Example:
        >>> result = evaluate([0, 1, 1, 0], [0.2, 0.7, 0.6, 0.4])
        >>> result.metrics["auc"], round(result.metrics["brier"], 4)
        (1.0, 0.1125)
    """
    truth, values = checked_probabilities(labels, probabilities)
    table = calibration_table(truth, values)
    metrics = {
        "rows": truth.size,
        "rate": float(truth.mean()),
        "probability": float(values.mean()),
        "auc": auc(truth, values),
        "log_loss": log_loss(truth, values),
        "brier": brier(truth, values),
        "ece": table.error,
    }
    sliced = {
        name: slice_metrics(truth, values, column, minimum_slice_rows)
        for name, column in (slices or {}).items()
    }
    digest = hashlib.sha256(truth.astype("u1").tobytes()).hexdigest()
    return Evaluation(metrics, table, sliced, digest)


def slice_metrics(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, column: npt.ArrayLike, minimum_rows: int = 1
) -> tuple[SliceMetrics, ...]:
    """Metrics for each value of a column, the most frequent value first.

    Args:
        labels: 0 or 1 (n,).
        probabilities: In [0, 1] (n,).
        column: The value of each row (n,).
        minimum_rows: Values with fewer rows are left out.

    Example:
        >>> slices = slice_metrics([0, 1, 1], [0.1, 0.9, 0.8], ["JFK", "JFK", "LGA"])
        >>> [(item.value, item.rows, item.rate) for item in slices]
        [('JFK', 2, 0.5), ('LGA', 1, 1.0)]
    """
    truth, predicted = checked_probabilities(labels, probabilities)
    given = np.asarray(column)
    if given.shape != truth.shape:
        raise DataError(f"[evaluation] a slice must have {truth.size} values; got shape {given.shape}.")
    values, position, counts = np.unique(given, return_inverse=True, return_counts=True)
    found = []
    for index in np.argsort(-counts, kind="stable"):
        if counts[index] < minimum_rows:
            break
        inside = position == index
        y, p = truth[inside], predicted[inside]
        rates = float(y.mean()), float(p.mean())
        found.append(SliceMetrics(str(values[index]), int(counts[index]), *rates, auc(y, p), log_loss(y, p)))
    return tuple(found)
