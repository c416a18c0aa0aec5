"""Rows of the normalisations."""

from __future__ import annotations

import references as ref
from rows import Row, Shape, Variant, call, compute, real, same, statistics


def _batch_norm_backward(shape: Shape, axis: int, relu: bool, residual: bool) -> Variant:
    channels = shape[axis]
    inputs = [real(*shape), real(*shape), *(statistics(channels) for _ in range(3))]
    if relu:
        inputs.append(statistics(channels, low=-1.0, high=1.0))
    if residual:
        inputs.append(real(*shape))
    result = (same, compute, compute, same)[: 4 if residual else 3]
    return call(*inputs, result=result, axis=axis, activation="relu" if relu else "")


ROWS: list[Row] = [
    Row(
        "layer_norm",
        ref.layer_norm,
        (
            call(real(4, 8), real(8), real(8)),
            call(real(2, 3, 17), real(17), real(17), eps=0.1),
            call(real(0, 5), real(5), real(5)),
            call(real(9), statistics(9), statistics(9)),
            call(real(5, 200), statistics(200), statistics(200)),
            call(real(3, 64), statistics(64), statistics(64)),
        ),
        result=(same, compute, compute),
        loose=8,
        differentiated=(0,),
    ),
    Row(
        "layer_norm_backward",
        ref.layer_norm_backward,
        (
            call(real(4, 8), real(4, 8), real(8), statistics(4), statistics(4)),
            call(real(2, 3, 17), real(2, 3, 17), real(17), statistics(2, 3), statistics(2, 3)),
            call(
                *(real(9, 65), real(9, 65), statistics(65), statistics(9), statistics(9)),
                result=(same, compute, compute),
            ),
        ),
        loose=40,
    ),
    Row(
        "rms_norm",
        ref.rms_norm,
        (
            call(real(4, 8), real(8)),
            call(real(2, 3, 17), real(17), eps=0.1),
            call(real(0, 5), real(5)),
            call(real(9), statistics(9)),
            call(real(5, 200), statistics(200)),
        ),
        result=(same, compute),
        loose=8,
        differentiated=(0,),
    ),
    Row(
        "rms_norm_backward",
        ref.rms_norm_backward,
        (
            call(real(4, 8), real(4, 8), real(8), statistics(4)),
            call(real(9, 65), real(9, 65), statistics(65), statistics(9), result=(same, compute)),
        ),
        loose=40,
    ),
    Row(
        "batch_norm",
        ref.batch_norm,
        (
            call(real(6, 4), real(4), real(4)),
            call(real(6, 4, 3, 2), real(4), real(4), axis=1, eps=0.1),
            call(real(5, 3, 4), real(4), real(4), axis=-1),
            call(real(6, 4), statistics(4), statistics(4), axis=1),
            call(real(70, 3), statistics(3), statistics(3), axis=1, activation="relu"),
            call(real(2, 5, 5, 7), statistics(5), statistics(5), axis=1, activation="relu"),
            call(real(31, 65), statistics(65), statistics(65), real(31, 65), axis=-1, activation="relu"),
            call(real(3, 4, 5), statistics(4), statistics(4), real(3, 4, 5), axis=1, activation="relu"),
            call(real(9, 17), statistics(17), statistics(17), real(9, 17), axis=-1),
            call(real(1, 2), statistics(2, low=-1.0), statistics(2), axis=1, eps=1.0),
            call(real(2100, 130), statistics(130), statistics(130), axis=1),
            call(real(1, 2, 17000), statistics(2), statistics(2), axis=1),
            call(real(3, 0), statistics(0), statistics(0), axis=1),
        ),
        result=(same, compute, compute),
        loose=8,
        differentiated=(0,),
    ),
    Row(
        "batch_norm_backward",
        ref.batch_norm_backward,
        (
            call(real(6, 4), real(6, 4), real(4), statistics(4), statistics(4)),
            call(real(2, 4, 3), real(2, 4, 3), real(4), statistics(4), statistics(4), axis=1, eps=0.1),
            *(
                _batch_norm_backward(shape, axis, relu, residual)
                for shape, axis in (
                    ((70, 3), 1),
                    ((31, 65), -1),
                    ((2, 5, 5, 7), 1),
                    ((1, 2, 17000), 1),
                    ((3, 0), 1),
                )
                for relu, residual in ((False, False), (True, False), (True, True))
            ),
        ),
        loose=40,
    ),
]
