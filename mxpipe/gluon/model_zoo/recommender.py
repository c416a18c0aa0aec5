"""Recommenders: networks for clicks, of a few numbers and many categorical columns.

Like the networks of `tabular` they take (numeric float32 (n, k), categorical int32 or int64 (n, c)) and give
logits (n, outputs).
"""

from __future__ import annotations

from collections.abc import Sequence

from mxpipe import initializer, np, npx
from mxpipe._native import Array
from mxpipe.errors import SpecificationError
from mxpipe.gluon import nn
from mxpipe.gluon.hybrid import HybridBlock

from .registry import register
from .tabular import MergedEmbedding

__all__ = ["DLRM", "dlrm"]


class DLRM(HybridBlock):
    """Deep learning recommendation model (Naumov et al. 2019).

    ::

        bottom = Dense layers of the numbers, each followed by relu; the last has the embeddings' length
        pairs  = dot products of all pairs among [bottom, embeddings of the categories]
        logits = Dense layers of [bottom, pairs], relu between

    Args:
        num_numeric: Number of numeric columns.
        cardinalities: Number of categories of each categorical column.
        embedding_dim: Length of the embeddings.
        bottom_units: Sizes of the bottom's layers before its last one, which has `embedding_dim`.
        top_units: Sizes of the top's hidden layers.
        outputs: Number of logits.
        merged: One table for all columns: a step then looks up and updates rows once. Otherwise one each.
        sparse_grad: Whether tables have row-sparse gradients; None means those of more than
            `tabular.SPARSE_FROM_ROWS` rows.
        embedding_sigma: Standard deviation of initial embeddings.

    Example:
        >>> import mxpipe as mx
        >>> net = DLRM(3, [10, 20], embedding_dim=4, bottom_units=[8], top_units=[8])
        >>> net.initialize()
        >>> net(mx.np.ones((2, 3)), mx.np.zeros((2, 2), dtype="int64")).shape
        (2, 1)
    """

    def __init__(
        self,
        num_numeric: int,
        cardinalities: Sequence[int],
        embedding_dim: int = 16,
        bottom_units: Sequence[int] = (512, 256, 64),
        top_units: Sequence[int] = (512, 256),
        outputs: int = 1,
        merged: bool = True,
        sparse_grad: bool | None = None,
        embedding_sigma: float = 0.1,
    ) -> None:
        super().__init__()
        if num_numeric < 1 or not cardinalities:
            raise SpecificationError(
                f"[DLRM] there must be numbers and categories; got num_numeric {num_numeric} and "
                f"{len(cardinalities)} cardinalities."
            )
        sizes = [int(cardinality) for cardinality in cardinalities]
        groups = [sizes] if merged else [[size] for size in sizes]
        self._merged = merged
        self.tables = nn.HybridSequential()
        for group in groups:
            normal = initializer.Normal(embedding_sigma)
            self.tables.add(MergedEmbedding(group, embedding_dim, normal, sparse_grad))
        self.bottom = nn.HybridSequential()
        for units, in_units in _layers(num_numeric, [*bottom_units, embedding_dim]):
            self.bottom.add(nn.Dense(units, "relu", in_units=in_units))
        pairs = len(sizes) * (len(sizes) + 1) // 2
        self.top = nn.HybridSequential()
        for units, in_units in _layers(embedding_dim + pairs, top_units):
            self.top.add(nn.Dense(units, "relu", in_units=in_units))
        self.top.add(nn.Dense(outputs, in_units=top_units[-1] if top_units else embedding_dim + pairs))

    def forward(self, numeric: Array, categorical: Array) -> Array:
        """Numeric (n, num_numeric) and categorical (n, columns) to logits (n, outputs)."""
        if self._merged:
            rows = self.tables[0](categorical)
        else:
            columns = enumerate(self.tables)
            parts = [table(categorical[:, column : column + 1]) for column, table in columns]
            rows = np.concatenate(parts, axis=1)
        logits: Array = self.top(npx.dot_interaction(self.bottom(numeric), rows))
        return logits


def _layers(in_units: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """(outputs, inputs) of layers of these sizes, one after the other."""
    return list(zip(sizes, [in_units, *sizes][: len(sizes)], strict=True))


@register
def dlrm(
    num_numeric: int,
    cardinalities: Sequence[int],
    embedding_dim: int = 16,
    bottom_units: Sequence[int] = (512, 256, 64),
    top_units: Sequence[int] = (512, 256),
    outputs: int = 1,
    merged: bool = True,
    sparse_grad: bool | None = None,
    embedding_sigma: float = 0.1,
) -> DLRM:
    """Embeddings that interact by dot products; arguments as in `DLRM`."""
    return DLRM(
        num_numeric,
        cardinalities,
        embedding_dim,
        bottom_units,
        top_units,
        outputs,
        merged,
        sparse_grad,
        embedding_sigma,
    )
