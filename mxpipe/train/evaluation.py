"""How good are probabilities? Metrics, calibration, slices, and paired comparison of two models.

Enters: labels (0 or 1) and scores of the same rows, as NumPy arrays. Leaves: numbers, and records that turn
into JSON. Called by evaluation stages and reports. Pure functions over NumPy: no engine, no files, no clock.

A metric that is not defined (the AUC of rows of one class) is NaN here and null in JSON.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mxpipe.errors import DataError, SpecificationError

Vector = npt.NDArray[np.float64]
RowLoss = Callable[[Vector, Vector], Vector]

# Whether more is better, for the metrics that `metric_value` and the comparison know.
IS_MORE_BETTER = {"auc": True, "log_loss": False, "brier": False}

# Models give float32: a probability of exactly 0 or 1 stands for anything within its precision.
_SMALLEST = float(np.finfo(np.float32).eps)
# Weights of at most so many (sample, row) pairs are held at once: 32 MiB.
_PAIRS_AT_ONCE = 4_000_000


# ------------------------------------------------------------------------------------------------- metrics


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve: how often a positive row scores above a negative one, a tie being half.

    Args:
        labels: 0 or 1 (n,).
        scores: Any finite numbers that rise with the chance of a 1 (n,).

    Returns:
        The exact area, or NaN where one of the two classes is absent.

    Raises:
        DataError: Labels are not 0 or 1, scores are not finite, or the lengths differ.

    Example:
        >>> auc([0, 1, 0, 1], [0.1, 0.2, 0.2, 0.9])
        0.875
    """
    truth, values = _checked(labels, scores)
    area = _SortedScores(truth, values).areas(np.ones((1, truth.size)))
    return float(area[0])


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean negative log likelihood in nats; probabilities are kept 1.2e-7 away from 0 and 1.

    Example:
        >>> round(log_loss([0, 1], [0.5, 0.5]), 4)
        0.6931
    """
    return _mean_of_rows(_log_losses, *_checked_probabilities(labels, probabilities))


def brier(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean squared distance of the probability from what happened.

    Example:
        >>> brier([0, 1], [0.0, 0.5])
        0.125
    """
    return _mean_of_rows(_squared_errors, *_checked_probabilities(labels, probabilities))


def expected_calibration_error(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 10, strategy: str = "quantile"
) -> float:
    """Mean distance between predicted and observed rate over the bins of :func:`calibration_table`.

    Example:
        >>> expected_calibration_error([0, 0, 1, 1], [0.25, 0.25, 0.5, 0.5], bins=2)
        0.375
    """
    return calibration_table(labels, probabilities, bins, strategy).error


