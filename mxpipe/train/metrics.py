"""Metrics of predictions, exactly: of probabilities, of classes and of numbers.

Pure functions over NumPy, which evaluations and bootstraps are made of. A metric that is not defined (the AUC
of rows of one class) is NaN.

===========  =====================  =================================================================
task         scores of n rows       metrics
===========  =====================  =================================================================
binary       probability (n,)       auc, log_loss, brier, accuracy; labels are 0 or 1
classes      probabilities (n, k)   log_loss, brier, accuracy; labels are 0 to k - 1
regression   number (n,)            mae, rmse; labels are any finite numbers
===========  =====================  =================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mxpipe.errors import DataError, SpecificationError

Vector = npt.NDArray[np.float64]

# Whether more is better, for each metric by its name.
IS_MORE_BETTER = {
    "auc": True,
    "log_loss": False,
    "brier": False,
    "accuracy": True,
    "mae": False,
    "rmse": False,
}

# Models give float32: a probability of exactly 0 or 1 stands for anything within its precision.
_SMALLEST = float(np.finfo(np.float32).eps)


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
    truth, values = checked(labels, scores)
    area = SortedScores(truth, values).areas(np.ones((1, truth.size)))
    return float(area[0])


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean negative log likelihood in nats; probabilities are kept 1.2e-7 away from 0 and 1.

    Example:
        >>> round(log_loss([0, 1], [0.5, 0.5]), 4)
        0.6931
    """
    return float(log_losses(*checked_probabilities(labels, probabilities)).mean())


def brier(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean squared distance of the probability from what happened.

    Example:
        >>> brier([0, 1], [0.0, 0.5])
        0.125
    """
    return float(squared_errors(*checked_probabilities(labels, probabilities)).mean())


def metric_value(metric: str, labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """A metric by its name: one of those in the table at the top.

    Raises:
        SpecificationError: There is no such metric.
        DataError: Labels or scores do not suit it.

    Example:
        >>> metric_value("mae", [1.0, 3.0], [2.0, 3.0])
        0.5
        >>> metric_value("accuracy", [0, 2], [[0.9, 0.1, 0.0], [0.2, 0.5, 0.3]])
        0.5
    """
    rows = np.shape(labels)[:1]
    return float(measure(metric, labels, scores)(np.ones((1, *rows)))[0])


def measure(metric: str, labels: npt.ArrayLike, scores: npt.ArrayLike) -> Callable[[Vector], Vector]:
    """A metric of the same rows under many weightings: weights (k, n) to values (k,).

    Raises:
        SpecificationError: There is no such metric.
        DataError: Labels or scores do not suit it.
    """
    require_metric(metric)
    if metric == "auc":
        return SortedScores(*checked(labels, scores)).areas
    if metric in ("mae", "rmse"):
        truth, numbers = checked_numbers(labels, scores)
        errors = numbers - truth
        return WeightedMean(np.abs(errors)) if metric == "mae" else WeightedMean(np.square(errors), np.sqrt)
    if np.ndim(scores) == 2:
        classes, shares = checked_classes(labels, scores)
        own = shares[np.arange(classes.size), classes]
        if metric == "log_loss":
            return WeightedMean(-np.log(np.clip(own, _SMALLEST, 1.0)))
        if metric == "brier":
            return WeightedMean(np.square(shares).sum(axis=1) - 2 * own + 1)
        return WeightedMean((shares.argmax(axis=1) == classes).astype(np.float64))
    truth, values = checked_probabilities(labels, scores)
    if metric == "accuracy":
        return WeightedMean(((values >= 0.5) == (truth == 1.0)).astype(np.float64))
    return WeightedMean(log_losses(truth, values) if metric == "log_loss" else squared_errors(truth, values))


class WeightedMean:
    """The mean of a quantity of the rows, for many weightings of them, and a function of it."""

    def __init__(self, quantity: Vector, function: Callable[[Any], Any] = np.asarray) -> None:
        self._quantity = quantity
        self._function = function

    def __call__(self, weights: Vector) -> Vector:
        """The value for each row of weights (k, n): (k,)."""
        return np.asarray(self._function(weights @ self._quantity / weights.sum(axis=1)))


class SortedScores:
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


def log_losses(labels: Vector, probabilities: Vector) -> Vector:
    """Negative log likelihood of each row, in nats."""
    inside = np.clip(probabilities, _SMALLEST, 1.0 - _SMALLEST)
    return np.where(labels == 1.0, -np.log(inside), -np.log1p(-inside))


def squared_errors(labels: Vector, probabilities: Vector) -> Vector:
    """Squared distance of each row's probability from its label."""
    return np.square(probabilities - labels)


def require_metric(metric: str) -> None:
    """Raise SpecificationError where there is no such metric."""
    if metric not in IS_MORE_BETTER:
        raise SpecificationError(
            f"[evaluation] metric must be one of {', '.join(IS_MORE_BETTER)}; got {metric!r}."
        )


def checked(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Vector, Vector]:
    """Both as float64 vectors; DataError where they are no labels and finite scores of the same rows."""
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


def checked_probabilities(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Vector, Vector]:
    """As :func:`checked`, for scores that must lie in [0, 1]."""
    truth, values = checked(labels, probabilities)
    outside = (values < 0.0) | (values > 1.0)
    if outside.any():
        raise DataError(f"[evaluation] probabilities must lie in [0, 1]; got {values[outside][0]}.")
    return truth, values


def checked_numbers(labels: npt.ArrayLike, predictions: npt.ArrayLike) -> tuple[Vector, Vector]:
    """Both as float64 vectors; DataError where they are no finite numbers of the same rows."""
    truth = np.asarray(labels, dtype=np.float64)
    values = np.asarray(predictions, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape or not truth.size:
        raise DataError(
            "[evaluation] labels and predictions must be vectors of one length, not empty; "
            f"got shapes {truth.shape} and {values.shape}."
        )
    for name, vector in (("labels", truth), ("predictions", values)):
        if not np.isfinite(vector).all():
            raise DataError(f"[evaluation] {name} must be finite; got {vector[~np.isfinite(vector)][0]}.")
    return truth, values


def checked_classes(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Classes int64 (n,) and probabilities float64 (n, k); DataError where they are none."""
    truth = np.asarray(labels, dtype=np.float64)
    values = np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or values.ndim != 2 or len(truth) != len(values) or not truth.size:
        raise DataError(
            "[evaluation] labels (n,) and probabilities (n, k) of the same rows must be given, not empty; "
            f"got shapes {truth.shape} and {values.shape}."
        )
    outside = ~((truth >= 0) & (truth < values.shape[1]) & (truth == np.floor(truth)))
    if outside.any():
        raise DataError(
            f"[evaluation] labels must be classes from 0 to {values.shape[1] - 1}; got {truth[outside][0]}."
        )
    wrong = ~((values >= 0.0) & (values <= 1.0))
    if wrong.any():
        raise DataError(f"[evaluation] probabilities must lie in [0, 1]; got {values[wrong][0]}.")
    return truth.astype(np.int64), values


def or_null(value: Any) -> Any:
    """The value, or None where it is a float that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
