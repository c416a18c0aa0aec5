"""Evaluation by task: probabilities of one event, of several classes, or numbers.

Enters: the name of a task, labels and scores of the same rows, as NumPy arrays. Leaves: metrics, slices, and
the digest of the labels. Called by evaluation stages and reports. :mod:`mxpipe.train.evaluation` judges
probabilities of one event, with their calibration; here are the other two, and the choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mxpipe.errors import DataError, SpecificationError
from mxpipe.train import evaluation
from mxpipe.train.evaluation import Evaluation
from mxpipe.train.metrics import checked_classes, checked_numbers, metric_value, or_null

DEFAULT_METRICS = {"binary": "auc", "classes": "log_loss", "regression": "mae"}
"""The tasks, and what models of each are compared by unless it is said."""

_OF_CLASSES = ("accuracy", "log_loss", "brier")


@dataclass(frozen=True)
class TaskEvaluation:
    """How good a model is on a set of rows.

    Attributes:
        metrics: By name; see :func:`evaluate_classes` and :func:`evaluate_regression`.
        slices: For each column to slice by, the metrics of each value, the most frequent value first.
        labels_digest: SHA-256 of the labels in their order. Evaluations of the same rows have the same.
        confusion: Rows by true (first) and most probable class, (k, k); None for numbers.
    """

    metrics: Mapping[str, float]
    slices: Mapping[str, tuple[Mapping[str, Any], ...]]
    labels_digest: str
    confusion: tuple[tuple[int, ...], ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary; what is not defined is null."""
        return {
            "metrics": _json(self.metrics),
            "slices": {name: [_json(item) for item in items] for name, items in self.slices.items()},
            "labels_digest": self.labels_digest,
            **({} if self.confusion is None else {"confusion": [list(row) for row in self.confusion]}),
        }


def evaluate_task(
    task: str,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    slices: Mapping[str, npt.ArrayLike] | None = None,
    minimum_slice_rows: int = 100,
    baseline: npt.ArrayLike | None = None,
) -> Evaluation | TaskEvaluation:
    """All metrics of a model on one set of rows.

    Args:
        task: binary, classes or regression.
        labels: The truth (n,).
        scores: Probabilities (n,), probabilities (n, k), or numbers (n,), by task.
        slices: Values (n,) by column to slice by.
        minimum_slice_rows: Values with fewer rows say little, and are left out.
        baseline: Numbers (n,) of a forecast that costs nothing, for regression alone.

    Raises:
        SpecificationError: There is no such task, or it knows no baseline.
        DataError: Labels or scores do not suit the task.

    Example:
        >>> evaluate_task("regression", [1.0, 2.0], [1.5, 2.0], baseline=[0.0, 1.0]).metrics["skill"]
        0.75
    """
    if task not in DEFAULT_METRICS:
        raise SpecificationError(f"[evaluation] task must be one of {sorted(DEFAULT_METRICS)}; got {task!r}.")
    if task == "regression":
        return evaluate_regression(labels, scores, slices, minimum_slice_rows, baseline)
    if baseline is not None:
        raise SpecificationError(f"[evaluation] a baseline must come with regression; got task {task!r}.")
    judge = evaluation.evaluate if task == "binary" else evaluate_classes
    return judge(labels, scores, slices, minimum_slice_rows)


