"""Networks for rows of numbers and categories.

All take (numeric float32 (n, k), categorical int32 (n, c)) and give logits (n, outputs). Where there are no
categorical columns the second input may be left out. Category ids of a column lie in [0, cardinality);
others raise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy

from mxpipe import initializer, np
from mxpipe._native import Array
from mxpipe.errors import SpecificationError
from mxpipe.gluon import nn
from mxpipe.gluon.hybrid import HybridBlock
from mxpipe.gluon.parameter import Parameter

from .registry import register

__all__ = [
    "MergedEmbedding",
    "WideAndDeep",
    "default_embedding_dim",
    "logistic_regression",
    "mlp",
    "wide_and_deep",
]


SPARSE_FROM_ROWS = 16384
"""Below this a dense update of the whole table is quicker than finding the rows that a batch looked up."""


def default_embedding_dim(cardinality: int) -> int:
    """Length of an embedding that suits a number of categories: its fourth root, times 4, at most 32.

    Example:
        >>> [default_embedding_dim(cardinality) for cardinality in (3, 16, 100, 4000)]
        [5, 8, 13, 32]
    """
    return min(32, round(4.0 * math.pow(cardinality, 0.25)))


class MergedEmbedding(HybridBlock):
    """Embeddings of several columns in one table, so that a step looks up and updates rows once.

    Args:
        cardinalities: Number of categories of each column.
        dim: Length of an embedding.
        weight_initializer: For the table (sum of cardinalities, dim).
        sparse_grad: Whether the table's gradient is row-sparse; None means from `SPARSE_FROM_ROWS` rows on.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        dim: int,
        weight_initializer: str | initializer.Initializer | None = None,
        sparse_grad: bool | None = None,
    ) -> None:
        super().__init__()
        rows = sum(cardinalities)
        if sparse_grad is None:
            sparse_grad = rows > SPARSE_FROM_ROWS
        self.table = nn.Embedding(rows, dim, weight_initializer=weight_initializer, sparse_grad=sparse_grad)
        offsets = [0, *accumulate(cardinalities)][:-1]
        self._offsets = np.array(numpy.asarray([offsets], dtype=numpy.int32))
        self._cardinalities = np.array(numpy.asarray([cardinalities], dtype=numpy.int32))

    def forward(self, ids: Array) -> Array:
        """Ids (n, columns) to embeddings (n, columns, dim)."""
        # An id that is too great for its column would reach into the next column's rows: -1 makes it raise.
        inside = np.logical_and(ids >= 0, ids < self._cardinalities)
        rows: Array = self.table(np.where(inside, ids + self._offsets, -1))
        return rows


class WideAndDeep(HybridBlock):
    """A linear model and a network with embeddings, trained together (Cheng et al. 2016).

    ::

        deep input = [numeric, embeddings of the categories]
        deep       = hidden layers of Dense, normalization, activation, dropout; then Dense(outputs)
        wide       = Dense(outputs) of numeric + the sum of one weight (per output) for each category
        logits     = wide + deep + bias

    Args:
        num_numeric: Number of numeric columns.
        cardinalities: Number of categories of each categorical column.
        embedding_dims: Length of the embeddings: one for all columns, one for each, or None for
            `default_embedding_dim`. Columns of the same length share a table.
        hidden_units: Sizes of the hidden layers.
        outputs: Number of logits.
        activation: Name of an activation.
        dropout: Rate after each hidden layer.
        embedding_dropout: Rate for the embeddings.
        norm: "batch", "layer" or None: after each hidden Dense, before its activation.
        wide: Whether there is the linear part.
        deep: Whether there is the network.
        embedding_sigma: Standard deviation of initial embeddings.
        sparse_grad: Whether tables have row-sparse gradients; None means those of more than
            `SPARSE_FROM_ROWS` rows.
        output_bias: First value of the bias: the logarithm of the odds of the positive class saves the first
            steps.
    """

    def __init__(
        self,
        num_numeric: int,
        cardinalities: Sequence[int] = (),
        embedding_dims: int | Sequence[int] | None = None,
        hidden_units: Sequence[int] = (128, 64),
        outputs: int = 1,
        activation: str = "relu",
        dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        norm: str | None = None,
        wide: bool = True,
        deep: bool = True,
        embedding_sigma: float = 0.05,
        sparse_grad: bool | None = None,
        output_bias: float = 0.0,
    ) -> None:
        super().__init__()
        if not num_numeric and not cardinalities:
            raise SpecificationError(
                "[model_zoo] there must be a column; got num_numeric 0 and no cardinalities."
            )
        if not wide and not deep:
            raise SpecificationError("[model_zoo] wide or deep must be there; got neither.")
        self._num_numeric = num_numeric
        self._columns = len(cardinalities)
        cardinalities = [int(cardinality) for cardinality in cardinalities]
        self.bias = Parameter(shape=(outputs,), init=initializer.Constant(output_bias))
        self.wide_numeric = (
            nn.Dense(outputs, use_bias=False, in_units=num_numeric, weight_initializer="zeros")
            if wide and num_numeric
            else None
        )
        self.wide_table = (
            MergedEmbedding(cardinalities, outputs, "zeros", sparse_grad) if wide and cardinalities else None
        )
        self._groups: list[list[int]] = []
        self.tables = None
        self.deep = None
        if deep:
            dims = _dims(embedding_dims, cardinalities)
            self._groups = [
                [column for column, other in enumerate(dims) if other == dim] for dim in sorted(set(dims))
            ]
            self.tables = nn.HybridSequential()
            for group in self._groups:
                sizes = [cardinalities[column] for column in group]
                normal = initializer.Normal(embedding_sigma)
                self.tables.add(MergedEmbedding(sizes, dims[group[0]], normal, sparse_grad))
            self.embedding_dropout = nn.Dropout(embedding_dropout)
            self.deep = _tower(num_numeric + sum(dims), hidden_units, outputs, activation, dropout, norm)

    def forward(self, numeric: Array, categorical: Array | None = None) -> Array:
        """Numeric (n, num_numeric) and categorical (n, columns) to logits (n, outputs)."""
        parts = []
        if self.wide_numeric is not None:
            parts.append(self.wide_numeric(numeric))
        if self.wide_table is not None:
            parts.append(np.sum(self.wide_table(categorical), axis=1))
        if self.deep is not None:
            parts.append(self.deep(self._deep_input(numeric, categorical)))
        logits = self.bias.data()
        for part in parts:
            logits = part + logits
        return logits

    def table_columns(self) -> dict[str, list[int]]:
        """Which categorical columns' rows each table of embeddings holds, by name, in order."""
        columns = {}
        if self.wide_table is not None:
            columns["wide_table.table.weight"] = list(range(self._columns))
        for number, group in enumerate(self._groups):
            columns[f"tables.{number}.table.weight"] = list(group)
        return columns

    def _deep_input(self, numeric: Array, categorical: Array | None) -> Array:
        pieces = [numeric] if self._num_numeric else []
        for group, table in zip(self._groups, self.tables or (), strict=True):
            embeddings = self.embedding_dropout(table(self._chosen(categorical, group)))
            pieces.append(np.reshape(embeddings, (-1, embeddings.shape[1] * embeddings.shape[2])))
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)

    def _chosen(self, categorical: Array | None, group: list[int]) -> Array:
        if categorical is None:
            raise SpecificationError("[WideAndDeep] categories must be given; got numbers alone.")
        if len(group) == self._columns:
            return categorical
        return np.concatenate([categorical[:, column : column + 1] for column in group], axis=1)


