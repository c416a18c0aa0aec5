"""Convolution and pooling in NumPy, one kernel element or one window at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from rows import Values

Slices = tuple[slice, ...]


def channels_first(x: Values, layout: str) -> Values:
    return np.moveaxis(x, -1, 1) if layout[-1] == "C" else x


def as_layout(x: Values, layout: str) -> Values:
    return np.moveaxis(x, 1, -1) if layout[-1] == "C" else x


def _each(values: Sequence[int], spatial: int, otherwise: int) -> list[int]:
    return list(values) or [otherwise] * spatial


class Windows:
    """The padded input's slice for each element of the kernel, one number a window."""

    def __init__(
        self,
        size: Sequence[int],
        kernel: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (),
        dilation: Sequence[int] = (),
    ) -> None:
        spatial = len(size)
        self.size, self.kernel = list(size), list(kernel)
        self.stride = _each(stride, spatial, 1)
        self.padding = _each(padding, spatial, 0)
        self.dilation = _each(dilation, spatial, 1)
        axes = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        self.count = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes]

    def pad(self, x: Values) -> Values:
        return np.pad(x, [(0, 0), (0, 0), *((p, p) for p in self.padding)])

    def cut(self, x: Values) -> Values:
        inner = tuple(slice(p, p + n) for p, n in zip(self.padding, self.size, strict=True))
        return x[(slice(None), slice(None), *inner)]

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], Slices]]:
        for element in product(*(range(k) for k in self.kernel)):
            axes = zip(element, self.dilation, self.stride, self.count, strict=True)
            cuts = tuple(slice(k * d, k * d + (count - 1) * s + 1, s) for k, d, s, count in axes)
            yield element, (slice(None), slice(None), *cuts)


def _split(x: Values, groups: int) -> list[Values]:
    return np.split(x, groups, axis=1)


def convolution(
    x: Values,
    weight: Values,
    bias: Values | None = None,
    addend: Values | None = None,
    layout: str = "NCHW",
    groups: int = 1,
    activation: str = "",
    **windows: Any,
) -> Values:
    x = channels_first(x, layout)
    at = Windows(x.shape[2:], weight.shape[2:], **windows)
    y = np.zeros((x.shape[0], weight.shape[0], *at.count))
    padded = at.pad(x)
    for element, cut in at:
        parts = zip(_split(padded[cut], groups), np.split(weight, groups), strict=True)
        y += np.concatenate([np.einsum("nc...,oc->no...", a, w[(..., *element)]) for a, w in parts], axis=1)
    if bias is not None:
        y += bias.reshape(-1, *[1] * len(at.count))
    y = as_layout(y, layout)
    if addend is not None:
        y = y + addend
    return np.maximum(y, 0) if activation == "relu" else y


def convolution_backward_data(
    g: Values,
    weight: Values,
    size: Sequence[int],
    layout: str = "NCHW",
    groups: int = 1,
    **windows: Any,
) -> Values:
    g = channels_first(g, layout)
    at = Windows(size, weight.shape[2:], **windows)
    result = at.pad(np.zeros((g.shape[0], weight.shape[1] * groups, *size)))
    for element, cut in at:
        parts = zip(_split(g, groups), np.split(weight, groups), strict=True)
        result[cut] += np.concatenate(
            [np.einsum("no...,oc->nc...", a, w[(..., *element)]) for a, w in parts], axis=1
        )
    return as_layout(at.cut(result), layout)