def evaluate_classes(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    slices: Mapping[str, npt.ArrayLike] | None = None,
    minimum_slice_rows: int = 100,
) -> TaskEvaluation:
    """Judge probabilities of k classes: rows, accuracy, log_loss, brier, and the confusion of classes.

    Args:
        labels: Classes from 0 to k - 1 (n,).
        probabilities: In [0, 1] (n, k).
        slices: Values (n,) by column to slice by.
        minimum_slice_rows: Values with fewer rows are left out.

    Raises:
        DataError: Labels or probabilities are none.

    Example:
        >>> result = evaluate_classes([0, 1, 1], [[0.8, 0.2], [0.4, 0.6], [0.7, 0.3]])
        >>> round(result.metrics["accuracy"], 3), result.confusion
        (0.667, ((1, 0), (1, 1)))
    """
    classes, shares = checked_classes(labels, probabilities)

    def judge(inside: Any) -> dict[str, float]:
        y, p = classes[inside], shares[inside]
        return {"rows": y.size} | {
            name: metric_value(name, y, p) for name in ("accuracy", "log_loss", "brier")
        }

    k = shares.shape[1]
    confusion = np.bincount(classes * k + shares.argmax(axis=1), minlength=k * k).reshape(k, k)
    return TaskEvaluation(
        metrics=judge(slice(None)),
        slices=_sliced(judge, classes.size, slices, minimum_slice_rows),
        labels_digest=hashlib.sha256(classes.astype("<i8").tobytes()).hexdigest(),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
    )


def evaluate_regression(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    slices: Mapping[str, npt.ArrayLike] | None = None,
    minimum_slice_rows: int = 100,
    baseline: npt.ArrayLike | None = None,
) -> TaskEvaluation:
    """Judge numbers: rows, label and prediction (means), mae, rmse, bias, r2, and the skill over a baseline.

    ``bias`` is the mean error, ``r2`` the share of the labels' variance that is explained, ``skill`` is
    1 - mae / mae of the baseline (Murphy 1988): 0 is as good as the baseline, 1 perfect.

    Args:
        labels: Finite numbers (n,).
        predictions: Finite numbers (n,).
        slices: Values (n,) by column to slice by.
        minimum_slice_rows: Values with fewer rows are left out.
        baseline: Numbers (n,) of a forecast that costs nothing, such as the value of a week before.

    Raises:
        DataError: Something is not finite, or of other rows.

    Example:
        >>> metrics = evaluate_regression([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]).metrics
        >>> round(metrics["mae"], 3), round(metrics["bias"], 3), metrics["r2"]
        (0.333, 0.333, 0.5)
    """
    truth, values = checked_numbers(labels, predictions)
    free = None if baseline is None else checked_numbers(labels, baseline)[1]

    def judge(inside: Any) -> dict[str, float]:
        y, p = truth[inside], values[inside]
        spread = float(np.square(y - y.mean()).sum())
        metrics = {
            "rows": y.size,
            "label": float(y.mean()),
            "prediction": float(p.mean()),
            "mae": metric_value("mae", y, p),
            "rmse": metric_value("rmse", y, p),
            "bias": float((p - y).mean()),
            "r2": 1.0 - float(np.square(p - y).sum()) / spread if spread else float("nan"),
        }
        if free is not None:
            theirs = metric_value("mae", y, free[inside])
            metrics["baseline_mae"] = theirs
            metrics["skill"] = 1.0 - metrics["mae"] / theirs if theirs else float("nan")
        return metrics

    return TaskEvaluation(
        metrics=judge(slice(None)),
        slices=_sliced(judge, truth.size, slices, minimum_slice_rows),
        labels_digest=hashlib.sha256(truth.astype("<f8").tobytes()).hexdigest(),
    )


def _sliced(
    judge: Any, rows: int, slices: Mapping[str, npt.ArrayLike] | None, minimum_rows: int
) -> dict[str, tuple[Mapping[str, Any], ...]]:
    """What `judge` says of the rows of each value of each column."""
    found: dict[str, tuple[Mapping[str, Any], ...]] = {}
    for name, column in (slices or {}).items():
        given = np.asarray(column)
        if given.shape != (rows,):
            raise DataError(f"[evaluation] slice {name!r} must have {rows} values; got shape {given.shape}.")
        values, position, counts = np.unique(given, return_inverse=True, return_counts=True)
        ranked = [index for index in np.argsort(-counts, kind="stable") if counts[index] >= minimum_rows]
        found[name] = tuple({"value": str(values[index]), **judge(position == index)} for index in ranked)
    return found


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: or_null(value) for name, value in values.items()}
