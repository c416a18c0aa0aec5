"""Recurrent layers, and sequences of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from mxpipe import _native
from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError
from mxpipe.np._common import TO_THE_END, ArrayLike, as_array, cast, public, reshape
from mxpipe.np._creation import arange, zeros
from mxpipe.np._elementwise import where
from mxpipe.np._indexing import as_indices, take
from mxpipe.np._joining import concatenate, split
from mxpipe.np._shape import moveaxis

from ._layers import dropout

MODES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""What a recurrent layer may compute, and how many gates it has."""

LayerWeights = tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]
"""Weights of the input and of the state, and their biases: of one layer in one direction."""


@public
def rnn(
    data: ArrayLike,
    parameters: ArrayLike,
    state: ArrayLike,
    state_cell: ArrayLike | None = None,
    sequence_length: ArrayLike | None = None,
    mode: str = "lstm",
    state_size: int | None = None,
    num_layers: int = 1,
    bidirectional: bool = False,
    state_outputs: bool = False,
    p: float = 0.0,
    use_sequence_length: bool = False,
) -> Any:
    """Recurrent layers over a sequence, with all parameters in one vector.

    Args:
        data: Array (time, batch, inputs).
        parameters: Vector: for each layer and direction the weights (gates * units, inputs) of the input and
            (gates * units, units) of the state; then, in the same order, their biases.
        state: The first h (layers * directions, batch, units).
        state_cell: The first c of the same shape, for lstm.
        sequence_length: Integers (batch,): the steps of each row; those behind give zeros.
        mode: lstm (gates i, f, g, o), gru (r, z, n), rnn_tanh or rnn_relu.
        state_size: units, if it is to be checked.
        num_layers: Layers, each over the results of the one before.
        bidirectional: Walk both ways; results of both lie side by side.
        state_outputs: Return the last states as well.
        p: Probability with which results between layers are dropped in training.
        use_sequence_length: Whether sequence_length counts.

    Returns:
        Array (time, batch, directions * units); with `state_outputs` a list of it, the last h and, of lstm,
        the last c.

    Raises:
        OperatorError: The mode is not known, or the sizes do not fit.

    Example:
        >>> y = npx.rnn(np.ones((3, 2, 4)), np.ones(45), np.zeros((1, 2, 5)), mode="rnn_relu")
        Traceback (most recent call last):
        mxpipe.errors.OperatorError: [rnn] parameters must hold 55 numbers; got 45.
    """
    data, parameters, state = as_array(data), as_array(parameters), as_array(state)
    if mode not in MODES:
        raise OperatorError(f"[rnn] mode must be one of {', '.join(MODES)}; got {mode}.")
    units, directions = state.shape[-1], 2 if bidirectional else 1
    if state_size is not None and state_size != units:
        raise OperatorError(f"[rnn] state must have state_size={state_size} columns; got {units}.")
    states = [state] if state_cell is None else [state, as_array(state_cell)]
    y, last = recurrent_layers(
        mode,
        data,
        _unpacked(parameters, MODES[mode] * units, units, data.shape[-1], num_layers, directions),
        [_parts(s, num_layers * directions) for s in states],
        directions=directions,
        lengths=sequence_length if use_sequence_length else None,
        rate=p,
    )
    return [y, *last] if state_outputs else y


def _parts(state: Array, count: int) -> list[Array]:
    if state.ndim != 3 or state.shape[0] != count:
        raise OperatorError(f"[rnn] states must have shape ({count}, batch, units); got {state.shape}.")
    return [state_of(state, index) for index in range(count)]


def _unpacked(
    parameters: Array, rows: int, units: int, inputs: int, layers: int, directions: int
) -> list[LayerWeights]:
    shapes: list[tuple[int, ...]] = []
    for layer in range(layers):
        shapes += [(rows, directions * units if layer else inputs), (rows, units)] * directions
    shapes += [(rows,)] * (2 * layers * directions)
    sizes = [shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes]
    if parameters.shape != (sum(sizes),):
        raise OperatorError(
            f"[rnn] parameters must hold {sum(sizes)} numbers; got {', '.join(map(str, parameters.shape))}."
        )
    ends = [sum(sizes[:index]) for index in range(1, len(sizes))]
    parts = [reshape(part, shape) for part, shape in zip(split(parameters, ends), shapes, strict=True)]
    count = layers * directions
    return [
        (parts[2 * i], parts[2 * i + 1], parts[2 * (count + i)], parts[2 * (count + i) + 1])
        for i in range(count)
    ]