def convolution_backward_weights(
    x: Values,
    g: Values,
    kernel: Sequence[int],
    layout: str = "NCHW",
    groups: int = 1,
    wide: bool = False,
    **windows: Any,
) -> Values:
    x, g = channels_first(x, layout), channels_first(g, layout)
    at = Windows(x.shape[2:], kernel, **windows)
    result = np.zeros((g.shape[1], x.shape[1] // groups, *kernel))
    padded = at.pad(x)
    for element, cut in at:
        parts = zip(_split(padded[cut], groups), _split(g, groups), strict=True)
        summed = [0, *range(2, x.ndim)]  # all axes but the channels
        result[(..., *element)] = np.concatenate([np.tensordot(b, a, (summed, summed)) for a, b in parts])
    return result


# -------------------------------------------------------------------------------------------------- pooling


def _axis_windows(
    size: int, kernel: int, stride: int, padding: int, ceil_mode: bool
) -> list[tuple[int, int]]:
    """First element and end, before they are cut at the borders."""
    room = size + 2 * padding - kernel
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return [(i * stride - padding, i * stride - padding + kernel) for i in range(count)]


def pool_windows(
    size: Sequence[int],
    kernel: Sequence[int] = (),
    stride: Sequence[int] = (),
    padding: Sequence[int] = (),
    ceil_mode: bool = False,
    output_size: Sequence[int] = (),
) -> list[list[tuple[int, int]]]:
    if output_size:
        return [
            [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
            for n, m in zip(size, output_size, strict=True)
        ]
    spatial = len(size)
    axes = zip(size, kernel, _each(stride, spatial, 1), _each(padding, spatial, 0), strict=True)
    return [_axis_windows(n, k, s, p, ceil_mode) for n, k, s, p in axes]


def _windows_of(windows: list[list[tuple[int, int]]]) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
    for place in product(*(range(len(axis)) for axis in windows)):
        yield place, tuple(axis[i] for axis, i in zip(windows, place, strict=True))


def _cut(window: Sequence[tuple[int, int]], size: Sequence[int]) -> Slices:
    inside = (slice(max(begin, 0), min(end, n)) for (begin, end), n in zip(window, size, strict=True))
    return (slice(None), slice(None), *inside)


def max_pool(x: Values, layout: str = "NCHW", **options: Any) -> tuple[Values, Values]:
    x = channels_first(x, layout)
    size = x.shape[2:]
    windows = pool_windows(size, **options)
    nominal = [max(end - begin for begin, end in axis) for axis in windows]
    shape = (*x.shape[:2], *(len(axis) for axis in windows))
    y = np.zeros(shape)
    positions = np.zeros(shape, dtype="uint8" if np.prod(nominal) < 255 else "int32")
    for place, window in _windows_of(windows):
        part = x[_cut(window, size)]
        lines = part.reshape(*x.shape[:2], math.prod(part.shape[2:]))
        y[(..., *place)] = lines.max(axis=-1, initial=-np.inf)
        if lines.size:
            inner = np.unravel_index(lines.argmax(axis=-1), part.shape[2:])
            full = [i + max(begin, 0) - begin for i, (begin, _) in zip(inner, window, strict=True)]
            positions[(..., *place)] = np.ravel_multi_index(tuple(full), nominal)
    return as_layout(y, layout), as_layout(positions, layout)


def max_pool_backward(
    g: Values, positions: Values, size: Sequence[int], layout: str = "NCHW", **options: Any
) -> Values:
    g, positions = channels_first(g, layout), channels_first(positions, layout).astype("int64")
    windows = pool_windows(size, **options)
    nominal = [max(end - begin for begin, end in axis) for axis in windows]
    result = np.zeros((*g.shape[:2], *size))
    images, channels = np.indices(g.shape[:2])
    for place, window in _windows_of(windows):
        inner = np.unravel_index(positions[(..., *place)], nominal)
        inside = tuple(i + begin for i, (begin, _) in zip(inner, window, strict=True))
        np.add.at(result, (images, channels, *inside), g[(..., *place)])
    return as_layout(result, layout)


def _divisor(
    window: Sequence[tuple[int, int]], size: Sequence[int], padding: Sequence[int], counts_padding: bool
) -> int:
    divisor = 1
    for (begin, end), n, p in zip(window, size, padding, strict=True):
        divisor *= min(end, n + p) - begin if counts_padding else min(end, n) - max(begin, 0)
    return divisor


def avg_pool(x: Values, layout: str = "NCHW", count_include_pad: bool = True, **options: Any) -> Values:
    x = channels_first(x, layout)
    size = x.shape[2:]
    windows = pool_windows(size, **options)
    padding = _each([] if options.get("output_size") else options.get("padding", []), len(size), 0)
    y = np.zeros((*x.shape[:2], *(len(axis) for axis in windows)))
    for place, window in _windows_of(windows):
        total = x[_cut(window, size)].sum(axis=tuple(range(2, x.ndim)))
        y[(..., *place)] = total / _divisor(window, size, padding, count_include_pad)
    return as_layout(y, layout)


def avg_pool_backward(
    g: Values, size: Sequence[int], layout: str = "NCHW", count_include_pad: bool = True, **options: Any
) -> Values:
    g = channels_first(g, layout)
    windows = pool_windows(size, **options)
    padding = _each([] if options.get("output_size") else options.get("padding", []), len(size), 0)
    result = np.zeros((*g.shape[:2], *size))
    for place, window in _windows_of(windows):
        share = g[(..., *place)] / _divisor(window, size, padding, count_include_pad)
        result[_cut(window, size)] += share.reshape(*g.shape[:2], *[1] * len(size))
    return as_layout(result, layout)
