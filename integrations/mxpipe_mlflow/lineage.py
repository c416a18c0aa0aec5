"""Which snapshots a training reads, as plain facts: taken down at its start, told to MLflow in its own time.

Nothing of MLflow is imported here. :mod:`mxpipe_mlflow.dataset` turns the facts into MLflow's datasets.
"""

from __future__ import annotations

from typing import Any

from mxpipe.data import Snapshot
from mxpipe.train import TrainSpec


def describe(snapshot: Snapshot) -> dict[str, Any]:
    """What lineage needs of a snapshot, as JSON values: where it is, its digest, its size and its columns.

    Example:
        >>> import tempfile
        >>> from mxpipe.data import write_snapshot
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     facts = describe(write_snapshot(f"{folder}/rows", {"x": [1.0, 2.0]}))
        >>> facts["rows"], facts["columns"]
        (2, {'x': 'float64'})
    """
    return {
        "uri": snapshot.uri,
        "digest": snapshot.digest,
        "rows": snapshot.num_rows,
        "bytes": sum(shard.bytes for shard in snapshot.shards),
        "columns": dict(snapshot.column_types),
    }


def inputs_of(spec: TrainSpec) -> dict[str, dict[str, Any]]:
    """The snapshots of a specification by MLflow's word for their use: ``training`` and ``validation``.

    Raises:
        DataError: A snapshot cannot be read.
    """
    uris = {"training": spec.data.train, "validation": spec.data.validation}
    return {use: describe(Snapshot.open(uri)) for use, uri in uris.items() if uri is not None}
