"""Compare a window with training: which columns have moved, by how much, and whether that is drift.

Enters: the statistics of a window, a reference, a policy, and labels where they are known by now. Leaves: a
:class:`Comparison`, a pure function of these. The formulas are those of :mod:`mxpipe.data.drift`, the metrics
those of :mod:`mxpipe.train`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mxpipe.data.drift import (
    Bins,
    chi_square,
    kolmogorov_smirnov,
    population_stability_index,
    same_kind,
    shared_bins,
)
from mxpipe.data.statistics import Statistics
from mxpipe.errors import DataError, SpecificationError
from mxpipe.monitor.statistics import PredictionStatistics
from mxpipe.train.evaluation import IS_MORE_BETTER
from mxpipe.train.tasks import evaluate_task

if TYPE_CHECKING:
    from mxpipe.data import Snapshot
    from mxpipe.model import Model

TRAIN_STATISTICS, TRAIN_PREDICTIONS = "train_statistics", "train_predictions"  # in a model's metadata


@dataclass(frozen=True)
class Reference:
    """What a window is compared with.

    Attributes:
        inputs: Statistics of the columns that the model was trained on.
        predictions: Statistics of its predictions for training rows; empty where they are not known.
        source: Digest of the training snapshot.
    """

    inputs: Statistics
    predictions: Statistics
    source: str | None = None

    @classmethod
    def of_model(cls, model: Model) -> Reference:
        """What the model's own folder says of its training.

        Raises:
            DataError: It was saved without training statistics.
        """
        metadata = model.metadata
        if TRAIN_STATISTICS not in metadata:
            raise DataError(
                f"[model {model.path}] its metadata must hold {TRAIN_STATISTICS!r} to compare with; got none:"
                " compare with its training snapshot instead."
            )
        return cls(
            Statistics.from_json(metadata[TRAIN_STATISTICS]),
            Statistics.from_json(metadata.get(TRAIN_PREDICTIONS, {})),
            metadata.get("train_snapshot_digest"),
        )

    @classmethod
    def of_snapshot(cls, snapshot: Snapshot) -> Reference:
        """A snapshot's columns, without predictions: for models that do not know their training."""
        return cls(snapshot.statistics, Statistics({}), snapshot.digest)


@dataclass(frozen=True)
class MonitorPolicy:
    """When a window counts as drifted.

    A column has drifted when its PSI lies above its limit, or its Kolmogorov-Smirnov distance above ``ks``,
    and the test of its kind (Kolmogorov-Smirnov for numbers, chi-square for categories) rejects chance at
    ``significance``. A window has drifted when enough columns have, when a prediction has, or when a metric
    over the labels known by now is beyond its bound.

    Attributes:
        minimum_rows: With fewer rows nothing is said; of labelled rows too.
        psi: Limit of the PSI.
        psi_columns: Limits of single columns.
        ks: Limit of the Kolmogorov-Smirnov distance of numbers; None leaves the PSI alone to say.
        significance: Greatest p-value.
        columns: Inputs to compare; all that both sides have when None.
        predictions: Whether the predictions are compared.
        minimum_columns: So many inputs must have drifted.
        performance: Bounds by metric (auc, log_loss, brier, accuracy, mae, rmse): the least value where more
            is better, else the greatest.
        cool_down_days: Least time between the ends of two windows that make an event.
        keep_days: A look at a window removes statistics and kept predictions of windows that began so long
            before it; None keeps them.

    Example:
        >>> MonitorPolicy.from_json({"psi": 0.2, "performance": {"auc": 0.65}}).cool_down
        datetime.timedelta(0)
    """

    minimum_rows: int = 1000
    psi: float = 0.25
    psi_columns: Mapping[str, float] = field(default_factory=dict)
    ks: float | None = None
    significance: float = 0.001
    columns: Sequence[str] | None = None
    predictions: bool = True
    minimum_columns: int = 1
    performance: Mapping[str, float] = field(default_factory=dict)
    cool_down_days: float = 0.0
    keep_days: float | None = None

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.performance) - set(IS_MORE_BETTER)):
            known = ", ".join(IS_MORE_BETTER)
            raise SpecificationError(f"[monitor] performance must bound {known} only; got {unknown}.")
        for name, least in (("minimum_rows", 1), ("minimum_columns", 1), ("cool_down_days", 0)):
            if getattr(self, name) < least:
                raise SpecificationError(
                    f"[monitor] {name} must be at least {least}; got {getattr(self, name)}."
                )

    @property
    def cool_down(self) -> timedelta:
        """``cool_down_days`` as a span of time."""
        return timedelta(days=self.cool_down_days)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MonitorPolicy:
        """A policy from a dictionary.

        Raises:
            SpecificationError: A field is unknown, or does not make sense.
        """
        try:
            return cls(**value)
        except TypeError as error:
            raise SpecificationError(
                f"[monitor] a policy must have the documented fields; got {error}."
            ) from error


