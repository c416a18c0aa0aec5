"""Small helpers around training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from mxpipe import np
from mxpipe._native import Array, assign
from mxpipe.errors import BlockError

__all__ = ["clip_global_norm", "split_and_load", "split_data"]


def clip_global_norm(arrays: Sequence[Array], max_norm: float, check_isfinite: bool = True) -> float:
    """Scale arrays in place so that the 2-norm of all their elements together is at most `max_norm`.

    Args:
        arrays: Gradients, between backward and `Trainer.step`.
        max_norm: The bound.
        check_isfinite: Raise if the norm is not finite.

    Returns:
        The norm before scaling.

    Example:
        >>> import mxpipe as mx
        >>> gradient = mx.np.array([3.0, 4.0])
        >>> clip_global_norm([gradient], 1.0)
        5.0
    """
    norm = float(numpy.sqrt(sum(float(np.sum(np.square(array)).item()) for array in arrays)))
    if check_isfinite and not numpy.isfinite(norm):
        raise BlockError(f"[clip_global_norm] the norm must be finite; got {norm}.")
    scale = max_norm / (norm + 1e-8)
    if scale < 1.0:
        for array in arrays:
            assign(array, array * scale)
    return norm


def split_data(data: Array, num_slice: int, batch_axis: int = 0, even_split: bool = True) -> list[Array]:
    """Split a batch along an axis.

    Args:
        data: The batch.
        num_slice: Number of parts.
        batch_axis: The axis.
        even_split: Refuse a batch that does not divide evenly; otherwise the last part is longer.
    """
    size = data.shape[batch_axis]
    if size < num_slice or (even_split and size % num_slice):
        raise BlockError(f"[split_data] the batch must divide into {num_slice} parts; got {size} samples.")
    step = size // num_slice
    bounds = [step * part for part in range(1, num_slice)]
    return list(np.split(data, bounds, axis=batch_axis))


def split_and_load(
    data: Any, device_list: Sequence[Any], batch_axis: int = 0, even_split: bool = True
) -> list[Array]:
    """Split a batch into a part for each device.

    Args:
        data: The batch, an array or what NumPy takes for one.
        device_list: The devices.
        batch_axis: The axis.
        even_split: Refuse a batch that does not divide evenly.
    """
    array = data if isinstance(data, Array) else np.array(data)
    return [array] if len(device_list) == 1 else split_data(array, len(device_list), batch_axis, even_split)
