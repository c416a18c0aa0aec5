"""Losses: one number for each sample, averaged over all other axes.

`loss(pred, label)` has shape (batch,); `backward` on it differentiates the sum over the batch, and
`Trainer.step(batch_size)` divides by the batch size. Extra weights may be given for a loss as a whole
(`weight`) and for each sample (`sample_weight`, of shape (batch,), or broadcasting to the loss before
averaging).
"""

from __future__ import annotations

from mxpipe import np, npx
from mxpipe._native import Array
from mxpipe.errors import BlockError

from .hybrid import HybridBlock

__all__ = [
    "HingeLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "L2Loss",
    "LogisticLoss",
    "Loss",
    "SigmoidBCELoss",
    "SigmoidBinaryCrossEntropyLoss",
    "SoftmaxCELoss",
    "SoftmaxCrossEntropyLoss",
]


class Loss(HybridBlock):
    """Base of all losses.

    Args:
        weight: Multiplies the loss; 1 where None.
        batch_axis: Axis of the samples.
    """

    def __init__(self, weight: float | None = None, batch_axis: int = 0) -> None:
        super().__init__()
        self._weight = weight
        self._batch_axis = batch_axis

    def _per_sample(self, loss: Array, sample_weight: Array | None, factor: float = 1.0) -> Array:
        """Apply the weights and average over all axes but that of the samples."""
        if sample_weight is not None:
            loss = self._weighted(loss, sample_weight)
        factor *= 1.0 if self._weight is None else self._weight
        if factor != 1.0:
            loss = loss * factor
        batch_axis = self._batch_axis % loss.ndim
        axes = tuple(axis for axis in range(loss.ndim) if axis != batch_axis)
        return np.mean(loss, axis=axes) if axes else loss

    def _weighted(self, loss: Array, sample_weight: Array) -> Array:
        if (
            sample_weight.ndim == 1 and loss.ndim > 1
        ):  # one weight a sample, whatever broadcasting would make of it
            shape = [1] * loss.ndim
            shape[self._batch_axis] = -1
            sample_weight = np.reshape(sample_weight, tuple(shape))
        weighted = loss * sample_weight
        if weighted.shape != loss.shape:
            raise BlockError(
                f"[{type(self).__name__}] sample_weight must broadcast to the loss {loss.shape}; "
                f"got {sample_weight.shape}."
            )
        return weighted

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_axis={self._batch_axis}, weight={self._weight})"


def _like(label: Array, pred: Array) -> Array:
    """The label in the shape and type of the prediction; (batch,) fits (batch, 1)."""
    if label.shape != pred.shape:
        if label.size != pred.size:
            raise BlockError(
                f"[loss] label must have as many elements as pred {pred.shape}; got {label.shape}."
            )
        label = np.reshape(label, (-1, *pred.shape[1:])) if pred.ndim else np.reshape(label, ())
    return label if label.dtype == pred.dtype else label.astype(pred.dtype)


class L2Loss(Loss):
    """weight / 2 * (label - pred)^2.

    Example:
        >>> import mxpipe as mx
        >>> L2Loss()(mx.np.array([[1.0], [3.0]]), mx.np.array([[0.0], [0.0]])).asnumpy().tolist()
        [0.5, 4.5]
    """

    def __init__(self, weight: float | None = 1.0, batch_axis: int = 0) -> None:
        super().__init__(weight, batch_axis)

    def forward(self, pred: Array, label: Array, sample_weight: Array | None = None) -> Array:
        """Pred and label with the same number of elements, to (batch,)."""
        return self._per_sample(np.square(_like(label, pred) - pred), sample_weight, 0.5)


class L1Loss(Loss):
    """|label - pred|."""

    def forward(self, pred: Array, label: Array, sample_weight: Array | None = None) -> Array:
        """Pred and label with the same number of elements, to (batch,)."""
        return self._per_sample(np.abs(_like(label, pred) - pred), sample_weight)


class HuberLoss(Loss):
    """(label - pred)^2 / (2 rho) within rho, |label - pred| - rho / 2 beyond (Huber 1964, scaled by 1 / rho).

    Args:
        rho: Where the parabola ends.
    """

    def __init__(self, rho: float = 1.0, weight: float | None = None, batch_axis: int = 0) -> None:
        super().__init__(weight, batch_axis)
        self._rho = rho

    def forward(self, pred: Array, label: Array, sample_weight: Array | None = None) -> Array:
        """Pred and label with the same number of elements, to (batch,)."""
        distance = np.abs(_like(label, pred) - pred)
        loss = np.where(
            distance > self._rho, distance - 0.5 * self._rho, (0.5 / self._rho) * np.square(distance)
        )
        return self._per_sample(loss, sample_weight)


class HingeLoss(Loss):
    """max(0, margin - pred * label), label being -1 or 1.

    Args:
        margin: Distance from the boundary that is enough.
    """

    def __init__(self, margin: float = 1.0, weight: float | None = None, batch_axis: int = 0) -> None:
        super().__init__(weight, batch_axis)
        self._margin = margin

    def forward(self, pred: Array, label: Array, sample_weight: Array | None = None) -> Array:
        """Pred and label with the same number of elements, to (batch,)."""
        return self._per_sample(npx.relu(self._margin - pred * _like(label, pred)), sample_weight)


