"""Cells: one step of a recurrent network, as ordinary ops, and `unroll` over the steps of a sequence.

A cell takes (inputs (batch, channels), states) and gives (output, new states). Layers (layers.py) do the same
for a whole sequence in one op, and faster; cells serve where the steps differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mxpipe import initializer, np, npx
from mxpipe._native import Array
from mxpipe.errors import BlockError
from mxpipe.gluon.hybrid import HybridBlock
from mxpipe.gluon.parameter import Parameter

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RecurrentCell"]

_Init = str | initializer.Initializer | None


class RecurrentCell(HybridBlock):
    """Base of all cells. A subclass defines `state_info` and `forward`."""

    def reset(self) -> None:
        """Forget what belongs to the sequence before; `unroll` calls it first."""
        for child in self._children.values():
            if isinstance(child, RecurrentCell):
                child.reset()

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """Shape and layout of each state, for a batch of this size."""
        raise NotImplementedError(f"[{type(self).__name__}] a cell must define state_info.")

    def begin_state(
        self, batch_size: int = 0, func: Callable[..., Array] = np.zeros, **arguments: Any
    ) -> list[Array]:
        """First states.

        Args:
            batch_size: Rows of the batch.
            func: Makes an array of a shape; further arguments go to it.
            arguments: For func.
        """
        return [func(info["shape"], **arguments) for info in self.state_info(batch_size)]

    def unroll(
        self,
        length: int,
        inputs: Array | Sequence[Array],
        begin_state: Sequence[Array] | None = None,
        layout: str = "NTC",
        merge_outputs: bool | None = None,
        valid_length: Array | None = None,
    ) -> tuple[Any, list[Array]]:
        """Run the cell step by step.

        Args:
            length: Number of steps.
            inputs: One array in the layout, or a list of `length` arrays (batch, channels).
            begin_state: The first states; zeros where None.
            layout: NTC or TNC.
            merge_outputs: Give one array in the layout, or a list with an array for each step; as the inputs
                came where None.
            valid_length: Integers (batch,): the steps of each row. Outputs behind them are zeros, and the
                last states those of each row's last step.

        Returns:
            The outputs and the last states.

        Raises:
            BlockError: The inputs have another number of steps, or the layout is not known.
        """
        self.reset()
        steps = split_steps(type(self).__name__, inputs, length, layout)
        states = (
            self.begin_state(steps[0].shape[0], dtype=steps[0].dtype) if begin_state is None else begin_state
        )
        outputs, states = self._run_steps(steps, list(states), valid_length)
        merge = isinstance(inputs, Array) if merge_outputs is None else merge_outputs
        return (join_steps(outputs, layout) if merge else outputs), states

    def _run_steps(
        self, steps: list[Array], states: list[Array], valid_length: Array | None
    ) -> tuple[list[Array], list[Array]]:
        outputs = []
        for number, step in enumerate(steps):
            output, after = self(step, states)
            if valid_length is None:
                states = after
            else:
                runs = np.reshape(valid_length > number, (-1, 1))
                states = [np.where(runs, new, old) for new, old in zip(after, states, strict=True)]
                output = np.where(runs, output, np.zeros_like(output))
            outputs.append(output)
        return outputs, states


def split_steps(name: str, inputs: Array | Sequence[Array], length: int, layout: str) -> list[Array]:
    """The inputs of `unroll` as one array for each step."""
    if layout not in ("NTC", "TNC"):
        raise BlockError(f"[{name}] layout must be NTC or TNC; got {layout!r}.")
    axis = layout.index("T")
    given = inputs.shape[axis] if isinstance(inputs, Array) else len(inputs)
    if given != length or length < 1:
        raise BlockError(f"[{name}] inputs must have length={length} steps, at least 1; got {given}.")
    if not isinstance(inputs, Array):
        return list(inputs)
    return [inputs[:, step] if axis else inputs[step] for step in range(length)]


def join_steps(outputs: Sequence[Array], layout: str) -> Array:
    """One array in the layout from an array for each step."""
    return np.stack(list(outputs), axis=layout.index("T"))


class _GatedCell(RecurrentCell):
    """A cell with the four parameters of one layer."""

    _gates = 1

    def __init__(
        self,
        hidden_size: int,
        i2h_weight_initializer: _Init = None,
        h2h_weight_initializer: _Init = None,
        i2h_bias_initializer: _Init = "zeros",
        h2h_bias_initializer: _Init = "zeros",
        input_size: int = 0,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        if hidden_size < 1:
            raise BlockError(f"[{type(self).__name__}] hidden_size must be positive; got {hidden_size}.")
        rows = self._gates * hidden_size
        self._hidden_size = hidden_size

        def parameter(shape: tuple[int, ...], init: _Init) -> Parameter:
            return Parameter(shape=shape, init=init, dtype=dtype, allow_deferred_init=True)

        self.i2h_weight = parameter((rows, input_size), i2h_weight_initializer)
        self.h2h_weight = parameter((rows, hidden_size), h2h_weight_initializer)
        self.i2h_bias = parameter((rows,), i2h_bias_initializer)
        self.h2h_bias = parameter((rows,), h2h_bias_initializer)

    def infer_shape(self, inputs: Array, *args: Any) -> None:
        """Take the number of inputs."""
        self.i2h_weight.shape = (self._gates * self._hidden_size, inputs.shape[-1])

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """Of h."""
        return [{"shape": (batch_size, self._hidden_size), "__layout__": "NC"}]

    def _sums(self, inputs: Array, h: Array) -> tuple[Array, Array]:
        """The products with the inputs and with h, each with its bias."""
        return (
            npx.fully_connected(inputs, self.i2h_weight.data(), self.i2h_bias.data()),
            npx.fully_connected(h, self.h2h_weight.data(), self.h2h_bias.data()),
        )

    def __repr__(self) -> str:
        inputs = (self.i2h_weight.shape or (0, 0))[1] or None
        return f"{type(self).__name__}({inputs} -> {self._hidden_size})"


class RNNCell(_GatedCell):
    """One step of `RNN`: h = activation(i2h_weight x + i2h_bias + h2h_weight h + h2h_bias).

    Args:
        hidden_size: Units.
        activation: Name of an activation, such as tanh or relu.
        i2h_weight_initializer: For i2h_weight (units, inputs).
        h2h_weight_initializer: For h2h_weight (units, units).
        i2h_bias_initializer: For i2h_bias (units,).
        h2h_bias_initializer: For h2h_bias (units,).
        input_size: Number of inputs; 0 takes it from the first input.
        dtype: Type of the parameters.

    Example:
        >>> import mxpipe as mx
        >>> cell = RNNCell(5)
        >>> cell.initialize()
        >>> output, states = cell(mx.np.ones((3, 4)), cell.begin_state(3))
        >>> output.shape, len(states)
        ((3, 5), 1)
    """

    def __init__(
        self,
        hidden_size: int,
        activation: str = "tanh",
        i2h_weight_initializer: _Init = None,
        h2h_weight_initializer: _Init = None,
        i2h_bias_initializer: _Init = "zeros",
        h2h_bias_initializer: _Init = "zeros",
        input_size: int = 0,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(
            hidden_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            input_size,
            dtype,
        )
        self._activation = activation

    def forward(self, inputs: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        """The new h, twice."""
        of_inputs, of_state = self._sums(inputs, states[0])
        h = npx.activation(of_inputs + of_state, self._activation)
        return h, [h]


class LSTMCell(_GatedCell):
    """One step of `LSTM`, with parameters of 4 * hidden_size rows: the gates i, f, g, o.

    Args:
        hidden_size: Units.
        i2h_weight_initializer: For i2h_weight (4 * units, inputs).
        h2h_weight_initializer: For h2h_weight (4 * units, units).
        i2h_bias_initializer: For i2h_bias (4 * units,).
        h2h_bias_initializer: For h2h_bias (4 * units,).
        input_size: Number of inputs; 0 takes it from the first input.
        dtype: Type of the parameters.

    Example:
        >>> import mxpipe as mx
        >>> cell = LSTMCell(5)
        >>> cell.initialize()
        >>> outputs, states = cell.unroll(7, mx.np.ones((3, 7, 4)))
        >>> outputs.shape, [state.shape for state in states]
        ((3, 7, 5), [(3, 5), (3, 5)])
    """

    _gates = 4

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """Of h and c."""
        return super().state_info(batch_size) * 2

    def forward(self, inputs: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        """The new h, and the new h and c."""
        h, c = states
        of_inputs, of_state = self._sums(inputs, h)
        i, f, g, o = np.split(of_inputs + of_state, 4, axis=1)
        c = npx.sigmoid(f) * c + npx.sigmoid(i) * np.tanh(g)
        h = npx.sigmoid(o) * np.tanh(c)
        return h, [h, c]


class GRUCell(_GatedCell):
    """One step of `GRU`, with parameters of 3 * hidden_size rows: the gates r, z, n.

    Args:
        hidden_size: Units.
        i2h_weight_initializer: For i2h_weight (3 * units, inputs).
        h2h_weight_initializer: For h2h_weight (3 * units, units).
        i2h_bias_initializer: For i2h_bias (3 * units,).
        h2h_bias_initializer: For h2h_bias (3 * units,).
        input_size: Number of inputs; 0 takes it from the first input.
        dtype: Type of the parameters.
    """

    _gates = 3

    def forward(self, inputs: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        """The new h, twice."""
        h = states[0]
        of_inputs, of_state = self._sums(inputs, h)
        input_r, input_z, input_n = np.split(of_inputs, 3, axis=1)
        state_r, state_z, state_n = np.split(of_state, 3, axis=1)
        z = npx.sigmoid(input_z + state_z)
        n = np.tanh(input_n + npx.sigmoid(input_r + state_r) * state_n)
        h = (1.0 - z) * n + z * h
        return h, [h]
