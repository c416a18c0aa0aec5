"""LSTM, GRU and RNN: layers over whole sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mxpipe import initializer, np
from mxpipe._native import Array
from mxpipe.errors import BlockError
from mxpipe.gluon.hybrid import HybridBlock
from mxpipe.gluon.parameter import Parameter
from mxpipe.npx._recurrent import MODES, no_state, recurrent_layers, state_of

__all__ = ["GRU", "LSTM", "RNN"]

_Init = str | initializer.Initializer | None
_KINDS = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")


class _Layers(HybridBlock):
    """What the three have in common: parameters, states, layouts."""

    def __init__(
        self,
        mode: str,
        hidden_size: int,
        num_layers: int,
        layout: str,
        dropout: float,
        bidirectional: bool,
        input_size: int,
        initializers: tuple[_Init, _Init, _Init, _Init],
        dtype: Any,
        use_sequence_length: bool,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if hidden_size < 1 or num_layers < 1:
            raise BlockError(
                f"[{name}] hidden_size and num_layers must be positive; got {hidden_size} and {num_layers}."
            )
        if layout not in ("TNC", "NTC"):
            raise BlockError(f"[{name}] layout must be TNC or NTC; got {layout!r}.")
        if not 0.0 <= dropout < 1.0:
            raise BlockError(f"[{name}] dropout must be at least 0 and less than 1; got {dropout}.")
        self._mode = mode
        self._hidden_size = hidden_size
        self._num_layers = num_layers
        self._layout = layout
        self._dropout = dropout
        self._directions = ("l", "r") if bidirectional else ("l",)
        self._dtype = dtype
        self._use_sequence_length = use_sequence_length
        for layer in range(num_layers):
            for direction in self._directions:
                for kind, init in zip(_KINDS, initializers, strict=True):
                    shape = self._shape(kind, layer, input_size)
                    parameter = Parameter(shape=shape, init=init, dtype=dtype, allow_deferred_init=True)
                    setattr(self, f"{direction}{layer}_{kind}", parameter)

    def _shape(self, kind: str, layer: int, input_size: int) -> tuple[int, ...]:
        rows, units = MODES[self._mode] * self._hidden_size, self._hidden_size
        if kind.endswith("bias"):
            return (rows,)
        if kind == "h2h_weight":
            return (rows, units)
        return (rows, len(self._directions) * units if layer else input_size)

    def infer_shape(self, x: Array, *args: Any) -> None:
        """Take the number of inputs from x."""
        for direction in self._directions:
            parameter = self._reg_params[f"{direction}0_i2h_weight"]
            parameter.shape = self._shape("i2h_weight", 0, x.shape[-1])

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """Shape and layout of each state, for a batch of this size."""
        count = self._num_layers * len(self._directions)
        shape = (count, batch_size, self._hidden_size)
        return [{"shape": shape, "__layout__": "LNC"}] * (2 if self._mode == "lstm" else 1)

    def begin_state(
        self, batch_size: int = 0, func: Callable[..., Array] = np.zeros, **arguments: Any
    ) -> list[Array]:
        """First states (layers * directions, batch_size, hidden_size): h, and of LSTM c.

        Args:
            batch_size: Rows of the batch.
            func: Makes an array of a shape; further arguments go to it.
            arguments: For func.
        """
        arguments.setdefault("dtype", self._dtype)
        return [func(info["shape"], **arguments) for info in self.state_info(batch_size)]

    def zero_state(self, x: Array) -> list[Array]:
        """First states of zeros for the batch x; unlike `begin_state`, a graph with them fits other sizes."""
        info = self.state_info()
        return [no_state(self._time_first(x), info[0]["shape"][0], self._hidden_size)] * len(info)

    def forward(
        self, x: Array, states: Array | Sequence[Array] | None = None, sequence_length: Array | None = None
    ) -> Any:
        """Run a batch of sequences.

        Args:
            x: Array (time, batch, inputs), or (batch, time, inputs) in layout NTC.
            states: The first states, as `begin_state` gives them; zeros where None.
            sequence_length: Integers (batch,): the steps of each row, with `use_sequence_length`. Results
                behind them are zeros, and the last states those of each row's last step.

        Returns:
            Results (time, batch, directions * hidden_size) in x's layout; if states were given, a pair of
            them and the list of the last states.
        """
        name = type(self).__name__
        if x.ndim != 3:
            raise BlockError(f"[{name}] x must have 3 axes, {self._layout}; got shape {x.shape}.")
        if self._use_sequence_length != (sequence_length is not None):
            raise BlockError(
                f"[{name}] sequence_length must be given if use_sequence_length is set, and only then."
            )
        x = self._time_first(x)
        weights = [
            tuple([self._reg_params[f"{direction}{layer}_{kind}"].data() for kind in _KINDS])
            for layer in range(self._num_layers)
            for direction in self._directions
        ]
        y, last = recurrent_layers(
            self._mode,
            x,
            weights,  # type: ignore[arg-type]
            self._first_states(x, states),
            directions=len(self._directions),
            lengths=sequence_length,
            rate=self._dropout,
        )
        y = np.swapaxes(y, 0, 1) if self._layout == "NTC" else y
        return y if states is None else (y, last)

    def _time_first(self, x: Array) -> Array:
        return np.swapaxes(x, 0, 1) if self._layout == "NTC" else x

    def _first_states(self, x: Array, states: Array | Sequence[Array] | None) -> list[list[Array]]:
        info = self.state_info(x.shape[1])
        count = info[0]["shape"][0]
        if states is None:
            zero = state_of(no_state(x, 1, self._hidden_size), 0)
            return [[zero] * count for _ in info]
        given = [states] if isinstance(states, Array) else list(states)
        shapes = [state.shape for state in given]
        if shapes != [item["shape"] for item in info]:
            raise BlockError(
                f"[{type(self).__name__}] states must have the shapes {[item['shape'] for item in info]}; "
                f"got {shapes}."
            )
        return [[state_of(state, index) for index in range(count)] for state in given]

    def __repr__(self) -> str:
        inputs = (self._reg_params["l0_i2h_weight"].shape or (0, 0))[1] or None
        text = f"{type(self).__name__}({inputs} -> {self._hidden_size}, {self._layout}"
        text += f", num_layers={self._num_layers}" if self._num_layers > 1 else ""
        text += f", dropout={self._dropout}" if self._dropout else ""
        return text + (", bidirectional)" if len(self._directions) > 1 else ")")


class RNN(_Layers):
    """Plain recurrent layers: h = activation(i2h_weight x + i2h_bias + h2h_weight h + h2h_bias).

    Elman 1990. Parameters are l0_i2h_weight (units, inputs), l0_h2h_weight (units, units), l0_i2h_bias and
    l0_h2h_bias (units,), then l1 and so on; r0 instead of l0 for the way back.

    Args:
        hidden_size: Units of a layer.
        num_layers: Layers, each over the results of the one before.
        activation: relu or tanh.
        layout: TNC for inputs (time, batch, channels), or NTC.
        dropout: Share of the results between layers that is dropped in training.
        bidirectional: Walk both ways; results of both lie side by side.
        input_size: Number of inputs; 0 takes it from the first input.
        i2h_weight_initializer: For the weights of the input.
        h2h_weight_initializer: For the weights of the state.
        i2h_bias_initializer: For the biases of the input.
        h2h_bias_initializer: For the biases of the state.
        dtype: Type of the parameters.
        use_sequence_length: Whether `forward` takes the length of each row.

    Example:
        >>> import mxpipe as mx
        >>> layer = RNN(5, num_layers=2)
        >>> layer.initialize()
        >>> layer(mx.np.ones((7, 3, 4))).shape
        (7, 3, 5)
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        activation: str = "relu",
        layout: str = "TNC",
        dropout: float = 0.0,
        bidirectional: bool = False,
        input_size: int = 0,
        i2h_weight_initializer: _Init = None,
        h2h_weight_initializer: _Init = None,
        i2h_bias_initializer: _Init = "zeros",
        h2h_bias_initializer: _Init = "zeros",
        dtype: Any = "float32",
        use_sequence_length: bool = False,
    ) -> None:
        if activation not in ("relu", "tanh"):
            raise BlockError(f"[RNN] activation must be relu or tanh; got {activation!r}.")
        super().__init__(
            f"rnn_{activation}",
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            (i2h_weight_initializer, h2h_weight_initializer, i2h_bias_initializer, h2h_bias_initializer),
            dtype,
            use_sequence_length,
        )