class Verdict(StrEnum):
    """What a window says."""

    STABLE = "stable"
    DRIFT = "drift"
    TOO_FEW_ROWS = "too_few_rows"


@dataclass(frozen=True)
class ColumnDrift:
    """How far one column has moved.

    Attributes:
        name: The column.
        role: "input" or "prediction".
        psi: Population stability index.
        limit: Its limit.
        test: "kolmogorov_smirnov" or "chi_square".
        statistic: The test's statistic.
        p_value: Its p-value.
        drifted: Whether that is drift by the policy.
        bins: What was counted, for plots.
    """

    name: str
    role: str
    psi: float
    limit: float
    test: str
    statistic: float
    p_value: float
    drifted: bool
    bins: Bins

    def __str__(self) -> str:
        kind = "KS distance" if self.test == "kolmogorov_smirnov" else "chi-square"
        return (
            f"{self.role} {self.name!r}: PSI {self.psi:.3f} (limit {self.limit:g}), "
            f"{kind} {self.statistic:.4g}, p {self.p_value:.2g}"
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        bins = {
            "kind": self.bins.kind,
            "labels": list(self.bins.labels),
            "expected": self.bins.expected.tolist(),
            "observed": self.bins.observed.tolist(),
        }
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return plain | {"bins": bins}


@dataclass(frozen=True)
class Comparison:
    """A window against its reference.

    Attributes:
        verdict: What it says.
        reasons: Why, in words.
        rows: Rows predicted in the window.
        failed: Rows with an error in place of a prediction.
        dropped: Rows that were not counted.
        columns: All compared columns, inputs first, the greatest PSI first.
        performance: Metrics over the labels known by now; None without labels.
        reference: Digest of the training snapshot.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    rows: int
    failed: int
    dropped: int
    columns: tuple[ColumnDrift, ...]
    performance: Mapping[str, float | None] | None
    reference: str | None

    @property
    def drifted(self) -> dict[str, float]:
        """PSI of the columns that have drifted."""
        return {column.name: round(column.psi, 4) for column in self.columns if column.drifted}

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        return {
            "verdict": str(self.verdict),
            "reasons": list(self.reasons),
            "rows": self.rows,
            "failed": self.failed,
            "dropped": self.dropped,
            "columns": [column.to_json() for column in self.columns],
            "performance": None if self.performance is None else dict(self.performance),
            "reference": self.reference,
        }


@dataclass(frozen=True)
class Labelled:
    """Rows of a window whose label is known by now.

    Attributes:
        labels: The truth, shape (n,).
        predictions: What was predicted, shape (n,) or (n, outputs).
        task: binary, classes or regression; see :func:`mxpipe.train.tasks.evaluate_task`.
    """

    labels: npt.ArrayLike
    predictions: npt.ArrayLike
    task: str = "binary"

    def metrics(self) -> dict[str, float | None]:
        """All metrics of the task; what is not defined is None.

        Raises:
            DataError: Labels or predictions do not suit the task.
        """
        predictions = np.asarray(self.predictions, dtype=np.float64)
        if self.task != "classes":
            predictions = predictions.reshape(-1)
        return dict(evaluate_task(self.task, self.labels, predictions).to_json()["metrics"])


def compare(
    current: PredictionStatistics,
    reference: Reference,
    policy: MonitorPolicy,
    labelled: Labelled | None = None,
) -> Comparison:
    """Compare a window's statistics with training.

    Args:
        current: Statistics of the window.
        reference: Training.
        policy: When it is drift.
        labelled: Rows whose label is known by now.

    Raises:
        DataError: A column that the policy names is missing on a side, or the labels do not fit.
    """
    columns = [
        *_compare_columns("input", current, current.inputs, reference.inputs, policy, policy.columns),
        *(
            _compare_columns("prediction", current, current.predictions, reference.predictions, policy, None)
            if policy.predictions
            else ()
        ),
    ]
    columns.sort(key=lambda column: (column.role, -column.psi, column.name))
    performance = labelled.metrics() if labelled is not None and np.size(labelled.labels) else None
    reasons: list[str] = []
    verdict = Verdict.STABLE
    if current.rows < policy.minimum_rows:
        columns = [dataclasses.replace(column, drifted=False) for column in columns]
    else:
        reasons += _drift_reasons(columns, policy)
    reasons += _performance_reasons(performance, policy)
    if reasons:
        verdict = Verdict.DRIFT
    elif current.rows < policy.minimum_rows:
        verdict = Verdict.TOO_FEW_ROWS
        reasons = [f"{current.rows} rows, of the {policy.minimum_rows} that it takes to say anything"]
    return Comparison(
        verdict,
        tuple(reasons),
        current.rows,
        current.failed,
        current.dropped,
        tuple(columns),
        performance,
        reference.source,
    )


def _compare_columns(
    role: str,
    current: PredictionStatistics,
    observed: Statistics,
    expected: Statistics,
    policy: MonitorPolicy,
    wanted: Sequence[str] | None,
) -> list[ColumnDrift]:
    names = wanted if wanted is not None else [name for name in observed if name in expected]
    found = []
    for name in names:
        now, before = observed[name], expected[name]
        if not same_kind(now, before):
            raise DataError(
                f"[monitor] column {name!r} must be of the reference's kind, {before.type}; got {now.type}."
            )
        bins = shared_bins(before, now, partial(current.histogram, name))
        if bins is not None:
            found.append(_column_drift(name, role, bins, policy))
    return found


def _column_drift(name: str, role: str, bins: Bins, policy: MonitorPolicy) -> ColumnDrift:
    psi = population_stability_index(bins.expected, bins.observed)
    limit = policy.psi_columns.get(name, policy.psi)
    # Missing values have no place among ordered numbers; the PSI speaks of them.
    present = slice(1, None) if bins.kind == "numbers" else slice(None)
    test = kolmogorov_smirnov if bins.kind == "numbers" else chi_square
    result = test(bins.expected[present], bins.observed[present])
    far = bins.kind == "numbers" and policy.ks is not None and result.statistic > policy.ks
    missing = chi_square(_with_and_without(bins.expected), _with_and_without(bins.observed)).p_value
    beyond_chance = min(result.p_value, missing) < policy.significance
    drifted = beyond_chance and (psi > limit or far)
    return ColumnDrift(name, role, psi, limit, result.name, result.statistic, result.p_value, drifted, bins)


def _with_and_without(counts: npt.NDArray[np.float64]) -> list[float]:
    return [float(counts[0]), float(counts[1:].sum())]


def _drift_reasons(columns: Sequence[ColumnDrift], policy: MonitorPolicy) -> list[str]:
    inputs = [str(column) for column in columns if column.drifted and column.role == "input"]
    outputs = [str(column) for column in columns if column.drifted and column.role == "prediction"]
    return [*(inputs if len(inputs) >= policy.minimum_columns else ()), *outputs]


def _performance_reasons(performance: Mapping[str, float | None] | None, policy: MonitorPolicy) -> list[str]:
    if performance is None or (performance["rows"] or 0) < policy.minimum_rows:
        return []
    reasons = []
    for metric, bound in policy.performance.items():
        value = performance.get(metric)
        if value is None or math.isnan(value):
            continue
        more = IS_MORE_BETTER[metric]
        if value < bound if more else value > bound:
            must = "at least" if more else "at most"
            reasons.append(f"{metric} {value:.4f} over {performance['rows']} labelled rows, {must} {bound:g}")
    return reasons