def metric_value(metric: str, labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """A metric by its name: auc, log_loss or brier.

    Raises:
        SpecificationError: There is no such metric.
    """
    _require_metric(metric)
    return {"auc": auc, "log_loss": log_loss, "brier": brier}[metric](labels, scores)


# --------------------------------------------------------------------------------------------- calibration


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
        return {"bins": [asdict(item) for item in self.bins], "error": _or_null(self.error)}


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
    truth, values = _checked_probabilities(labels, probabilities)
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


# --------------------------------------------------------------------------------------- whole evaluations


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
            "metrics": {name: _or_null(value) for name, value in self.metrics.items()},
            "calibration": self.calibration.to_json(),
            "slices": {
                name: [{key: _or_null(value) for key, value in asdict(item).items()} for item in items]
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
    truth, values = _checked_probabilities(labels, probabilities)
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
    truth, predicted = _checked_probabilities(labels, probabilities)
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


# ----------------------------------------------------------------------------------------------- bootstrap


@dataclass(frozen=True)
class Interval:
    """A metric and its bootstrap interval (percentiles).

    Attributes:
        value: The metric of the rows themselves.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows.

    Attributes:
        metric: What is compared.
        candidate: The first model's value.
        champion: The second model's value.
        difference: The candidate's value less the champion's.
        low: Lower end of the difference's interval.
        high: Its upper end.
        better: Share of the samples in which the candidate is the better one, a tie being half.
        confidence: Of the interval.
        samples: Bootstrap samples.
        seed: Of the samples.
        rows: Rows that were resampled.
        groups: Groups of rows that were drawn together; as many as rows when each was drawn alone.
    """

    metric: str
    candidate: float
    champion: float
    difference: float
    low: float
    high: float
    better: float
    confidence: float
    samples: int
    seed: int
    rows: int
    groups: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary; what is not defined is null."""
        return {name: _or_null(value) for name, value in asdict(self).items()}


def paired_bootstrap(
    labels: npt.ArrayLike,
    candidate: npt.ArrayLike,
    champion: npt.ArrayLike,
    metric: str = "auc",
    samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    groups: npt.ArrayLike | None = None,
) -> Comparison:
    """Is the first model better than the second, or was it luck? Both meet the same resampled rows.

    Args:
        labels: 0 or 1 (n,).
        candidate: Scores of the first model (n,).
        champion: Scores of the second model (n,).
        metric: auc, log_loss or brier.
        samples: Bootstrap samples.
        seed: The same seed gives the same interval.
        confidence: Of the interval.
        groups: The group of each row (n,). Rows that share their luck (one airport in one hour) are not
            independent; given their groups, whole groups are drawn and the interval is honest.

    Raises:
        DataError: As for :func:`auc`, or the metric is not defined for these rows.
        SpecificationError: An argument is out of range.

    Example:
        >>> random = np.random.default_rng(0)
        >>> labels = random.integers(0, 2, 500)
        >>> good, poor = labels + random.normal(size=500), random.normal(size=500)
        >>> result = paired_bootstrap(labels, good, poor)
        >>> result.low > 0, result.better
        (True, 1.0)
    """
    given = [np.asarray(scores) for scores in (candidate, champion)]
    values = _bootstrap(labels, given, metric, samples, seed, confidence, groups)
    truth, _ = _checked(labels, given[0])
    first, second = (metric_value(metric, truth, scores) for scores in given)
    if math.isnan(first) or math.isnan(second):
        raise DataError(f"[bootstrap] the rows must hold both classes for {metric}; got one class.")
    differences = values[0] - values[1]
    # A sample of one class alone has no AUC; it happens in tiny data only and says nothing.
    differences = differences[~np.isnan(differences)]
    low, high = _percentiles(differences, confidence)
    gains = differences if IS_MORE_BETTER[metric] else -differences
    return Comparison(
        metric=metric,
        candidate=first,
        champion=second,
        difference=first - second,
        low=low,
        high=high,
        better=float(np.mean(np.where(gains == 0, 0.5, gains > 0))),
        confidence=confidence,
        samples=samples,
        seed=seed,
        rows=truth.size,
        groups=truth.size if groups is None else int(np.unique(np.asarray(groups)).size),
    )


def bootstrap_interval(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    metric: str = "auc",
    samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    groups: npt.ArrayLike | None = None,
) -> Interval:
    """A model's metric with its bootstrap interval; arguments as for :func:`paired_bootstrap`.

    Example:
        >>> interval = bootstrap_interval([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
        >>> interval.value, interval.low, interval.high
        (1.0, 1.0, 1.0)
    """
    (values,) = _bootstrap(labels, [np.asarray(scores)], metric, samples, seed, confidence, groups)
    low, high = _percentiles(values[~np.isnan(values)], confidence)
    return Interval(metric_value(metric, labels, scores), low, high)


def _bootstrap(
    labels: npt.ArrayLike,
    models: list[npt.NDArray[Any]],
    metric: str,
    samples: int,
    seed: int,
    confidence: float,
    groups: npt.ArrayLike | None,
) -> list[Vector]:
    """The metric of each model in each sample: a vector (samples,) for each model."""
    _require_metric(metric)
    if samples < 1 or not 0 < confidence < 1:
        raise SpecificationError(
            f"[bootstrap] samples must be positive and confidence in (0, 1); got {samples}, {confidence}."
        )
    check = _checked if metric == "auc" else _checked_probabilities
    pairs = [check(labels, scores) for scores in models]
    rows = pairs[0][0].size
    if metric == "auc":
        measures = [_SortedScores(*pair).areas for pair in pairs]
    else:
        losses = _log_losses if metric == "log_loss" else _squared_errors
        measures = [_WeightedMean(losses(*pair)) for pair in pairs]
    values = [np.empty(samples) for _ in models]
    for start, weights in _resampled_weights(rows, samples, seed, groups):
        for value, measure in zip(values, measures, strict=True):
            value[start : start + len(weights)] = measure(weights)
    return values


def _resampled_weights(
    rows: int, samples: int, seed: int, groups: npt.ArrayLike | None
) -> Iterator[tuple[int, Vector]]:
    """How often each row is in each sample: blocks (k, rows) of all samples, with their first sample."""
    position = None
    units = rows
    if groups is not None:
        given = np.asarray(groups)
        if given.shape != (rows,):
            raise DataError(f"[bootstrap] groups must have {rows} values; got shape {given.shape}.")
        unique, position = np.unique(given, return_inverse=True)
        units = unique.size
    random = np.random.default_rng(seed)
    block = max(1, _PAIRS_AT_ONCE // rows)
    for start in range(0, samples, block):
        count = min(block, samples - start)
        drawn = random.integers(0, units, size=(count, units)) + units * np.arange(count)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)
        weights = counts.astype(np.float64)
        yield start, weights if position is None else weights[:, position]


class _SortedScores:
    """Scores in rising order, ready for the AUC of many weightings of the same rows."""

    def __init__(self, labels: Vector, scores: Vector) -> None:
        self._order = np.argsort(scores, kind="stable")
        ordered = scores[self._order]
        self._ones = labels[self._order]
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # of runs of equal scores
        self._has_ties = self._starts.size < ordered.size

    def areas(self, weights: Vector) -> Vector:
        """AUC for each row of weights (k, n): (k,), NaN where a class has no weight."""
        ordered = weights[:, self._order]
        ones = ordered * self._ones
        zeros = ordered - ones
        if self._has_ties:
            ones = np.add.reduceat(ones, self._starts, axis=1)
            zeros = np.add.reduceat(zeros, self._starts, axis=1)
        pairs = ones.sum(axis=1) * zeros.sum(axis=1)
        below = np.cumsum(zeros, axis=1) - 0.5 * zeros  # of its own run, a positive row beats half
        won = np.einsum("ij,ij->i", ones, below)
        with np.errstate(invalid="ignore"):
            return np.asarray(won / pairs)


class _WeightedMean:
    """The mean of a quantity of the rows, for many weightings of them."""

    def __init__(self, quantity: Vector) -> None:
        self._quantity = quantity

    def __call__(self, weights: Vector) -> Vector:
        return np.asarray(weights @ self._quantity / weights.sum(axis=1))


def _percentiles(values: Vector, confidence: float) -> tuple[float, float]:
    outside = (1.0 - confidence) / 2
    low, high = np.quantile(values, [outside, 1.0 - outside]) if values.size else (math.nan, math.nan)
    return float(low), float(high)


# ------------------------------------------------------------------------------------------------ plumbing


def _log_losses(labels: Vector, probabilities: Vector) -> Vector:
    inside = np.clip(probabilities, _SMALLEST, 1.0 - _SMALLEST)
    return np.where(labels == 1.0, -np.log(inside), -np.log1p(-inside))


def _squared_errors(labels: Vector, probabilities: Vector) -> Vector:
    return np.square(probabilities - labels)


def _mean_of_rows(loss: RowLoss, labels: Vector, probabilities: Vector) -> float:
    return float(loss(labels, probabilities).mean())


def _require_metric(metric: str) -> None:
    if metric not in IS_MORE_BETTER:
        raise SpecificationError(
            f"[evaluation] metric must be one of {', '.join(IS_MORE_BETTER)}; got {metric!r}."
        )


def _checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Vector, Vector]:
    truth = np.asarray(labels, dtype=np.float64)
    values = np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise DataError(
            "[evaluation] labels and scores must be vectors of one length; "
            f"got shapes {truth.shape} and {values.shape}."
        )
    if not truth.size:
        raise DataError("[evaluation] there must be rows; got none.")
    outside = (truth != 0.0) & (truth != 1.0)
    if outside.any():
        raise DataError(f"[evaluation] labels must be 0 or 1; got {truth[outside][0]}.")
    if not np.isfinite(values).all():
        raise DataError(f"[evaluation] scores must be finite; got {values[~np.isfinite(values)][0]}.")
    return truth, values


def _checked_probabilities(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Vector, Vector]:
    truth, values = _checked(labels, probabilities)
    outside = (values < 0.0) | (values > 1.0)
    if outside.any():
        raise DataError(f"[evaluation] probabilities must lie in [0, 1]; got {values[outside][0]}.")
    return truth, values


def _or_null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