class LSTM(_Layers):
    """Layers of long short-term memory.

    Hochreiter and Schmidhuber 1997: c = f c + i g and h = o tanh(c), the gates i, f, o being sigmoids and g
    a tanh of i2h_weight x + i2h_bias + h2h_weight h + h2h_bias. Parameters are those of `RNN` with
    4 * hidden_size rows: i, f, g, o in this order.

    Args:
        hidden_size: Units of a layer.
        num_layers: Layers, each over the results of the one before.
        layout: TNC for inputs (time, batch, channels), or NTC.
        dropout: Share of the results between layers that is dropped in training.
        bidirectional: Walk both ways; results of both lie side by side.
        input_size: Number of inputs; 0 takes it from the first input.
        i2h_weight_initializer: For the weights of the input.
        h2h_weight_initializer: For the weights of the state.
        i2h_bias_initializer: For the biases of the input.
        h2h_bias_initializer: For the biases of the state.
        dtype: Type of the parameters.
        use_sequence_length: Whether `forward` takes the length of each row.

    Example:
        >>> import mxpipe as mx
        >>> layer = LSTM(5, layout="NTC")
        >>> layer.initialize()
        >>> y, (h, c) = layer(mx.np.ones((3, 7, 4)), layer.begin_state(3))
        >>> y.shape, h.shape, bool((y[:, -1] == h[0]).all())
        ((3, 7, 5), (1, 3, 5), True)
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        layout: str = "TNC",
        dropout: float = 0.0,
        bidirectional: bool = False,
        input_size: int = 0,
        i2h_weight_initializer: _Init = None,
        h2h_weight_initializer: _Init = None,
        i2h_bias_initializer: _Init = "zeros",
        h2h_bias_initializer: _Init = "zeros",
        dtype: Any = "float32",
        use_sequence_length: bool = False,
    ) -> None:
        super().__init__(
            "lstm",
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            (i2h_weight_initializer, h2h_weight_initializer, i2h_bias_initializer, h2h_bias_initializer),
            dtype,
            use_sequence_length,
        )


class GRU(_Layers):
    """Layers of gated recurrent units.

    Cho et al. 2014, the reset gate applied behind the product with the state: n = tanh(i2h_weight x +
    i2h_bias + r (h2h_weight h + h2h_bias)) and h = (1 - z) n + z h, r and z being sigmoids. Parameters are
    those of `RNN` with 3 * hidden_size rows: r, z, n in this order.

    Args:
        hidden_size: Units of a layer.
        num_layers: Layers, each over the results of the one before.
        layout: TNC for inputs (time, batch, channels), or NTC.
        dropout: Share of the results between layers that is dropped in training.
        bidirectional: Walk both ways; results of both lie side by side.
        input_size: Number of inputs; 0 takes it from the first input.
        i2h_weight_initializer: For the weights of the input.
        h2h_weight_initializer: For the weights of the state.
        i2h_bias_initializer: For the biases of the input.
        h2h_bias_initializer: For the biases of the state.
        dtype: Type of the parameters.
        use_sequence_length: Whether `forward` takes the length of each row.

    Example:
        >>> import mxpipe as mx
        >>> layer = GRU(5, bidirectional=True)
        >>> layer.initialize()
        >>> layer(mx.np.ones((7, 3, 4))).shape
        (7, 3, 10)
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        layout: str = "TNC",
        dropout: float = 0.0,
        bidirectional: bool = False,
        input_size: int = 0,
        i2h_weight_initializer: _Init = None,
        h2h_weight_initializer: _Init = None,
        i2h_bias_initializer: _Init = "zeros",
        h2h_bias_initializer: _Init = "zeros",
        dtype: Any = "float32",
        use_sequence_length: bool = False,
    ) -> None:
        super().__init__(
            "gru",
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            (i2h_weight_initializer, h2h_weight_initializer, i2h_bias_initializer, h2h_bias_initializer),
            dtype,
            use_sequence_length,
        )
