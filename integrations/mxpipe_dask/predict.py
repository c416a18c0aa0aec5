"""Batch prediction by Dask's workers: Arrow-backed partitions in, predictions out.

All workers of a host map one copy of the model and keep it from task to task. The model is resolved once, on
the driver, so that an alias that moves meanwhile changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import pandas
import pyarrow

from mxpipe.batch import (
    ModelFiles,
    PartitionTask,
    PinnedModel,
    PredictionOptions,
    Predictions,
    PredictionWriter,
    find_predictions,
    make_predictor,
    predict_partition,
    predict_shard,
    resolve_model,
)
from mxpipe.batch import predict_snapshot as predict_snapshot_by
from mxpipe.data import Snapshot
from mxpipe.errors import SpecificationError
from mxpipe_dask.tasks import arrow_schema, arrow_table, run_tasks

if TYPE_CHECKING:
    from dask.dataframe import DataFrame

THREADS = 1
"""Threads of the engine in a worker's task: Dask runs as many tasks as there are cores."""


def predict(
    frame: DataFrame,
    model_uri: str | Path | PinnedModel,
    options: PredictionOptions | None = None,
    *,
    error: str = "error",
) -> DataFrame:
    """A DataFrame of keys and predictions, one row for each row and in its order, computed when asked for.

    Args:
        frame: The rows.
        model_uri: A model folder, ``models:/name@alias``, ``models:/name/version``, or a pinned model.
        options: What is carried through and what is refused.
        error: Name of a column that says why a row has no prediction; null where it has one.

    Returns:
        The same partitions, with Arrow-backed columns and the same index.

    Raises:
        SchemaError: A column is missing or of a type that can never be read; the error names it.
        SpecificationError: Names do not go together.
        ModelFormatError: There is no such model.
    """
    options = options or PredictionOptions()
    model, schema = _checked(frame, model_uri, options)
    outputs = make_predictor(model, options, None).outputs
    if error in (*options.keys, *outputs):
        raise SpecificationError(f"[batch] error must have a name of its own; got {error!r}.")
    fields = [schema.field(name) for name in options.keys]
    fields += [pyarrow.field(name, pyarrow.float32()) for name in outputs]
    fields.append(pyarrow.field(error, pyarrow.string()))
    meta = _to_pandas(pyarrow.schema(fields).empty_table(), frame._meta.index)
    files = _files_for_workers(model)
    return frame[schema.names].map_partitions(
        _annotate,
        model,
        options,
        error,
        schema,
        pyarrow.schema(fields),
        files,
        meta=meta,
        enforce_metadata=False,
    )


def write_predictions(
    frame: DataFrame,
    model_uri: str | Path | PinnedModel,
    uri: str | Path,
    options: PredictionOptions | None = None,
    *,
    input_digest: str | None = None,
) -> Predictions:
    """Predict the rows of a DataFrame and publish the predictions, the refused rows and a manifest.

    Args:
        frame: The rows.
        model_uri: A model folder, ``models:/name@alias``, ``models:/name/version``, or a pinned model.
        uri: Where to publish: a path or fsspec URL that driver and workers see alike.
        options: What is carried through and what is refused.
        input_digest: Names the rows, where the caller knows that the same name gives the same rows in the
            same partitions: finished partitions are then not computed again by a later call. For a snapshot,
            ``predict_snapshot`` knows it.

    Returns:
        The published predictions.

    Raises:
        SchemaError: A column is missing or of a type that can never be read; the error names it.
        DataError: No row could be predicted, or ``uri`` holds something else.
        StorageError: A worker or the driver could not write; nothing was published.
        JobFailedError: Dask failed for another reason.
    """
    options = options or PredictionOptions()
    model, schema = _checked(frame, model_uri, options)
    if input_digest is not None:
        found = find_predictions(uri, model, options, input_digest)
        if found is not None:
            return found
    files = _files_for_workers(model)
    with PredictionWriter(uri, model, options, input_digest=input_digest, threads=THREADS) as writer:
        tasks = [
            _predict_part(writer.task, index, part, schema, files)
            for index, part in enumerate(frame[schema.names].to_delayed())
        ]
        return writer.commit(run_tasks(tasks, f"predicting {uri}"))


def predict_snapshot(
    snapshot: Snapshot | str | Path,
    model_uri: str | Path | PinnedModel,
    uri: str | Path,
    options: PredictionOptions | None = None,
) -> Predictions:
    """Predict the rows of a snapshot, a task for each shard: workers map the shards themselves.

    Args:
        snapshot: The rows: a snapshot that driver and workers see alike.
        model_uri: A model folder, ``models:/name@alias``, ``models:/name/version``, or a pinned model.
        uri: Where to publish, see ``write_predictions``.
        options: What is carried through and what is refused.

    Returns:
        The published predictions; those of an earlier call for the same rows, model and options, if any.

    Raises:
        As ``write_predictions``, and SnapshotCorruptError where a shard does not match its digest.
    """
    model = resolve_model(model_uri)

    def by_dask(writer: PredictionWriter, rows: Snapshot) -> list[str]:
        files = _files_for_workers(model)
        tasks = [_predict_shard(writer.task, rows.uri, index, files) for index in range(len(rows.shards))]
        return run_tasks(tasks, f"predicting {uri}")

    return predict_snapshot_by(snapshot, model, uri, options, threads=THREADS, run=by_dask)


def _checked(
    frame: DataFrame, model_uri: str | Path | PinnedModel, options: PredictionOptions
) -> tuple[PinnedModel, pyarrow.Schema]:
    """The model, and the Arrow types of the columns that are read of a DataFrame that fits it."""
    model = resolve_model(model_uri)
    predictor = make_predictor(model, options, None)
    schema = arrow_schema(frame)
    predictor.check_schema(schema)
    return model, pyarrow.schema([schema.field(name) for name in predictor.columns_of(schema.names)])


def _files_for_workers(model: PinnedModel) -> Any:
    """The model's files as a task of their own, or nothing where the workers see the driver's folder.

    Scattered data would be lost with the worker that holds it; a task is done again.
    """
    from distributed import default_client

    try:
        workers = default_client().scheduler_info()["workers"]
    except ValueError:  # no cluster: this process computes
        return None
    here = bool(workers) and all("://127.0.0.1:" in address for address in workers)
    return None if here else dask.delayed(model.files(), pure=True)


def _annotate(
    part: Any,
    model: PinnedModel,
    options: PredictionOptions,
    error: str,
    schema: pyarrow.Schema,
    result: pyarrow.Schema,
    files: ModelFiles | None,
) -> Any:
    predictor = make_predictor(model, options, THREADS, _given(files))
    rows = arrow_table(part, schema, lenient=True)
    tables = [predictor.annotated(table, error).cast(result) for table in predictor.tables(rows)]
    return _to_pandas(pyarrow.concat_tables([result.empty_table(), *tables]), part.index)


@dask.delayed(pure=False)
def _predict_part(
    task: PartitionTask, index: int, part: Any, schema: pyarrow.Schema, files: ModelFiles | None
) -> str:
    return predict_partition(task, index, arrow_table(part, schema, lenient=True), files=_given(files))


@dask.delayed(pure=False)
def _predict_shard(task: PartitionTask, uri: str, index: int, files: ModelFiles | None) -> str:
    return predict_shard(task, uri, index, files=_given(files))


def _given(files: ModelFiles | None) -> Any:
    return None if files is None else lambda: files


def _to_pandas(table: pyarrow.Table, index: Any) -> pandas.DataFrame:
    frame = table.to_pandas(types_mapper=pandas.ArrowDtype)
    frame.index = index
    return frame
