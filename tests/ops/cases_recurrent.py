"""Rows of LSTM, GRU and RNN over a sequence, and of their way back through time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import Row, Spec, Variant, call, ids, real
from scipy import special

Floats = NDArray[np.float64]
Lengths = NDArray[np.int64]
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


def running(lengths: Lengths | None, t: int) -> Any:
    """A column that says which rows have not ended."""
    return True if lengths is None else (t < lengths)[:, None]


# -------------------------------------------------------------------------------------------------- forward


def lstm(x: Floats, *inputs: Any, reverse: bool = False, keep: bool = True) -> tuple[Floats, ...]:
    wx, wh, bx, bh, h, c, lengths = (*inputs, None)[:7]
    y, cells = (np.zeros((*x.shape[:2], h.shape[1])) for _ in range(2))
    gates = np.zeros((*x.shape[:2], 4 * h.shape[1]))
    for t in steps(len(x), reverse):
        runs = running(lengths, t)
        sums = np.split(x[t] @ wx.T + bx + h @ wh.T + bh, 4, axis=1)
        i, f, o = (special.expit(sums[k]) for k in (0, 1, 3))
        g = np.tanh(sums[2])
        c = np.where(runs, f * c + i * g, c)
        h = np.where(runs, o * np.tanh(c), h)
        y[t], cells[t], gates[t] = h, c, np.where(runs, np.concatenate([i, f, g, o], axis=1), 0)
    return y, h, c, *((cells, gates) if keep else (cells[:0], gates[:0]))


def gru(x: Floats, *inputs: Any, reverse: bool = False, keep: bool = True) -> tuple[Floats, ...]:
    wx, wh, bx, bh, h, lengths = (*inputs, None)[:6]
    y, gates = (np.zeros((*x.shape[:2], width * h.shape[1])) for width in (1, 4))
    for t in steps(len(x), reverse):
        runs = running(lengths, t)
        xr, xz, xn = np.split(x[t] @ wx.T + bx, 3, axis=1)
        hr, hz, hn = np.split(h @ wh.T + bh, 3, axis=1)
        r, z = special.expit(xr + hr), special.expit(xz + hz)
        n = np.tanh(xn + r * hn)
        h = np.where(runs, (1 - z) * n + z * h, h)
        y[t], gates[t] = h, np.where(runs, np.concatenate([r, z, n, hn], axis=1), 0)
    return y, h, gates if keep else gates[:0]


def rnn(x: Floats, *inputs: Any, reverse: bool = False, activation: str = "tanh") -> tuple[Floats, ...]:
    wx, wh, bx, bh, h, lengths = (*inputs, None)[:6]
    y = np.zeros((*x.shape[:2], h.shape[1]))
    for t in steps(len(x), reverse):
        sums = x[t] @ wx.T + bx + h @ wh.T + bh
        h = np.where(running(lengths, t), np.tanh(sums) if activation == "tanh" else np.maximum(sums, 0), h)
        y[t] = h
    return y, h


# ------------------------------------------------------------------------------------------------- backward


def before(sequence: Floats, first: Floats, t: int, reverse: bool) -> Floats:
    """The state that step t began with."""
    t += 1 if reverse else -1
    return sequence[t] if 0 <= t < len(sequence) else first


def optional(rest: tuple[Any, ...], lengths: bool, like: Floats) -> tuple[Lengths | None, Floats]:
    """The lengths and the gradient of y, each of which may be absent."""
    return rest[0] if lengths else None, rest[lengths] if len(rest) > lengths else np.zeros_like(like)


def lstm_backward(
    wh: Floats,
    dh: Floats,
    dc: Floats,
    c: Floats,
    cells: Floats,
    gates: Floats,
    *rest: Any,
    reverse: bool = False,
    lengths: bool = False,
) -> tuple[Floats, ...]:
    ends, dy = optional(rest, lengths, cells)
    result = np.zeros_like(gates)
    for t in steps(len(cells), not reverse):
        runs = running(ends, t)
        i, f, g, o = np.split(gates[t], 4, axis=1)
        squashed = np.tanh(cells[t])
        dh = dh + dy[t]
        through = dc + dh * o * (1 - squashed**2)
        df = through * before(cells, c, t, reverse)
        di, dg = through * g * i * (1 - i), through * i * (1 - g**2)
        parts = [di, df * f * (1 - f), dg, dh * squashed * o * (1 - o)]
        result[t] = np.where(runs, np.concatenate(parts, axis=1), 0)
        dh, dc = np.where(runs, result[t] @ wh, dh), np.where(runs, through * f, dc)
    return result, dh, dc


def gru_backward(
    wh: Floats,
    dh: Floats,
    h: Floats,
    y: Floats,
    gates: Floats,
    *rest: Any,
    reverse: bool = False,
    lengths: bool = False,
) -> tuple[Floats, ...]:
    ends, dy = optional(rest, lengths, y)
    result, hidden = (np.zeros((*y.shape[:2], 3 * y.shape[2])) for _ in range(2))
    for t in steps(len(y), not reverse):
        runs = running(ends, t)
        r, z, n, hn = np.split(gates[t], 4, axis=1)
        dh = dh + dy[t]
        dn = dh * (1 - z) * (1 - n**2)
        dr = dn * hn * r * (1 - r)
        dz = dh * (before(y, h, t, reverse) - n) * z * (1 - z)
        result[t] = np.where(runs, np.concatenate([dr, dz, dn], axis=1), 0)
        hidden[t] = np.where(runs, np.concatenate([dr, dz, dn * r], axis=1), 0)
        dh = np.where(runs, dh * z + hidden[t] @ wh, dh)
    return result, hidden, dh


def rnn_backward(
    wh: Floats,
    dh: Floats,
    y: Floats,
    *rest: Any,
    reverse: bool = False,
    lengths: bool = False,
    activation: str = "tanh",
) -> tuple[Floats, ...]:
    ends, dy = optional(rest, lengths, y)
    result = np.zeros_like(y)
    for t in steps(len(y), not reverse):
        runs = running(ends, t)
        dh = dh + dy[t]
        result[t] = runs * (dh * (1 - y[t] ** 2) if activation == "tanh" else np.where(y[t] > 0, dh, 0))
        dh = np.where(runs, result[t] @ wh, dh)
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
    """Hidden weights, states, one state a step, and the gates."""

    def inputs(size: Shape) -> tuple[Spec, ...]:
        time, batch, _, units = size
        weight = real(gates * units, units, low=-0.5, high=0.5)
        sequence = real(time, batch, units, low=-0.9, high=0.9)
        gate = (real(time, batch, 4 * units, low=0.1, high=0.9),) * kept
        return weight, *(real(batch, units),) * states, sequence, *gate

    return inputs


def lengths_of(size: Shape) -> Spec:
    return ids(size[1], below=size[0] + 2)


def forward(inputs: Callable[[Shape], tuple[Spec, ...]], **attributes: Any) -> list[Variant]:
    both = (False, True)
    return [call(*inputs(size), reverse=reverse, **attributes) for size in SIZES for reverse in both] + [
        call(*inputs(size), lengths_of(size), reverse=reverse, **attributes)
        for size in (SIZES[0], SIZES[3])
        for reverse in both
    ]


def backward(inputs: Callable[[Shape], tuple[Spec, ...]], **attributes: Any) -> list[Variant]:
    def y_gradient(size: Shape) -> Spec:
        return real(size[0], size[1], size[3])

    both = (False, True)
    first = SIZES[0]
    return [
        *(call(*inputs(size), y_gradient(size), reverse=r, **attributes) for size in SIZES for r in both),
        *(
            call(*inputs(size), lengths_of(size), y_gradient(size), reverse=r, lengths=True, **attributes)
            for size in (first, SIZES[3])
            for r in both
        ),
        call(*inputs(first), **attributes),
        call(*inputs(first), lengths_of(first), lengths=True, **attributes),
    ]


LOOSE = 30  # what a step rounds, all later steps carry on
RNN, RNN_BACKWARD = forward_inputs(1, 1), backward_inputs(1, 1, 0)
LSTM, LSTM_BACKWARD = forward_inputs(4, 2), backward_inputs(4, 3, 1)
GRU, GRU_BACKWARD = forward_inputs(3, 1), backward_inputs(3, 2, 1)

ROWS: list[Row] = [
    Row("lstm", lstm, tuple(forward(LSTM)), loose=LOOSE, differentiated=(0, 1, 2)),
    Row("lstm_backward", lstm_backward, tuple(backward(LSTM_BACKWARD)), loose=LOOSE),
    Row("gru", gru, tuple(forward(GRU)), loose=LOOSE, differentiated=(0, 1)),
    Row("gru_backward", gru_backward, tuple(backward(GRU_BACKWARD)), loose=LOOSE),
    Row("rnn", rnn, tuple(forward(RNN) + forward(RNN, activation="relu")), loose=LOOSE),
    Row(
        "rnn_backward",
        rnn_backward,
        tuple(backward(RNN_BACKWARD) + backward(RNN_BACKWARD, activation="relu")),
        loose=LOOSE,
    ),
]
