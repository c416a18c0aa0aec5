"""Batch prediction in this process: the engine's own threads, one partition after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mxpipe.batch.model import PinnedModel
from mxpipe.batch.partition import make_predictor, predict_partition, predict_shard
from mxpipe.batch.predictor import PredictionOptions
from mxpipe.batch.writer import Predictions, PredictionWriter, find_predictions
from mxpipe.data import Snapshot


def predict_snapshot(
    snapshot: Snapshot | str | Path,
    model: PinnedModel,
    uri: str | Path,
    options: PredictionOptions | None = None,
    *,
    threads: int | None = None,
    run: Callable[[PredictionWriter, Snapshot], list[str]] | None = None,
) -> Predictions:
    """Predict all rows of a snapshot, shard by shard, and publish the predictions.

    Args:
        snapshot: The rows.
        model: What ``resolve_model`` returned.
        uri: Where to publish: a path or fsspec URL.
        options: What is carried through and what is refused.
        threads: Threads of the engine; None leaves its setting.
        run: Predicts the shards of a snapshot and returns the names of their records: how another engine
            spreads them over its workers. In this process by default.

    Returns:
        The published predictions; those of an earlier call for the same rows, model and options, if any.

    Raises:
        SchemaError: The snapshot lacks a column, or has one that can never be read; the error names it.
        DataError: No row could be predicted, or ``uri`` holds something else.
        StorageError: The disk is full, or another process writes there; a later call goes on.

    Example:
        >>> model = resolve_model("models:/flight_delays@champion")  # doctest: +SKIP
        >>> predict_snapshot("flights", model, "late", PredictionOptions(keys=["id"])).rows  # doctest: +SKIP
        336776
    """
    if not isinstance(snapshot, Snapshot):
        snapshot = Snapshot.open(snapshot)
    options = options or PredictionOptions()
    found = find_predictions(uri, model, options, snapshot.digest)
    if found is not None:
        return found
    make_predictor(model, options, None).check_schema(snapshot.schema)
    with PredictionWriter(uri, model, options, input_digest=snapshot.digest, threads=threads) as writer:
        return writer.commit((run or _in_this_process)(writer, snapshot))


def predict_rows(
    data: Any,
    model: PinnedModel,
    uri: str | Path,
    options: PredictionOptions | None = None,
    *,
    threads: int | None = None,
) -> Predictions:
    """Predict Arrow data (a table, a reader, batches, pandas) and publish the predictions.

    See ``predict_snapshot``; here the rows have no digest, and a later call computes them again.
    """
    with PredictionWriter(uri, model, options or PredictionOptions(), threads=threads) as writer:
        return writer.commit([predict_partition(writer.task, 0, data)])


def _in_this_process(writer: PredictionWriter, snapshot: Snapshot) -> list[str]:
    return [predict_shard(writer.task, snapshot.uri, index) for index in range(len(snapshot.shards))]