class LogisticLoss(Loss):
    """log(1 + exp(-pred * label)) for labels -1 and 1.

    Args:
        label_format: "signed" for labels -1 and 1, "binary" for 0 and 1.
    """

    def __init__(
        self, weight: float | None = None, batch_axis: int = 0, label_format: str = "signed"
    ) -> None:
        super().__init__(weight, batch_axis)
        if label_format not in ("signed", "binary"):
            raise BlockError(f"[LogisticLoss] label_format must be signed or binary; got {label_format!r}.")
        self._label_format = label_format

    def forward(self, pred: Array, label: Array, sample_weight: Array | None = None) -> Array:
        """Pred and label with the same number of elements, to (batch,)."""
        label = _like(label, pred)
        if self._label_format == "binary":
            label = 2.0 * label - 1.0
        return self._per_sample(npx.softplus(-pred * label), sample_weight)


class SigmoidBinaryCrossEntropyLoss(Loss):
    """Cross-entropy of labels in [0, 1], from logits or from probabilities.

    From logits it is max(x, 0) - x * label + log(1 + exp(-|x|)), which neither overflows nor cancels.

    Args:
        from_sigmoid: Whether pred holds probabilities instead of logits.

    Example:
        >>> import mxpipe as mx
        >>> loss = SigmoidBinaryCrossEntropyLoss()(mx.np.zeros((2, 1)), mx.np.array([0.0, 1.0]))
        >>> [round(value, 6) for value in loss.asnumpy().tolist()]
        [0.693147, 0.693147]
    """

    def __init__(self, from_sigmoid: bool = False, weight: float | None = None, batch_axis: int = 0) -> None:
        super().__init__(weight, batch_axis)
        self._from_sigmoid = from_sigmoid

    def forward(
        self,
        pred: Array,
        label: Array,
        sample_weight: Array | None = None,
        pos_weight: Array | float | None = None,
    ) -> Array:
        """Pred and label with the same number of elements, to (batch,).

        pos_weight multiplies the part of the positive labels.
        """
        label = _like(label, pred)
        if self._from_sigmoid:
            positive, negative = label * np.log(pred + 1e-12), (1.0 - label) * np.log(1.0 - pred + 1e-12)
            loss = -((positive if pos_weight is None else positive * pos_weight) + negative)
        elif pos_weight is None:
            loss = npx.relu(pred) - pred * label + npx.softplus(-np.abs(pred))
        else:
            factor = 1.0 + (pos_weight - 1.0) * label
            loss = pred - pred * label + factor * (npx.softplus(-np.abs(pred)) + npx.relu(-pred))
        return self._per_sample(loss, sample_weight)


SigmoidBCELoss = SigmoidBinaryCrossEntropyLoss


class SoftmaxCrossEntropyLoss(Loss):
    """Cross-entropy of a class, or of a distribution over classes, from logits.

    Args:
        axis: Axis of the classes.
        sparse_label: Whether label holds the number of the class, with pred's shape less `axis`; otherwise
            it holds probabilities, in pred's shape. A class out of range raises.
        from_logits: Whether pred already holds logarithms of probabilities.
    """

    def __init__(
        self,
        axis: int = -1,
        sparse_label: bool = True,
        from_logits: bool = False,
        weight: float | None = None,
        batch_axis: int = 0,
    ) -> None:
        super().__init__(weight, batch_axis)
        self._axis = axis
        self._sparse_label = sparse_label
        self._from_logits = from_logits

    def forward(self, pred: Array, label: Array, sample_weight: Array | None = None) -> Array:
        """Pred (batch, ..., classes) and label, to (batch,)."""
        if not self._sparse_label:
            logarithms = pred if self._from_logits else npx.log_softmax(pred, axis=self._axis)
            loss = -np.sum(logarithms * _like(label, pred), axis=self._axis, keepdims=True)
            return self._per_sample(loss, sample_weight)
        label = label if "int" in str(label.dtype) else label.astype("int64")
        last = self._axis in (-1, pred.ndim - 1) and label.shape == pred.shape[:-1]
        if last and not self._from_logits:  # one fused pass over the logits
            rows = pred if pred.ndim == 2 else np.reshape(pred, (label.size, pred.shape[-1]))
            loss = npx.softmax_cross_entropy(rows, np.reshape(label, (label.size,)))
            loss = np.reshape(loss, (*label.shape, 1))
        else:
            logarithms = pred if self._from_logits else npx.log_softmax(pred, axis=self._axis)
            loss = -npx.pick(logarithms, label, axis=self._axis, keepdims=True)
        return self._per_sample(loss, sample_weight)


SoftmaxCELoss = SoftmaxCrossEntropyLoss


class KLDivLoss(Loss):
    """Kullback-Leibler divergence of a distribution from a prediction: label * (log(label) - log(prob)).

    Args:
        from_logits: Whether pred already holds logarithms of probabilities.
        axis: Axis of the classes, for the softmax.
    """

    def __init__(
        self, from_logits: bool = True, axis: int = -1, weight: float | None = None, batch_axis: int = 0
    ) -> None:
        super().__init__(weight, batch_axis)
        self._from_logits = from_logits
        self._axis = axis

    def forward(self, pred: Array, label: Array, sample_weight: Array | None = None) -> Array:
        """Pred and label of one shape, to (batch,)."""
        logarithms = pred if self._from_logits else npx.log_softmax(pred, axis=self._axis)
        return self._per_sample(label * (np.log(label + 1e-12) - logarithms), sample_weight)
