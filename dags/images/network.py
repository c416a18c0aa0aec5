"""A small convolutional network, and the augmentation in front of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from images.features import SIDE
from mxpipe import autograd, gluon, np
from mxpipe.gluon import nn


class RandomShift(gluon.HybridBlock):
    """Move each image by up to `largest` pixels, across and down, in training; its edge is repeated.

    The draw follows from (seed, step), as dropout's does: a training that is resumed sees the same images.

    Args:
        largest: Pixels.
    """

    def __init__(self, largest: int) -> None:
        super().__init__()
        self._largest = largest

    def forward(self, x: Any) -> Any:
        """Images (n, channels, height, width) to images of the same shape."""
        if not self._largest or not autograd.is_training():
            return x
        return self._moved(self._moved(x, axis=2), axis=3)

    def _moved(self, x: Any, axis: int) -> Any:
        largest = self._largest
        size = x.shape[axis]
        edges = [
            np.repeat(np.take(x, np.array([end]), axis=axis), largest, axis=axis) for end in (0, size - 1)
        ]
        padded = np.concatenate([edges[0], x, edges[1]], axis=axis)
        choice = np.floor(np.random.uniform(0, 2 * largest + 1, size=(x.shape[0], 1, 1, 1)))
        window = [slice(None)] * 4
        moved: Any = 0.0
        for shift in range(2 * largest + 1):
            window[axis] = slice(shift, shift + size)
            moved = moved + padded[tuple(window)] * (choice == shift).astype("float32")
        return moved


class DigitNetwork(gluon.HybridBlock):
    """Pixels (n, 64) to logits (n, 10): two blocks of convolution, batch normalisation, relu and pooling.

    Args:
        channels: Of the first block; the second has twice as many.
        largest_shift: Pixels by which images are moved in training.
    """

    def __init__(self, channels: int, largest_shift: int) -> None:
        super().__init__()
        self.shift = RandomShift(largest_shift)
        self.features = nn.HybridSequential()
        for width in (channels, 2 * channels):
            self.features.add(
                nn.Conv2D(width, kernel_size=3, padding=1, use_bias=False),
                nn.BatchNorm(),
                nn.Activation("relu"),
                nn.MaxPool2D(2),
            )
        self.features.add(nn.Flatten(), nn.Dropout(0.25), nn.Dense(10))

    def forward(self, numeric: Any, categorical: Any) -> Any:
        """Classify images; there are no categories."""
        return self.features(self.shift(numeric.reshape((-1, 1, SIDE, SIDE))))


def build(
    num_numeric: int, cardinalities: Sequence[int], channels: int = 32, largest_shift: int = 1
) -> DigitNetwork:
    """The network for a training specification."""
    if num_numeric != SIDE * SIDE or cardinalities:
        raise ValueError(
            f"[digits] a row must have {SIDE * SIDE} pixels and nothing else; got {num_numeric}."
        )
    return DigitNetwork(channels, largest_shift)
