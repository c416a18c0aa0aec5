"""Networks by name.

Example:
    >>> import mxpipe as mx
    >>> net = mx.gluon.model_zoo.get_model("mlp", num_numeric=4, hidden_units=[8])
    >>> net.initialize()
    >>> net(mx.np.ones((2, 4))).shape
    (2, 1)
"""

from __future__ import annotations

from . import encoder, forecaster, recommender, tabular, vision
from .encoder import transformer_encoder
from .forecaster import lstm_forecaster
from .recommender import dlrm
from .registry import get_model, list_models, register
from .tabular import logistic_regression, mlp, wide_and_deep

__all__ = [
    "dlrm",
    "encoder",
    "forecaster",
    "get_model",
    "list_models",
    "logistic_regression",
    "lstm_forecaster",
    "mlp",
    "recommender",
    "register",
    "tabular",
    "transformer_encoder",
    "vision",
    "wide_and_deep",
]
