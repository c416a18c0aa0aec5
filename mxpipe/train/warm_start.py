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
_UNKNOWN = 0  # the id of null and of categories outside of the vocabulary


def warm_start(net: Any, preprocessor: Preprocessor, path: str | os.PathLike[str]) -> list[str]:
    """Take initial values from a model folder, where a parameter has the same name and shape.

    A table of embeddings is taken over row by row, by the category that a row stands for, since two months
    have two vocabularies. Rows of new categories keep their initial values. Which parameters are tables, a
    net says by `table_columns()`: parameter name to the positions of the categorical columns whose rows it
    holds, one after the other.

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
    tables = net.table_columns() if hasattr(net, "table_columns") else {}
    taken = []
    for name, parameter in net.collect_params().items():
        values = old.weights.get(name)
        if values is None:
            continue
        present = parameter.data().asnumpy()
        merged: npt.NDArray[Any] | None = values
        if name in tables:
            names = [preprocessor.features.categorical[column] for column in tables[name]]
            merged = _merge_tables(values, present, names, old.preprocessor, preprocessor)
        if merged is None or merged.shape != present.shape:
            _LOG.info("warm start: %s keeps its initial values: the older model has another shape", name)
            continue
        parameter.set_data(merged)
        taken.append(name)
    _LOG.info("warm start: %d parameters from %s", len(taken), old.path)
    return taken


def _merge_tables(
    old_rows: npt.NDArray[Any],
    new_rows: npt.NDArray[Any],
    columns: list[str],
    old: Preprocessor,
    new: Preprocessor,
) -> npt.NDArray[Any] | None:
    """The new table with the rows of all categories that the older one knows; None where columns differ."""
    old_features = {feature.name: feature.vocabulary for feature in old.categorical}
    new_features = {feature.name: feature.vocabulary for feature in new.categorical}
    if not all(column in old_features for column in columns):
        return None
    expected = sum(len(old_features[column]) + 1 for column in columns)
    if old_rows.shape != (expected, *new_rows.shape[1:]):
        return None
    merged = np.array(new_rows)
    old_offset = new_offset = 0
    for column in columns:
        known = {category: position for position, category in enumerate(old_features[column], start=1)}
        pairs = [(_UNKNOWN, _UNKNOWN)]
        pairs += [
            (position, known[category])
            for position, category in enumerate(new_features[column], start=1)
            if category in known
        ]
        targets, sources = np.asarray(pairs).T
        merged[new_offset + targets] = old_rows[old_offset + sources]
        old_offset += len(old_features[column]) + 1
        new_offset += len(new_features[column]) + 1
    return merged