def recurrent_layers(
    mode: str,
    x: Array,
    weights: Sequence[LayerWeights],
    states: Sequence[Sequence[Array]],
    directions: int = 1,
    lengths: ArrayLike | None = None,
    rate: float = 0.0,
) -> tuple[Array, list[Array]]:
    """Layers over the sequence x (time, batch, inputs), each over the results of the one before.

    Args:
        mode: A key of `MODES`.
        x: The sequence.
        weights: For each layer and direction.
        states: The first h, and the first c of lstm: for each layer and direction (batch, units).
        directions: 1, or 2 for both ways.
        lengths: Steps of each row of the batch; those behind give zeros.
        rate: Probability with which results between layers are dropped in training.

    Returns:
        Results (time, batch, directions * units), and the last states (layers * directions, batch, units).
    """
    ends = None if lengths is None else cast(as_indices("rnn", lengths), "int64")
    last: list[list[Array]] = [[] for _ in states]
    layers = len(weights) // directions
    for layer in range(layers):
        results = []
        for direction in range(directions):
            index = layer * directions + direction
            first = [state[index] for state in states]
            y, *after = recurrent_layer(mode, x, weights[index], first, bool(direction), ends)
            results.append(y)
            for collected, state in zip(last, after, strict=True):
                collected.append(state)
        x = results[0] if directions == 1 else concatenate(results, axis=2)
        if rate > 0 and layer < layers - 1:
            x = dropout(x, rate)
    if ends is not None:
        x = sequence_mask(x, ends, use_sequence_length=True)
    return x, [_joined(collected) for collected in last]


def recurrent_layer(
    mode: str,
    x: Array,
    weights: LayerWeights,
    states: Sequence[Array],
    reverse: bool = False,
    lengths: Array | None = None,
) -> tuple[Array, ...]:
    """One layer in one direction: the h of each step (time, batch, units), and the last states."""
    inputs = (x, *(as_array(weight) for weight in weights), *states, *(() if lengths is None else (lengths,)))
    if mode.startswith("rnn"):
        return invoke("rnn", inputs, {"reverse": reverse, "activation": mode.removeprefix("rnn_")})
    op: Literal["lstm", "gru"] = "lstm" if mode == "lstm" else "gru"
    keep = _native.is_recording() or _native.is_tracing()  # a graph may be differentiated later
    return invoke(op, inputs, {"reverse": reverse, "keep": keep})[: len(states) + 1]


# Graphs may be used with another batch size than they were traced with: no shape below holds it.


def no_state(x: Array, count: int, units: int) -> Array:
    """First states of zeros (count, batch, units) for the sequence x."""
    zero = zeros((count, 1, units), dtype=x.dtype)
    if 0 in x.shape:
        return zeros((count, x.shape[1], units), dtype=x.dtype)
    begin, end = (0, 0, 0), (1, TO_THE_END, 1)
    column = invoke("slice", (x,), {"begin": begin, "end": end, "step": (1, 1, 1)})
    return where(column > 0, zero, zero)


def state_of(states: Array, index: int) -> Array:
    """One of the states (count, batch, units), as (batch, units)."""
    begin, end = (index, 0, 0), (index + 1, TO_THE_END, TO_THE_END)
    part = invoke("slice", (states,), {"begin": begin, "end": end, "step": (1, 1, 1)})
    return reshape(part, (-1, states.shape[2]))


def _joined(states: Sequence[Array]) -> Array:
    return concatenate([reshape(state, (1, -1, state.shape[1])) for state in states], axis=0)


# ------------------------------------------------------------------------------------------------- lengths


def _time_first(op: str, data: ArrayLike, axis: int) -> Array:
    data = as_array(data)
    if axis not in (0, 1) or data.ndim < 2:
        raise OperatorError(f"[{op}] axis must be 0 or 1 of an array with both; got {axis} of {data.shape}.")
    return moveaxis(data, axis, 0)


