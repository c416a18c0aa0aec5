"""Recording of computations and their differentiation.

Two independent switches, each local to a thread, decide what an op call does: *recording* keeps the graph for
`backward`, *training* makes dropout drop and batch normalization use the statistics of the batch.

Example:
    >>> import mxpipe as mx
    >>> x = mx.np.array([1.0, 2.0, 3.0])
    >>> x.attach_grad()
    >>> with mx.autograd.record():
    ...     y = (x * x).sum()
    >>> y.backward()
    >>> x.grad.asnumpy().tolist()
    [2.0, 4.0, 6.0]
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from . import _native
from ._native import Array
from .errors import GraphError

__all__ = [
    "backward",
    "grad",
    "is_recording",
    "is_training",
    "pause",
    "predict_mode",
    "record",
    "set_recording",
    "set_training",
    "train_mode",
]

is_recording = _native.is_recording
is_training = _native.is_training
set_recording = _native.set_recording
set_training = _native.set_training


class _Scope:
    """Sets recording and training (None leaves a switch alone) and puts the previous values back.

    One object can be entered again, also inside itself.
    """

    def __init__(self, recording: bool | None, training: bool | None) -> None:
        self._recording = recording
        self._training = training
        self._previous: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._previous.append((is_recording(), is_training()))
        if self._recording is not None:
            set_recording(self._recording)
        if self._training is not None:
            set_training(self._training)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        recording, training = self._previous.pop()
        set_recording(recording)
        set_training(training)


def record(train_mode: bool = True) -> _Scope:
    """Scope in which op calls are recorded for `backward`.

    Args:
        train_mode: Whether ops with two behaviours (dropout, batch normalization) train or predict.
    """
    return _Scope(True, train_mode)


def pause(train_mode: bool = False) -> _Scope:
    """Scope inside `record()` in which nothing is recorded: evaluation, logging, updates.

    Args:
        train_mode: Whether ops with two behaviours train or predict.
    """
    return _Scope(False, train_mode)


def train_mode() -> _Scope:
    """Scope in which ops behave as in training; recording is left as it is."""
    return _Scope(None, True)


def predict_mode() -> _Scope:
    """Scope in which ops behave as in inference; recording is left as it is."""
    return _Scope(None, False)


def _as_list(arrays: Array | Sequence[Array]) -> list[Array]:
    return [arrays] if isinstance(arrays, Array) else list(arrays)


def _head_gradients(
    heads: list[Array], head_grads: Array | Sequence[Array | None] | None
) -> list[Array | None] | None:
    if head_grads is None:
        return None
    gradients: list[Array | None] = [head_grads] if isinstance(head_grads, Array) else list(head_grads)
    if len(gradients) != len(heads):
        raise GraphError(
            f"[autograd] head_grads must have one entry for each head ({len(heads)}); got {len(gradients)}."
        )
    return gradients


def backward(
    heads: Array | Sequence[Array],
    head_grads: Array | Sequence[Array | None] | None = None,
    retain_graph: bool = False,
) -> None:
    """Write the gradients of the sum of `heads` into every variable that they were computed from.

    Args:
        heads: Recorded results.
        head_grads: Gradient of the objective with respect to each head, of its shape; None stands for ones.
        retain_graph: Keep what was recorded, so that it can be differentiated again.

    Raises:
        GraphError: A head was not computed under `record()`.
    """
    heads = _as_list(heads)
    _native.backward(heads, _head_gradients(heads, head_grads), retain_graph)


def grad(
    heads: Array | Sequence[Array],
    variables: Array | Sequence[Array],
    head_grads: Array | Sequence[Array | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> Array | list[Array]:
    """Gradients of the sum of `heads` with respect to `variables`, returned instead of stored.

    Works on recorded arrays, and on traced ones inside a function that is being compiled.

    Args:
        heads: Recorded (or traced) results.
        variables: What to differentiate by; one array gives one array back, a sequence gives a list.
        head_grads: Gradient of the objective with respect to each head; None stands for ones.
        retain_graph: Keep what was recorded; `create_graph` where None.
        create_graph: Record the gradient's own computation, for higher orders.

    Example:
        >>> import mxpipe as mx
        >>> x = mx.np.array([2.0])
        >>> x.attach_grad()
        >>> with mx.autograd.record():
        ...     first = mx.autograd.grad(x * x * x, x, create_graph=True)
        ...     second = mx.autograd.grad(first, x)
        >>> first.item(), second.item()
        (12.0, 12.0)
    """
    heads = _as_list(heads)
    gradients = _native.grad(
        heads,
        _as_list(variables),
        _head_gradients(heads, head_grads),
        create_graph if retain_graph is None else retain_graph,
        create_graph,
    )
    return gradients[0] if isinstance(variables, Array) else list(gradients)