def _dims(embedding_dims: int | Sequence[int] | None, cardinalities: Sequence[int]) -> list[int]:
    if embedding_dims is None:
        return [default_embedding_dim(cardinality) for cardinality in cardinalities]
    if isinstance(embedding_dims, int):
        return [embedding_dims] * len(cardinalities)
    if len(embedding_dims) != len(cardinalities):
        raise SpecificationError(
            f"[model_zoo] embedding_dims must have one entry for each of {len(cardinalities)} columns; "
            f"got {len(embedding_dims)}."
        )
    return [int(dim) for dim in embedding_dims]


def _tower(
    in_units: int,
    hidden_units: Sequence[int],
    outputs: int,
    activation: str,
    dropout: float,
    norm: str | None,
) -> nn.HybridSequential:
    if norm not in ("batch", "layer", None):
        raise SpecificationError(f"[model_zoo] norm must be batch, layer or None; got {norm!r}.")
    tower = nn.HybridSequential()
    for units in hidden_units:
        he = initializer.MSRAPrelu("in", slope=0.0)
        # A normalization has a shift of its own, so the bias before it would be without effect.
        tower.add(nn.Dense(units, use_bias=norm is None, in_units=in_units, weight_initializer=he))
        if norm is not None:
            tower.add(nn.BatchNorm(in_channels=units) if norm == "batch" else nn.LayerNorm(in_channels=units))
        tower.add(nn.Activation(activation))
        if dropout:
            tower.add(nn.Dropout(dropout))
        in_units = units
    # The last layer starts at zero: training begins at the bias, a calibrated model, not at a random one.
    tower.add(nn.Dense(outputs, use_bias=False, in_units=in_units, weight_initializer="zeros"))
    return tower


@register
def wide_and_deep(
    num_numeric: int,
    cardinalities: Sequence[int] = (),
    embedding_dims: int | Sequence[int] | None = None,
    hidden_units: Sequence[int] = (128, 64),
    outputs: int = 1,
    activation: str = "relu",
    dropout: float = 0.0,
    embedding_dropout: float = 0.0,
    norm: str | None = None,
    embedding_sigma: float = 0.05,
    sparse_grad: bool | None = None,
    output_bias: float = 0.0,
) -> WideAndDeep:
    """A linear model and a network with embeddings, trained together; arguments as in `WideAndDeep`."""
    return WideAndDeep(
        num_numeric,
        cardinalities,
        embedding_dims,
        hidden_units,
        outputs,
        activation,
        dropout,
        embedding_dropout,
        norm,
        embedding_sigma=embedding_sigma,
        sparse_grad=sparse_grad,
        output_bias=output_bias,
    )


@register
def mlp(
    num_numeric: int,
    cardinalities: Sequence[int] = (),
    embedding_dims: int | Sequence[int] | None = None,
    hidden_units: Sequence[int] = (128, 64),
    outputs: int = 1,
    activation: str = "relu",
    dropout: float = 0.0,
    norm: str | None = None,
    sparse_grad: bool | None = None,
    output_bias: float = 0.0,
) -> WideAndDeep:
    """A network of dense layers over numbers and embeddings; arguments as in `WideAndDeep`."""
    return WideAndDeep(
        num_numeric,
        cardinalities,
        embedding_dims,
        hidden_units,
        outputs,
        activation,
        dropout,
        norm=norm,
        wide=False,
        sparse_grad=sparse_grad,
        output_bias=output_bias,
    )


@register
def logistic_regression(
    num_numeric: int,
    cardinalities: Sequence[int] = (),
    outputs: int = 1,
    sparse_grad: bool | None = None,
    output_bias: float = 0.0,
) -> WideAndDeep:
    """A linear model of the numbers and the one-hot categories; starts at zero but for the bias."""
    return WideAndDeep(
        num_numeric,
        cardinalities,
        outputs=outputs,
        deep=False,
        sparse_grad=sparse_grad,
        output_bias=output_bias,
    )
