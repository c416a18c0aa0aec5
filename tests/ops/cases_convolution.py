"""Rows of convolution, its gradients, and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import references_convolution as ref
from rows import Row, Shape, Spec, Values, Variant, always, call, real, same, statistics

# (batch, channels, *spatial), (out, channels / groups, *kernel), attributes
CONVOLUTIONS: tuple[tuple[Shape, Shape, dict[str, Any]], ...] = (
    ((2, 3, 7, 6), (4, 3, 3, 3), {"stride": [2, 1], "padding": [1, 1]}),
    ((2, 6, 5, 8), (4, 3, 1, 1), {"groups": 2}),
    ((1, 5, 9, 9), (5, 1, 3, 3), {"groups": 5, "padding": [1, 1]}),
    ((2, 16, 10, 7), (33, 16, 3, 2), {"dilation": [2, 3], "padding": [2, 0]}),
    ((1, 3, 11, 13), (17, 3, 7, 7), {"stride": [2, 2], "padding": [3, 3]}),
    ((2, 64, 6, 6), (32, 64, 1, 1), {"stride": [2, 2]}),
    ((2, 192, 5, 4), (192, 192, 1, 1), {}),
    ((1, 200, 7, 6), (180, 200, 1, 1), {"stride": [3, 2]}),
    ((2, 16, 5, 6), (70, 16, 1, 1), {"stride": [2, 1]}),
    ((2, 32, 6, 5), (64, 16, 3, 3), {"groups": 2, "stride": [1, 2], "padding": [1, 1]}),
    ((2, 20, 4, 4), (40, 1, 2, 2), {"groups": 20}),
    ((3, 4, 12), (6, 4, 3), {"layout": "NCW", "stride": [2], "padding": [1]}),
    ((2, 3, 4, 5, 6), (5, 3, 2, 3, 2), {"layout": "NCDHW", "stride": [1, 2, 2], "padding": [1, 0, 1]}),
    ((0, 3, 5, 5), (2, 3, 3, 3), {}),
    ((2, 0, 4, 4), (3, 0, 1, 1), {}),
)


def with_layouts(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    first = attributes.get("layout", "NCHW")
    return [{**attributes, "layout": first}, {**attributes, "layout": first[0] + first[2:] + "C"}]


def as_layout(shape: Sequence[int], layout: str) -> Shape:
    return (shape[0], *shape[2:], shape[1]) if layout[-1] == "C" else tuple(shape)


def windows_of(x: Shape, kernel: Sequence[int], attributes: dict[str, Any]) -> list[int]:
    options = {name: attributes.get(name, ()) for name in ("stride", "padding", "dilation")}
    return ref.Windows(x[2:], kernel, **options).count


def forward_variants() -> list[Variant]:
    variants = []
    for index, (x, weight, given) in enumerate(CONVOLUTIONS):
        for attributes in with_layouts(given):
            layout = attributes["layout"]
            inputs = [real(*as_layout(x, layout)), real(*weight, low=-1, high=1)]
            if index % 2 == 0:
                inputs.append(real(weight[0]))
            if index % 4 == 0:
                y = (x[0], weight[0], *windows_of(x, weight[2:], attributes))
                inputs.append(real(*as_layout(y, layout)))
            variants.append(call(*inputs, **attributes))
            variants.append(call(*inputs, smooth=False, activation="relu", **attributes))
    x, weight = real(2, 5, 6, 16), real(32, 16, 3, 3, low=-1, high=1)
    variants.append(
        call(x, weight, statistics(32), smooth=False, layout="NHWC")
    )  # a wide bias beside narrow x
    return variants


def backward_variants(of_weights: bool) -> list[Variant]:
    variants = []
    for index, (x, weight, given) in enumerate(CONVOLUTIONS):
        for attributes in with_layouts(given):
            layout = attributes["layout"]
            y = (x[0], weight[0], *windows_of(x, weight[2:], attributes))
            g = real(*as_layout(y, layout), low=-1, high=1)
            if of_weights:
                variants.append(call(real(*as_layout(x, layout)), g, kernel=list(weight[2:]), **attributes))
            else:
                size = list(x[2:])
                variants.append(call(g, real(*weight), size=size, **attributes))
        if index == 0 and not of_weights:  # windows do not reach the last row
            variants.append(call(real(1, 2, 2, 2), real(2, 3, 3, 3), size=[6, 5], stride=[2, 2]))
    return variants


# (batch, channels, *spatial), attributes
POOLINGS: tuple[tuple[Shape, dict[str, Any]], ...] = (
    ((2, 3, 7, 6), {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1]}),
    ((2, 16, 8, 8), {"kernel": [2, 2], "stride": [2, 2]}),
    ((1, 5, 7, 8), {"kernel": [3, 2], "stride": [2, 3], "padding": [1, 0], "ceil_mode": True}),
    ((2, 4, 5, 5), {"kernel": [2, 2], "stride": [2, 2], "padding": [1, 1], "ceil_mode": True}),
    ((2, 3, 5, 9), {"kernel": [5, 9]}),
    ((1, 2, 18, 17), {"kernel": [17, 16]}),
    ((2, 3, 7, 5), {"output_size": [3, 2]}),
    ((2, 3, 4, 4), {"output_size": [1, 6]}),
    ((2, 3, 11), {"layout": "NCW", "kernel": [4], "stride": [3], "padding": [2]}),
    ((2, 2, 4, 5, 6), {"layout": "NCDHW", "kernel": [2, 3, 2], "stride": [1, 2, 2], "padding": [1, 1, 0]}),
    ((0, 3, 4, 4), {"kernel": [2, 2]}),
)


def distinct(*shape: int) -> Spec:
    """A gap between any two numbers, so that no step of a gradient check changes which is largest."""

    def draw(random: np.random.Generator, _: str) -> Values:
        count = int(np.prod(shape))
        return (random.permutation(count).reshape(shape) - count / 2) / 64.0

    return Spec(draw, typed=True)


def pooling_variants(**more: Any) -> list[Variant]:
    return [
        call(distinct(*as_layout(x, attributes["layout"])), **attributes, **more)
        for x, given in POOLINGS
        for attributes in with_layouts(given)
    ]


def pooled(x: Shape, attributes: dict[str, Any]) -> tuple[list[int], int]:
    """Spatial sizes of the result, and the number of elements in the largest window."""
    options = {name: value for name, value in attributes.items() if name != "layout"}
    windows = ref.pool_windows(x[2:], **options)
    volume = int(np.prod([max(end - begin for begin, end in axis) for axis in windows]))
    return [len(axis) for axis in windows], volume


def positions_of(x: Shape, attributes: dict[str, Any]) -> Spec:
    """The positions that forward gives for some x."""
    shape = as_layout(x, attributes["layout"])
    return Spec(lambda random, _: ref.max_pool(random.normal(size=shape), **attributes)[1])


def pooling_backward_variants(maximum: bool, **more: Any) -> list[Variant]:
    variants = []
    for x, given in POOLINGS:
        for attributes in with_layouts(given):
            y = as_layout((*x[:2], *pooled(x, attributes)[0]), attributes["layout"])
            inputs = [real(*y)] + ([positions_of(x, attributes)] if maximum else [])
            variants.append(call(*inputs, size=list(x[2:]), **attributes, **more))
    return variants


ROWS: list[Row] = [
    Row("convolution", ref.convolution, tuple(forward_variants()), loose=60, second_order=True),
    Row(
        "convolution_backward_data",
        ref.convolution_backward_data,
        tuple(backward_variants(of_weights=False)),
        loose=60,
        second_order=True,
    ),
    Row(
        "convolution_backward_weights",
        ref.convolution_backward_weights,
        tuple(backward_variants(of_weights=True)),
        loose=60,
        second_order=True,
    ),
    Row(
        "max_pool",
        ref.max_pool,
        tuple(v for v in pooling_variants() if v.attributes.get("kernel") != [17, 16]),
        result=(same, always("uint8")),
        differentiated=(0,),
    ),
    Row("max_pool_backward", ref.max_pool_backward, tuple(pooling_backward_variants(True)), loose=4),
    Row(
        "avg_pool",
        ref.avg_pool,
        (*pooling_variants(), *pooling_variants(count_include_pad=False)),
        loose=20,
        second_order=True,
    ),
    Row(
        "avg_pool_backward",
        ref.avg_pool_backward,
        (*pooling_backward_variants(False), *pooling_backward_variants(False, count_include_pad=False)),
        loose=4,
        second_order=True,
    ),
]
