"""Batch prediction by Spark's workers, without ``spark_udf``: Arrow batches in, Arrow batches out.

All workers of a host map one copy of the model and keep it from task to task; each computes with as many
threads as Spark counts on (``spark.task.cpus``). The model is resolved once, on the driver, so that an alias
that moves meanwhile changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe.batch import (
    ModelFiles,
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
from mxpipe_spark.jobs import run_tasks

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

Files = Callable[[], ModelFiles] | None


def predict(
    dataframe: DataFrame,
    model_uri: str | Path | PinnedModel,
    options: PredictionOptions | None = None,
    *,
    error: str = "error",
) -> DataFrame:
    """A DataFrame of keys and predictions, one row for each row and in its order, computed when asked for.

    Args:
        dataframe: The rows.
        model_uri: A model folder, ``models:/name@alias``, ``models:/name/version``, or a pinned model.
        options: What is carried through and what is refused.
        error: Name of a column that says why a row has no prediction; null where it has one.

    Raises:
        SchemaError: A column is missing or of a type that can never be read; the error names it.
        SpecificationError: Names do not go together.
        ModelFormatError: There is no such model.

    Example:
        >>> late = predict(flights, "models:/flight_delays@champion",
        ...                PredictionOptions(keys=["id"]))  # doctest: +SKIP
        >>> late.columns  # doctest: +SKIP
        ['id', 'probability', 'error']
    """
    from pyspark.sql.types import FloatType, StringType, StructField, StructType

    options = options or PredictionOptions()
    model, rows = _checked(dataframe, model_uri, options)
    outputs = make_predictor(model, options, None).outputs
    if error in (*options.keys, *outputs):
        raise SpecificationError(f"[batch] error must have a name of its own; got {error!r}.")
    # Exactly what the batches hold: Spark reads their buffers by these types, whatever is in them.
    declared = StructType(
        [dataframe.schema[name] for name in options.keys]
        + [StructField(name, FloatType()) for name in outputs]
        + [StructField(error, StringType())]
    )
    threads, files = _worker_settings(dataframe.sparkSession, model)
    text_type = _arrow_schema(StructType([StructField(error, StringType())]), dataframe).field(0).type

    def run(batches: Iterable[Any]) -> Iterator[Any]:
        predictor = make_predictor(model, options, threads, files)
        for table in predictor.tables(batches):
            yield from predictor.annotated(table, error, text_type).combine_chunks().to_batches()

    return rows.mapInArrow(run, declared)


def write_predictions(
    dataframe: DataFrame,
    model_uri: str | Path | PinnedModel,
    uri: str | Path,
    options: PredictionOptions | None = None,
    *,
    input_digest: str | None = None,
) -> Predictions:
    """Predict the rows of a DataFrame and publish the predictions, the refused rows and a manifest.

    Args:
        dataframe: The rows.
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
        JobFailedError: Spark failed for another reason.
    """
    options = options or PredictionOptions()
    model, rows = _checked(dataframe, model_uri, options)
    if input_digest is not None:
        found = find_predictions(uri, model, options, input_digest)
        if found is not None:
            return found
    threads, files = _worker_settings(dataframe.sparkSession, model)
    with PredictionWriter(uri, model, options, input_digest=input_digest, threads=threads) as writer:
        task = writer.task

        def run(partition: int, batches: Iterable[Any]) -> Iterator[str]:
            yield predict_partition(task, partition, batches, files=files)

        return writer.commit(run_tasks(rows, run, f"predicting {uri}"))


def predict_snapshot(
    spark: SparkSession,
    snapshot: Snapshot | str | Path,
    model_uri: str | Path | PinnedModel,
    uri: str | Path,
    options: PredictionOptions | None = None,
) -> Predictions:
    """Predict the rows of a snapshot, a task for each shard: workers map the shards, no row passes the JVM.

    Args:
        spark: The session whose workers compute.
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
    threads, files = _worker_settings(spark, model)

    def by_spark(writer: PredictionWriter, rows: Snapshot) -> list[str]:
        task, place, shards = writer.task, rows.uri, len(rows.shards)

        def run(_: int, batches: Iterable[Any]) -> Iterator[str]:
            for batch in batches:
                for index in batch.column(0).to_pylist():
                    yield predict_shard(task, place, index, files=files)

        return run_tasks(spark.range(0, shards, 1, numPartitions=shards), run, f"predicting {uri}")

    return predict_snapshot_by(snapshot, model, uri, options, threads=threads, run=by_spark)


def _checked(
    dataframe: DataFrame, model_uri: str | Path | PinnedModel, options: PredictionOptions
) -> tuple[PinnedModel, DataFrame]:
    """The model, and the columns that are read of a DataFrame that fits it."""
    model = resolve_model(model_uri)
    predictor = make_predictor(model, options, None)
    predictor.check_schema(
        _arrow_schema(dataframe.schema, dataframe, predictor.columns_of(dataframe.columns))
    )
    return model, dataframe.select([f"`{name}`" for name in predictor.columns_of(dataframe.columns)])


def _arrow_schema(schema: StructType, dataframe: DataFrame, columns: list[str] | None = None) -> Any:
    """The Arrow types as which Spark hands columns over."""
    from pyspark.sql.pandas.types import to_arrow_schema
    from pyspark.sql.types import StructType

    fields = schema.fields if columns is None else [schema[name] for name in columns]
    setting = "spark.sql.execution.arrow.useLargeVarTypes"
    large = dataframe.sparkSession.conf.get(setting, "false") == "true"
    return to_arrow_schema(StructType(fields), timezone="UTC", prefers_large_types=large)


def _worker_settings(spark: SparkSession, model: PinnedModel) -> tuple[int, Files]:
    """Threads of a task, and how a worker on another host gets the model's files."""
    context = spark.sparkContext
    threads = int(context.getConf().get("spark.task.cpus", "1") or 1)
    if context.master.startswith("local"):
        return threads, None
    files = context.broadcast(model.files())
    return threads, lambda: files.value
