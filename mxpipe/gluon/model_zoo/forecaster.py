"""Forecasters: networks that continue a series from its recent past."""

from __future__ import annotations

from typing import Any

from mxpipe._native import Array
from mxpipe.errors import SpecificationError
from mxpipe.gluon import nn, rnn
from mxpipe.gluon.hybrid import HybridBlock
from mxpipe.npx._recurrent import state_of

from .registry import register

__all__ = ["Forecaster", "lstm_forecaster"]

_ENCODERS = {"lstm": rnn.LSTM, "gru": rnn.GRU}


class Forecaster(HybridBlock):
    """Recurrent layers over the past, and a linear layer over their last state that gives the whole future.

    Args:
        horizon: Steps to forecast.
        hidden_size: Units of a recurrent layer.
        num_layers: Recurrent layers.
        cell: lstm or gru.
        dropout: Share of the results between layers that is dropped in training.
        num_features: Numbers of a time step; 0 takes it from the first input.

    Example:
        >>> import mxpipe as mx
        >>> net = Forecaster(horizon=24, hidden_size=8)
        >>> net.initialize()
        >>> net(mx.np.ones((2, 168, 3))).shape
        (2, 24)
    """

    def __init__(
        self,
        horizon: int,
        hidden_size: int = 128,
        num_layers: int = 2,
        cell: str = "lstm",
        dropout: float = 0.0,
        num_features: int = 0,
    ) -> None:
        super().__init__()
        if horizon < 1:
            raise SpecificationError(f"[Forecaster] horizon must be positive; got {horizon}.")
        if cell not in _ENCODERS:
            raise SpecificationError(
                f"[Forecaster] cell must be one of {', '.join(_ENCODERS)}; got {cell!r}."
            )
        arguments: dict[str, Any] = {"dropout": dropout, "input_size": num_features}
        self.encoder = _ENCODERS[cell](hidden_size, num_layers, "NTC", **arguments)
        self._num_layers = num_layers
        self.head = nn.Dense(horizon, in_units=hidden_size)

    def forward(self, x: Array) -> Array:
        """The past (batch, time, features) to the future (batch, horizon)."""
        _, states = self.encoder(x, self.encoder.zero_state(x))
        future: Array = self.head(state_of(states[0], self._num_layers - 1))
        return future


@register
def lstm_forecaster(
    horizon: int,
    hidden_size: int = 128,
    num_layers: int = 2,
    dropout: float = 0.0,
    num_features: int = 0,
) -> Forecaster:
    """A `Forecaster` of LSTM layers.

    Args:
        horizon: Steps to forecast.
        hidden_size: Units of a layer.
        num_layers: Layers.
        dropout: Share of the results between layers that is dropped in training.
        num_features: Numbers of a time step; 0 takes it from the first input.
    """
    return Forecaster(horizon, hidden_size, num_layers, "lstm", dropout, num_features)
