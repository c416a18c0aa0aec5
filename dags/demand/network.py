"""The forecast's network: an LSTM over the last days, beside what is known of the hour ahead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxpipe import gluon, np
from mxpipe.gluon import nn, rnn
from mxpipe.gluon.model_zoo.tabular import MergedEmbedding


class DemandNetwork(gluon.HybridBlock):
    """(numeric (n, 2 * past_hours + known), categorical (n, c)) to a forecast (n, 1).

    ::

        numeric = [departures of the past, delays of the past, known of the hour ahead]
        past    = LSTM over (departures, delay) of each hour; its last state
        result  = Dense(relu(Dense([past, known, embeddings])))

    Args:
        past_hours: Hours of the past.
        cardinalities: Number of categories of each categorical column.
        hidden_size: Units of the LSTM and of the hidden layer.
    """

    def __init__(self, past_hours: int, cardinalities: Sequence[int], hidden_size: int) -> None:
        super().__init__()
        self._past_hours = past_hours
        self.past = rnn.LSTM(hidden_size, layout="NTC", input_size=2)
        self.embedding = MergedEmbedding(cardinalities, 4)
        self.hidden = nn.Dense(hidden_size, activation="relu")
        self.result = nn.Dense(1)

    def forward(self, numeric: Any, categorical: Any) -> Any:
        """Forecast the departures of the hour ahead."""
        hours = self._past_hours
        series = np.stack([numeric[:, :hours], numeric[:, hours : 2 * hours]], axis=2)
        states = self.past(series)[:, -1]
        known = numeric[:, 2 * hours :]
        embedded = self.embedding(categorical)
        embedded = embedded.reshape((-1, embedded.shape[1] * embedded.shape[2]))  # any number of rows
        return self.result(self.hidden(np.concatenate([states, known, embedded], axis=1)))


def build(num_numeric: int, cardinalities: Sequence[int], past_hours: int, hidden_size: int = 32) -> Any:
    """The network for a training specification; its rows have `num_numeric` numbers."""
    if num_numeric < 2 * past_hours:
        raise ValueError(f"[demand] a row must have two numbers an hour of {past_hours}; got {num_numeric}.")
    return DemandNetwork(past_hours, cardinalities, hidden_size)
