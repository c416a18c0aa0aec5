"""Models on disk: a folder that holds a graph, its weights and its preprocessing, and cannot run code.

Enters: a trained net with its preprocessor, or with the shapes of the arrays that it takes. Leaves:
`model.json` and `weights.safetensors`, and a thread-safe :class:`Model` that predicts from raw columns or
arrays. Called by training, serving, the command line and the MLflow flavor.
"""

from __future__ import annotations

from mxpipe.model.format import Column, Tensor, model_digest
from mxpipe.model.model import Model, load_model, save_model
from mxpipe.model.safetensors import read_safetensors, write_safetensors

__all__ = [
    "Column",
    "Model",
    "Tensor",
    "load_model",
    "model_digest",
    "read_safetensors",
    "save_model",
    "write_safetensors",
]