def _steps(data: Array) -> Array:
    """The number of each time step (time, 1)."""
    return reshape(arange(data.shape[0], dtype="int64"), (-1, 1))


@public
def sequence_mask(
    data: ArrayLike,
    sequence_length: ArrayLike | None = None,
    use_sequence_length: bool = False,
    value: float = 0,
    axis: int = 0,
) -> Array:
    """The data, with the steps behind each row's last one replaced.

    Args:
        data: Array (time, batch, ...), or (batch, time, ...) with axis 1.
        sequence_length: Integers (batch,): the steps of each row.
        use_sequence_length: Whether sequence_length counts; else the data is returned as it is.
        value: What replaces.
        axis: Where time lies, 0 or 1.

    Returns:
        Array of data's shape.

    Raises:
        OperatorError: The axis is neither 0 nor 1, or the sizes do not fit.

    Example:
        >>> npx.sequence_mask(np.ones((2, 2)), np.array([1, 2]), True)
        array([[1., 1.],
               [0., 1.]])
    """
    data = as_array(data)
    if not use_sequence_length or sequence_length is None:
        return data
    time_first = _time_first("sequence_mask", data, axis)
    inside = _steps(time_first) < cast(as_indices("sequence_mask", sequence_length), "int64")
    inside = inside.reshape((*inside.shape, *(1,) * (data.ndim - 2)))
    return moveaxis(where(inside, time_first, cast(as_array(value), data.dtype)), 0, axis)


def _rows_at(op: str, data: Array, steps: Array) -> Array:
    """data[steps[..., n], n] for each row n of the batch."""
    batch = data.shape[1]
    rows = reshape(data, (data.shape[0] * batch, *data.shape[2:]))
    return take(rows, steps * batch + arange(batch, dtype="int64"), axis=0)


@public
def sequence_last(
    data: ArrayLike,
    sequence_length: ArrayLike | None = None,
    use_sequence_length: bool = False,
    axis: int = 0,
) -> Array:
    """The last step of each row.

    Args:
        data: Array (time, batch, ...), or (batch, time, ...) with axis 1.
        sequence_length: Integers (batch,) of at least 1: the steps of each row.
        use_sequence_length: Whether sequence_length counts; else all rows end together.
        axis: Where time lies, 0 or 1.

    Returns:
        Array (batch, ...).

    Raises:
        OperatorError: The axis is neither 0 nor 1, or a length lies outside of [1, time].

    Example:
        >>> npx.sequence_last(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 2]), True)
        array([1., 4.])
    """
    time_first = _time_first("sequence_last", data, axis)
    if not use_sequence_length or sequence_length is None:
        return time_first[-1]
    steps = cast(as_indices("sequence_last", sequence_length), "int64") - 1
    return _rows_at("sequence_last", time_first, steps)


@public
def sequence_reverse(
    data: ArrayLike,
    sequence_length: ArrayLike | None = None,
    use_sequence_length: bool = False,
    axis: int = 0,
) -> Array:
    """The steps of each row in reverse order; those behind its last one stay where they are.

    Args:
        data: Array (time, batch, ...), or (batch, time, ...) with axis 1.
        sequence_length: Integers (batch,): the steps of each row.
        use_sequence_length: Whether sequence_length counts; else all steps are turned around.
        axis: Where time lies, 0 or 1.

    Returns:
        Array of data's shape.

    Raises:
        OperatorError: The axis is neither 0 nor 1, or a length exceeds time.

    Example:
        >>> npx.sequence_reverse(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 2]), True)
        array([[1., 4.],
               [3., 2.]])
    """
    time_first = _time_first("sequence_reverse", data, axis)
    if not use_sequence_length or sequence_length is None:
        return moveaxis(time_first[::-1], 0, axis)
    steps, ends = _steps(time_first), cast(as_indices("sequence_reverse", sequence_length), "int64")
    return moveaxis(
        _rows_at("sequence_reverse", time_first, where(steps < ends, ends - 1 - steps, steps)), 0, axis
    )
