"""Models on disk: a folder that holds a graph, its weights and its preprocessing, and cannot run code.

Enters: a trained net with its preprocessor. Leaves: `model.json` and `weights.safetensors`, and a thread-safe
:class:`Model` that predicts from raw columns. Called by training, serving, the command line and the MLflow
flavor.
"""

from __future__ import annotations

from mxpipe.model.format import Column, model_digest
from mxpipe.model.model import Model, load_model, save_model
from mxpipe.model.safetensors import read_safetensors, write_safetensors

__all__ = [
    "Column",
    "Model",
    "load_model",
    "model_digest",
    "read_safetensors",
    "save_model",
    "write_safetensors",
]
