"""Metrics: how good predictions are, accumulated over batches in double precision.

`metric.update(labels, preds)` takes arrays (or lists of them), `metric.get()` gives (name, value).

Example:
    >>> import mxpipe as mx
    >>> metric = mx.gluon.metric.Accuracy()
    >>> metric.update(mx.np.array([0, 1, 1]), mx.np.array([[0.3, 0.7], [0.0, 1.0], [0.4, 0.6]]))
    >>> metric.get()
    ('accuracy', 0.6666666666666666)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from mxpipe._native import Array
from mxpipe.errors import OperatorError, SpecificationError

__all__ = [
    "AUC",
    "F1",
    "MAE",
    "MSE",
    "RMSE",
    "Accuracy",
    "BinaryAccuracy",
    "CompositeEvalMetric",
    "CrossEntropy",
    "CustomMetric",
    "EvalMetric",
    "LogLoss",
    "Loss",
    "TopKAccuracy",
    "create",
    "register",
]

_registry: dict[str, type[EvalMetric]] = {}


def _arrays(values: Any) -> list[numpy.ndarray[Any, Any]]:
    """One array, or a list of arrays, as NumPy arrays."""
    parts = values if isinstance(values, list | tuple) else [values]
    return [part.asnumpy() if isinstance(part, Array) else numpy.asarray(part) for part in parts]


def _pairs(name: str, labels: Any, preds: Any) -> list[tuple[Any, Any]]:
    label_list, pred_list = _arrays(labels), _arrays(preds)
    if len(label_list) != len(pred_list):
        raise OperatorError(
            f"[{name}] labels and preds must be lists of one length; "
            f"got {len(label_list)} and {len(pred_list)}."
        )
    return list(zip(label_list, pred_list, strict=True))


def _same_size(name: str, label: Any, pred: Any) -> tuple[Any, Any]:
    """Both as flat float64 arrays."""
    if label.size != pred.size:
        raise OperatorError(
            f"[{name}] label and pred must have as many elements; got shapes {label.shape} and {pred.shape}."
        )
    return label.reshape(-1).astype(numpy.float64), pred.reshape(-1).astype(numpy.float64)


class EvalMetric:
    """Base of all metrics: a sum over samples, divided by their number.

    Args:
        name: How it is shown.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forget all updates."""
        self.sum_metric = 0.0
        self.num_inst = 0

    def update(self, labels: Any, preds: Any) -> None:
        """Add a batch.

        Args:
            labels: Array of labels, or a list of arrays.
            preds: Array of predictions, or a list as long as that of labels.
        """
        for label, pred in _pairs(self.name, labels, preds):
            self._add(label, pred)

    def _add(self, label: Any, pred: Any) -> None:
        raise NotImplementedError

    def get(self) -> tuple[Any, Any]:
        """Name and present value, nan before the first update."""
        return self.name, self.sum_metric / self.num_inst if self.num_inst else math.nan

    def get_name_value(self) -> list[tuple[str, float]]:
        """Names and values as a list of pairs."""
        name, value = self.get()
        return list(zip(name, value, strict=True)) if isinstance(name, list) else [(name, value)]

    def __repr__(self) -> str:
        return ", ".join(f"{name}={value:.6g}" for name, value in self.get_name_value())


def register(*aliases: str) -> Callable[[type[EvalMetric]], type[EvalMetric]]:
    """Class decorator: make a metric known to `create` by its name in lower case and by aliases."""

    def add(kind: type[EvalMetric]) -> type[EvalMetric]:
        for name in (kind.__name__.lower(), *aliases):
            _registry[name] = kind
        return kind

    return add


def create(metric: Any, **arguments: Any) -> EvalMetric:
    """A metric from a name, a function of (label, pred), a list of such, or a metric itself.

    Raises:
        SpecificationError: No metric has this name.

    Example:
        >>> create(["acc", "log_loss"]).get()
        (['accuracy', 'log_loss'], [nan, nan])
    """
    if isinstance(metric, EvalMetric):
        return metric
    if isinstance(metric, list | tuple):
        return CompositeEvalMetric([create(item, **arguments) for item in metric])
    if callable(metric):
        return CustomMetric(metric, **arguments)
    if str(metric).lower() not in _registry:
        raise SpecificationError(f"[metric] must be one of {', '.join(sorted(_registry))}; got {metric!r}.")
    return _registry[str(metric).lower()](**arguments)


@register("composite")
class CompositeEvalMetric(EvalMetric):
    """Several metrics on the same batches.

    Args:
        metrics: Metrics, or what `create` takes for them.
        name: How it is shown.
    """

    def __init__(self, metrics: Sequence[Any] | None = None, name: str = "composite") -> None:
        self.metrics = [create(metric) for metric in metrics or ()]
        super().__init__(name)

    def add(self, metric: Any) -> None:
        """Add a metric."""
        self.metrics.append(create(metric))

    def get_metric(self, index: int) -> EvalMetric:
        """One of the metrics, by number."""
        return self.metrics[index]

    def reset(self) -> None:
        """Forget all updates."""
        for metric in self.metrics:
            metric.reset()

    def update(self, labels: Any, preds: Any) -> None:
        """Add a batch to each."""
        labels, preds = _arrays(labels), _arrays(preds)
        for metric in self.metrics:
            metric.update(labels, preds)

    def get(self) -> tuple[list[str], list[float]]:
        """Lists of names and of values."""
        pairs = [pair for metric in self.metrics for pair in metric.get_name_value()]
        return [name for name, _ in pairs], [value for _, value in pairs]


@register("acc")
class Accuracy(EvalMetric):
    """Share of samples whose class is predicted.

    Args:
        axis: Axis of the classes where preds hold scores; preds of the labels' shape hold classes.
        name: How it is shown.
    """

    def __init__(self, axis: int = -1, name: str = "accuracy") -> None:
        super().__init__(name)
        self.axis = axis

    def _add(self, label: Any, pred: Any) -> None:
        if pred.shape != label.shape:
            if pred.ndim == 0 or pred.shape[self.axis] < 2:
                raise OperatorError(
                    f"[{self.name}] preds must hold scores of two classes or more; got shape {pred.shape}. "
                    "For one score a sample there is BinaryAccuracy."
                )
            pred = pred.argmax(axis=self.axis)
        label, pred = _same_size(self.name, label, pred)
        if (pred != numpy.floor(pred)).any():
            raise OperatorError(
                f"[{self.name}] preds of the labels' shape must be classes; got fractions. "
                "For one score a sample there is BinaryAccuracy."
            )
        self.sum_metric += float((label == pred).sum())
        self.num_inst += label.size


@register("binary_accuracy")
class BinaryAccuracy(EvalMetric):
    """Share of samples on the right side of a threshold; labels are 0 and 1.

    Args:
        threshold: Predictions above it count as 1: 0.5 for probabilities, 0 for logits.
        name: How it is shown.
    """

    def __init__(self, threshold: float = 0.5, name: str = "binary_accuracy") -> None:
        super().__init__(name)
        self.threshold = threshold

    def _add(self, label: Any, pred: Any) -> None:
        label, pred = _same_size(self.name, label, pred)
        self.sum_metric += float((label == (pred > self.threshold)).sum())
        self.num_inst += label.size


@register()
class F1(EvalMetric):
    """Harmonic mean of precision and recall of label 1, over all samples; labels are 0 and 1.

    Args:
        threshold: Predictions above it count as 1; preds with two columns hold the scores of 0 and 1.
        name: How it is shown.
    """

    def __init__(self, threshold: float = 0.5, name: str = "f1") -> None:
        super().__init__(name)
        self.threshold = threshold

    def _add(self, label: Any, pred: Any) -> None:
        if pred.ndim == 2 and pred.shape[1] == 2 and label.size == pred.shape[0]:
            pred = pred.argmax(axis=1)
        label, pred = _same_size(self.name, label, pred)
        found, positive = pred > self.threshold, label == 1.0
        self.sum_metric += 2.0 * float((found & positive).sum())
        self.num_inst += int(found.sum()) + int(positive.sum())

    def get(self) -> tuple[str, float]:
        """Name and present value, 0 while there is no positive, true or predicted."""
        return self.name, self.sum_metric / self.num_inst if self.num_inst else 0.0


@register("top_k_accuracy", "top_k_acc")
class TopKAccuracy(EvalMetric):
    """Share of samples whose class is among the k highest scores.

    Args:
        top_k: k. Of equal scores, those of lower classes come first.
        name: How it is shown; the k is appended.
    """

    def __init__(self, top_k: int = 1, name: str = "top_k_accuracy") -> None:
        super().__init__(f"{name}_{top_k}")
        self.top_k = top_k

    def _add(self, label: Any, pred: Any) -> None:
        if pred.ndim != 2 or label.shape != pred.shape[:1]:
            raise OperatorError(
                f"[{self.name}] label must be (n,) and pred (n, classes); got {label.shape} and {pred.shape}."
            )
        best = numpy.argsort(-pred.astype(numpy.float64), axis=1, kind="stable")[:, : self.top_k]
        self.sum_metric += float((best == label[:, None]).any(axis=1).sum())
        self.num_inst += label.size


@register()
class MAE(EvalMetric):
    """Mean absolute error."""

    def __init__(self, name: str = "mae") -> None:
        super().__init__(name)

    def _add(self, label: Any, pred: Any) -> None:
        label, pred = _same_size(self.name, label, pred)
        self.sum_metric += float(numpy.abs(label - pred).sum())
        self.num_inst += label.size


@register()
class MSE(EvalMetric):
    """Mean squared error."""

    def __init__(self, name: str = "mse") -> None:
        super().__init__(name)

    def _add(self, label: Any, pred: Any) -> None:
        label, pred = _same_size(self.name, label, pred)
        self.sum_metric += float(numpy.square(label - pred).sum())
        self.num_inst += label.size


@register()
class RMSE(MSE):
    """Root of the mean squared error over all samples."""

    def __init__(self, name: str = "rmse") -> None:
        super().__init__(name)

    def get(self) -> tuple[str, float]:
        """Name and present value."""
        name, value = super().get()
        return name, math.sqrt(value)


@register("cross-entropy", "ce")
class CrossEntropy(EvalMetric):
    """Mean of -log(probability of the class).

    Args:
        eps: Lower bound of a probability, so that one wrong certainty does not make it infinite.
        name: How it is shown.
    """

    def __init__(self, eps: float = 1e-12, name: str = "cross-entropy") -> None:
        super().__init__(name)
        self.eps = eps

    def _add(self, label: Any, pred: Any) -> None:
        classes = label.reshape(-1).astype(numpy.int64)
        scores = pred.reshape(-1, pred.shape[-1]).astype(numpy.float64)
        if classes.shape[0] != scores.shape[0]:
            raise OperatorError(
                f"[{self.name}] pred must have label's shape and an axis of classes; "
                f"got {pred.shape} and {label.shape}."
            )
        chosen = scores[numpy.arange(classes.size), classes]
        self.sum_metric += float(-numpy.log(numpy.maximum(chosen, self.eps)).sum())
        self.num_inst += classes.size


@register("log_loss")
class LogLoss(EvalMetric):
    """Mean cross-entropy of labels 0 and 1.

    Args:
        from_logits: Whether predictions are logits instead of probabilities.
        eps: Bound of a probability away from 0 and 1.
        name: How it is shown.
    """

    def __init__(self, from_logits: bool = False, eps: float = 1e-15, name: str = "log_loss") -> None:
        super().__init__(name)
        self.from_logits = from_logits
        self.eps = eps

    def _add(self, label: Any, pred: Any) -> None:
        label, pred = _same_size(self.name, label, pred)
        if self.from_logits:
            loss = numpy.logaddexp(0.0, pred) - pred * label
        else:
            pred = numpy.clip(pred, self.eps, 1.0 - self.eps)
            loss = -(label * numpy.log(pred) + (1.0 - label) * numpy.log1p(-pred))
        self.sum_metric += float(loss.sum())
        self.num_inst += label.size


@register()
class AUC(EvalMetric):
    """Area under the ROC curve, exact.

    It is the chance that a positive scores above a negative, ties counting half. Labels are 0 and 1; any
    increasing function of the probability will do as a score. Batches are merged into sorted distinct scores
    with their counts, so memory grows with the number of distinct scores only.

    Args:
        name: How it is shown.
    """

    def __init__(self, name: str = "auc") -> None:
        super().__init__(name)

    def reset(self) -> None:
        """Forget all updates."""
        super().reset()
        self._scores = numpy.empty(0)
        self._counts = numpy.empty((0, 2), dtype=numpy.int64)
        self._waiting: list[tuple[Any, Any]] = []
        self._waiting_size = 0

    def _add(self, label: Any, pred: Any) -> None:
        label, pred = _same_size(self.name, label, pred)
        positive = label == 1.0
        if not (positive | (label == 0.0)).all():
            raise OperatorError(f"[{self.name}] labels must be 0 or 1; got {label[~positive].max()}.")
        if numpy.isnan(pred).any():
            raise OperatorError(f"[{self.name}] preds must be numbers; got nan.")
        self._waiting.append((pred, numpy.stack([~positive, positive], axis=1).astype(numpy.int64)))
        self._waiting_size += pred.size
        self.num_inst += pred.size
        # Merging when as much waits as is merged keeps the cost of all merges n log n.
        if self._waiting_size > max(self._scores.size, 1 << 16):
            self._merge()

    def _merge(self) -> None:
        scores = numpy.concatenate([self._scores, *(scores for scores, _ in self._waiting)])
        counts = numpy.concatenate([self._counts, *(counts for _, counts in self._waiting)])
        order = numpy.argsort(scores, kind="stable")
        scores, counts = scores[order], counts[order]
        starts = numpy.flatnonzero(numpy.append(True, scores[1:] != scores[:-1])) if scores.size else order
        self._scores = scores[starts]
        self._counts = numpy.add.reduceat(counts, starts, axis=0) if scores.size else counts
        self._waiting, self._waiting_size = [], 0

    def get(self) -> tuple[str, float]:
        """Name and present value, nan while one of the classes is missing."""
        if self._waiting:
            self._merge()
        negatives, positives = self._counts[:, 0], self._counts[:, 1]
        pairs = int(negatives.sum()) * int(positives.sum())
        if not pairs:
            return self.name, math.nan
        below = numpy.cumsum(negatives) - negatives
        # Twice the number of ordered pairs is an integer: exact, whatever the order of the batches.
        twice = int((positives * (2 * below + negatives)).sum())
        return self.name, twice / (2 * pairs)


@register("loss")
class Loss(EvalMetric):
    """Mean of losses as they are; labels are not used.

    Args:
        name: How it is shown.
    """

    def __init__(self, name: str = "loss") -> None:
        super().__init__(name)

    def update(self, labels: Any, preds: Any) -> None:
        """Add a batch of losses (the second argument)."""
        for losses in _arrays(preds):
            self.sum_metric += float(losses.astype(numpy.float64).sum())
            self.num_inst += losses.size


class CustomMetric(EvalMetric):
    """Mean over batches of a function's value.

    Args:
        feval: Called with NumPy arrays (label, pred); gives a number.
        name: How it is shown; the function's name where None.
    """

    def __init__(self, feval: Callable[[Any, Any], float], name: str | None = None) -> None:
        super().__init__(str(name or getattr(feval, "__name__", "custom")))
        self._feval = feval

    def _add(self, label: Any, pred: Any) -> None:
        self.sum_metric += float(self._feval(label, pred))
        self.num_inst += 1
