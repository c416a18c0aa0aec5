"""Automatic mixed precision: matrix work in bfloat16, everything that must be exact in float32.

It is a pass of the compiler, so it acts where a plan is made: in `TrainStep`, in hybridized blocks and in
inference sessions. Parameters, optimizer states, statistics of normalisation and losses stay float32; matrix
products, convolutions and the activations between them are bfloat16, and sums within them are float32.
bfloat16 has float32's range, so losses need no scaling: `init_trainer` and `scale_loss` exist for programs
that call them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from mxpipe.errors import BlockError

if TYPE_CHECKING:
    from mxpipe.gluon import HybridBlock, Trainer

    _HybridBlock = TypeVar("_HybridBlock", bound=HybridBlock)

__all__ = ["convert_hybrid_block", "init", "init_trainer", "precision", "scale_loss", "unscale"]

_PRECISIONS = ("float32", "bfloat16")


class _Default:
    """The precision of plans for which nobody asks for another."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.precision = "float32"


_default = _Default()


def precision(asked: Any = None) -> str:
    """The precision that a plan gets: what is asked for, else what `init` chose.

    Raises:
        BlockError: It is neither float32 nor bfloat16.

    Example:
        >>> import mxpipe as mx
        >>> mx.amp.precision("bfloat16")
        'bfloat16'
    """
    if asked is None:
        return _default.precision
    name = asked if isinstance(asked, str) else getattr(asked, "name", None) or str(asked)
    if name not in _PRECISIONS:
        raise BlockError(f"[amp] precision must be one of {', '.join(_PRECISIONS)}; got {asked!r}.")
    return name


def init(target_dtype: Any = "bfloat16") -> None:
    """Make this precision the default of plans made from now on.

    Args:
        target_dtype: "bfloat16"; "float32" turns mixed precision off again.

    Example:
        >>> import mxpipe as mx
        >>> mx.amp.init()
        >>> mx.amp.precision()
        'bfloat16'
        >>> mx.amp.init("float32")
    """
    chosen = precision(target_dtype)
    with _default.lock:
        _default.precision = chosen


def convert_hybrid_block(block: _HybridBlock, target_dtype: Any = "bfloat16") -> _HybridBlock:
    """Hybridize a block so that it runs in this precision; its parameters stay float32.

    Example:
        >>> import mxpipe as mx
        >>> net = mx.gluon.nn.Dense(2, in_units=3)
        >>> net.initialize()
        >>> net = mx.amp.convert_hybrid_block(net)
        >>> net(mx.np.ones((1, 3))).dtype
        dtype('float32')
    """
    block.hybridize(precision=target_dtype)
    return block


def init_trainer(trainer: Trainer) -> None:
    """Nothing to do: bfloat16 has float32's range, so losses are not scaled."""


@contextmanager
def scale_loss(loss: Any, trainer: Trainer) -> Iterator[Any]:
    """The loss itself: bfloat16 needs no scaling."""
    yield loss


def unscale(trainer: Trainer) -> None:
    """Nothing to do: gradients have not been scaled."""
