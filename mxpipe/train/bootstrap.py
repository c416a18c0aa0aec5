"""Is one model better than another, or was it luck? Bootstrap intervals, paired on the same rows.

Enters: labels and the scores of one or several models. Leaves: intervals, and the comparison that the gate
reads. All samples of a block are measured at once; the same seed gives the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mxpipe.errors import DataError, SpecificationError
from mxpipe.train.metrics import (
    IS_MORE_BETTER,
    Vector,
    measure,
    metric_value,
    or_null,
)

# Weights of at most so many (sample, row) pairs are held at once: 32 MiB.
_PAIRS_AT_ONCE = 4_000_000


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
        return {name: or_null(value) for name, value in asdict(self).items()}


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
        labels: The truth (n,), as the metric takes it: see :mod:`mxpipe.train.metrics`.
        candidate: Scores of the first model (n,) or (n, k).
        champion: Scores of the second model, likewise.
        metric: One of that module's.
        samples: Bootstrap samples.
        seed: The same seed gives the same interval.
        confidence: Of the interval.
        groups: The group of each row (n,). Rows that share their luck (one airport in one hour) are not
            independent; given their groups, whole groups are drawn and the interval is honest.

    Raises:
        DataError: Labels or scores do not suit the metric, or it is not defined for these rows.
        SpecificationError: An argument is out of range.

    Example:
        >>> random = np.random.default_rng(0)
        >>> labels = random.integers(0, 2, 500)
        >>> good, poor = labels + random.normal(size=500), random.normal(size=500)
        >>> result = paired_bootstrap(labels, good, poor)
        >>> result.low > 0, result.better
        (True, 1.0)
    """
    given = candidate, champion
    values = bootstrap_values(labels, given, metric, samples, seed, groups)
    rows = len(np.asarray(labels))
    first, second = (metric_value(metric, labels, scores) for scores in given)
    if math.isnan(first) or math.isnan(second):
        raise DataError(f"[bootstrap] the rows must hold both classes for {metric}; got one class.")
    differences = values[0] - values[1]
    low, high = percentile_interval(differences, confidence)
    gains = differences[~np.isnan(differences)] * (1 if IS_MORE_BETTER[metric] else -1)
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
        rows=rows,
        groups=rows if groups is None else int(np.unique(np.asarray(groups)).size),
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
    (values,) = bootstrap_values(labels, [scores], metric, samples, seed, groups)
    low, high = percentile_interval(values, confidence)
    return Interval(metric_value(metric, labels, scores), low, high)


def bootstrap_values(
    labels: npt.ArrayLike,
    models: Sequence[npt.ArrayLike],
    metric: str = "auc",
    samples: int = 1000,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> list[Vector]:
    """The metric of several models in each bootstrap sample; all meet the same resampled rows.

    Args:
        labels: The truth (n,), as for :func:`paired_bootstrap`.
        models: Scores (n,) or (n, k) of each model.
        metric: As for :func:`paired_bootstrap`.
        samples: Bootstrap samples.
        seed: Of the samples.
        groups: As for :func:`paired_bootstrap`.

    Returns:
        Values (samples,) for each model; NaN where a sample holds one class alone.
    """
    if samples < 1:
        raise SpecificationError(f"[bootstrap] samples must be positive; got {samples}.")
    measures = [measure(metric, labels, scores) for scores in models]
    rows = len(np.asarray(labels))
    values = [np.empty(samples) for _ in models]
    for start, weights in _resampled_weights(rows, samples, seed, groups):
        for value, weighted in zip(values, measures, strict=True):
            value[start : start + len(weights)] = weighted(weights)
    return values


def percentile_interval(values: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """The middle part of bootstrap values; NaN (from a sample of one class) says nothing and is left out.

    Example:
        >>> percentile_interval(np.arange(101.0), 0.5)
        (25.0, 75.0)
    """
    if not 0 < confidence < 1:
        raise SpecificationError(f"[bootstrap] confidence must lie in (0, 1); got {confidence}.")
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    outside = (1.0 - confidence) / 2
    low, high = np.quantile(known, [outside, 1.0 - outside]) if known.size else (math.nan, math.nan)
    return float(low), float(high)


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
