"""Starting from the weights of an older model, whose vocabularies were other ones."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mxpipe.model import load_model

if TYPE_CHECKING:
    from mxpipe.data import Preprocessor

_LOG = logging.getLogger(__name__)


def warm_start(net: Any, preprocessor: Preprocessor, path: str | os.PathLike[str]) -> list[str]:
    """Take initial values from a model folder, where a parameter has the same name.

    A table of embeddings is taken over row by row, by the category that a row stands for: the vocabularies of two
    months differ. Rows of new categories keep their initial values.

    Args:
        net: An initialized net.
        preprocessor: That of the new training.
        path: The model folder.

    Returns:
        Names of the parameters that were taken over.

    Raises:
        ModelFormatError: The model folder is damaged.
    """
    old = load_model(path)
    tables = _row_maps(old.preprocessor, preprocessor)
    taken = []
    for name, parameter in net.collect_params().items():
        if name not in old.weights:
            continue
        values, present = old.weights[name], parameter.data().asnumpy()
        merged = _merge(values, present, tables)
        if merged is None:
            _LOG.info("warm start: %s keeps its initial values, its shape is another one", name)
            continue
        parameter.set_data(merged)
        taken.append(name)
    return taken
