"""Rows of LSTM, GRU and RNN over a sequence, and of their way back through time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from rows import Row, Spec, Variant, call, real
from scipy import special

Floats = NDArray[np.float64]
Shape = tuple[int, int, int, int]  # time, batch, inputs, units

# Units below, at and beyond a vector and a tile of every instruction set; odd batches; nothing at all.
SIZES: tuple[Shape, ...] = (
    (3, 5, 4, 6),
    (1, 1, 1, 1),
    (2, 7, 3, 16),
    (4, 13, 5, 35),
    (2, 3, 2, 70),
    (0, 2, 3, 4),
)


def steps(count: int, reverse: bool) -> Iterator[int]:
    return iter(range(count)[::-1] if reverse else range(count))


# -------------------------------------------------------------------------------------------------- forward


def lstm(
    x: Floats,
    wx: Floats,
    wh: Floats,
    bx: Floats,
    bh: Floats,
    h: Floats,
    c: Floats,
    reverse: bool = False,
    keep: bool = True,
) -> tuple[Floats, ...]:
    y, cells = (np.zeros((*x.shape[:2], h.shape[1])) for _ in range(2))
    gates = np.zeros((*x.shape[:2], 4 * h.shape[1]))
    for t in steps(len(x), reverse):
        sums = np.split(x[t] @ wx.T + bx + h @ wh.T + bh, 4, axis=1)
        i, f, o = (special.expit(sums[k]) for k in (0, 1, 3))
        g = np.tanh(sums[2])
        c = f * c + i * g
        h = o * np.tanh(c)
        y[t], cells[t], gates[t] = h, c, np.concatenate([i, f, g, o], axis=1)
    return y, h, c, *((cells, gates) if keep else (cells[:0], gates[:0]))


def gru(
    x: Floats,
    wx: Floats,
    wh: Floats,
    bx: Floats,
    bh: Floats,
    h: Floats,
    reverse: bool = False,
    keep: bool = True,
) -> tuple[Floats, ...]:
    y, gates = (np.zeros((*x.shape[:2], width * h.shape[1])) for width in (1, 4))
    for t in steps(len(x), reverse):
        xr, xz, xn = np.split(x[t] @ wx.T + bx, 3, axis=1)
        hr, hz, hn = np.split(h @ wh.T + bh, 3, axis=1)
        r, z = special.expit(xr + hr), special.expit(xz + hz)
        n = np.tanh(xn + r * hn)
        h = (1 - z) * n + z * h
        y[t], gates[t] = h, np.concatenate([r, z, n, hn], axis=1)
    return y, h, gates if keep else gates[:0]


def rnn(
    x: Floats,
    wx: Floats,
    wh: Floats,
    bx: Floats,
    bh: Floats,
    h: Floats,
    reverse: bool = False,
    activation: str = "tanh",
) -> tuple[Floats, ...]:
    y = np.zeros((*x.shape[:2], h.shape[1]))
    for t in steps(len(x), reverse):
        sums = x[t] @ wx.T + bx + h @ wh.T + bh
        h = np.tanh(sums) if activation == "tanh" else np.maximum(sums, 0)
        y[t] = h
    return y, h


# ------------------------------------------------------------------------------------------------- backward


def before(sequence: Floats, first: Floats, t: int, reverse: bool) -> Floats:
    """The state that step t began with."""
    t += 1 if reverse else -1
    return sequence[t] if 0 <= t < len(sequence) else first


def lstm_backward(
    wh: Floats,
    dh: Floats,
    dc: Floats,
    c: Floats,
    cells: Floats,
    gates: Floats,
    dy: Floats | None = None,
    reverse: bool = False,
) -> tuple[Floats, ...]:
    result = np.zeros_like(gates)
    for t in steps(len(cells), not reverse):
        i, f, g, o = np.split(gates[t], 4, axis=1)
        squashed = np.tanh(cells[t])
        dh = dh + (0 if dy is None else dy[t])
        dc = dc + dh * o * (1 - squashed**2)
        df = dc * before(cells, c, t, reverse)
        parts = [dc * g * i * (1 - i), df * f * (1 - f), dc * i * (1 - g**2), dh * squashed * o * (1 - o)]
        result[t] = np.concatenate(parts, axis=1)
        dh, dc = result[t] @ wh, dc * f
    return result, dh, dc


def gru_backward(
    wh: Floats,
    dh: Floats,
    h: Floats,
    y: Floats,
    gates: Floats,
    dy: Floats | None = None,
    reverse: bool = False,
) -> tuple[Floats, ...]:
    result, hidden = (np.zeros((*y.shape[:2], 3 * y.shape[2])) for _ in range(2))
    for t in steps(len(y), not reverse):
        r, z, n, hn = np.split(gates[t], 4, axis=1)
        dh = dh + (0 if dy is None else dy[t])
        dn = dh * (1 - z) * (1 - n**2)
        dr = dn * hn * r * (1 - r)
        dz = dh * (before(y, h, t, reverse) - n) * z * (1 - z)
        result[t] = np.concatenate([dr, dz, dn], axis=1)
        hidden[t] = np.concatenate([dr, dz, dn * r], axis=1)
        dh = dh * z + hidden[t] @ wh
    return result, hidden, dh


def rnn_backward(
    wh: Floats,
    dh: Floats,
    y: Floats,
    dy: Floats | None = None,
    reverse: bool = False,
    activation: str = "tanh",
) -> tuple[Floats, ...]:
    result = np.zeros_like(y)
    for t in steps(len(y), not reverse):
        dh = dh + (0 if dy is None else dy[t])
        result[t] = dh * (1 - y[t] ** 2) if activation == "tanh" else np.where(y[t] > 0, dh, 0)
        dh = result[t] @ wh
    return result, dh


# ----------------------------------------------------------------------------------------------------- rows


def forward_inputs(gates: int, states: int) -> Callable[[Shape], tuple[Spec, ...]]:
    def inputs(size: Shape) -> tuple[Spec, ...]:
        time, batch, width, units = size
        weights = real(gates * units, width, low=-1, high=1), real(gates * units, units, low=-0.5, high=0.5)
        biases = (real(gates * units, low=-1, high=1),) * 2
        return real(time, batch, width), *weights, *biases, *(real(batch, units),) * states

    return inputs


def backward_inputs(gates: int, states: int, kept: int) -> Callable[[Shape], tuple[Spec, ...]]:
    """Hidden weights, states, one state a step, the gates and the gradient of y."""

    def inputs(size: Shape) -> tuple[Spec, ...]:
        time, batch, _, units = size
        weight = real(gates * units, units, low=-0.5, high=0.5)
        sequence = real(time, batch, units, low=-0.9, high=0.9)
        gate = (real(time, batch, 4 * units, low=0.1, high=0.9),) * kept
        return weight, *(real(batch, units),) * states, sequence, *gate, real(time, batch, units)

    return inputs


def variants(
    inputs: Callable[[Shape], tuple[Spec, ...]], optional: bool = False, **attributes: object
) -> tuple[Variant, ...]:
    both = [call(*inputs(size), reverse=reverse, **attributes) for size in SIZES for reverse in (False, True)]
    if optional:  # without the last input
        both.append(call(*inputs(SIZES[0])[:-1], **attributes))
    return tuple(both)


def activations(inputs: Callable[[Shape], tuple[Spec, ...]], optional: bool = False) -> tuple[Variant, ...]:
    return variants(inputs, optional) + variants(inputs, optional, activation="relu")


LOOSE = 30  # what a step rounds, all later steps carry on

ROWS: list[Row] = [
    Row("lstm", lstm, variants(forward_inputs(4, 2)), loose=LOOSE, differentiated=(0, 1, 2)),
    Row("lstm_backward", lstm_backward, variants(backward_inputs(4, 3, 1), optional=True), loose=LOOSE),
    Row("gru", gru, variants(forward_inputs(3, 1)), loose=LOOSE, differentiated=(0, 1)),
    Row("gru_backward", gru_backward, variants(backward_inputs(3, 2, 1), optional=True), loose=LOOSE),
    Row("rnn", rnn, activations(forward_inputs(1, 1)), loose=LOOSE),
    Row("rnn_backward", rnn_backward, activations(backward_inputs(1, 1, 0), optional=True), loose=LOOSE),
]
