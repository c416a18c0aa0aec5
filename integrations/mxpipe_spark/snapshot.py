"""From a DataFrame to a snapshot: workers write shards and their statistics, the driver merges and publishes.

No row passes through the driver. A task that Spark repeats writes the same files under the same names; a
killed attempt leaves nothing that readers could take for a snapshot, and the next attempt removes it.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe import errors
from mxpipe.data import Snapshot, SnapshotWriter, write_shards
from mxpipe.data.arrange import PARTITIONS
from mxpipe.errors import JobFailedError, MxpipeError, SchemaError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

_TYPES = frozenset(
    (
        "boolean",
        "tinyint",
        "smallint",
        "int",
        "bigint",
        "float",
        "double",
        "string",
        "date",
        "timestamp",
        "timestamp_ntz",
    )
)


def write_snapshot(
    dataframe: DataFrame,
    uri: str | Path,
    *,
    sort_by: Sequence[str] | None = None,
    partitions: int = PARTITIONS,
    rows_per_shard: int = 1 << 20,
    metadata: Mapping[str, Any] | None = None,
) -> Snapshot:
    """Compute a DataFrame and publish its rows as a snapshot.

    Args:
        dataframe: The rows: numbers, bools, strings, dates and timestamps.
        uri: Where to publish: a path or fsspec URL that driver and workers see alike.
        sort_by: Columns to arrange the rows by, so that the same rows give the same digest whatever order
            Spark computed them in: rows are spread over ``partitions`` by these columns and sorted by them
            (and, among equals, by all other columns) in each. Without it partitions are written as they are,
            and the digest is as reproducible as the DataFrame. ``mxpipe.data.write_snapshot`` and
            ``mxpipe_dask.write_snapshot`` arrange the same rows alike.
        partitions: Parts to spread the rows over when ``sort_by`` is given; part of what decides the digest.
        rows_per_shard: Rows that a worker holds in memory at a time; a larger partition becomes several
            shards.
        metadata: JSON-able notes for the manifest; part of the digest.

    Returns:
        The published snapshot; when ``uri`` already holds the same content, that one.

    Raises:
        SchemaError: A column is missing or of a type that a snapshot cannot hold; the error names it.
        DataError: There are no rows, or ``uri`` holds a snapshot with other content.
        StorageError: A worker or the driver could not write; nothing was published.
        JobFailedError: Spark failed for another reason.

    Example:
        >>> write_snapshot(spark.range(1000), "data/numbers", sort_by=["id"]).num_rows  # doctest: +SKIP
        1000
    """
    _check_types(dataframe.schema)
    rows = _arranged(dataframe, sort_by, partitions)
    context = dataframe.sparkSession.sparkContext
    with SnapshotWriter(uri, metadata=metadata) as writer:
        task = _shard_task(writer.staging_uri, rows_per_shard)
        group = f"mxpipe-{uuid.uuid4().hex}"
        context.setJobGroup(group, f"write snapshot {uri}", interruptOnCancel=True)
        try:
            records = rows.mapInArrow(task, "record string").collect()
        except BaseException as error:
            # An interrupted driver must not leave tasks behind that write into a folder it is about to
            # remove.
            with contextlib.suppress(Exception):
                context.cancelJobGroup(group)
            if isinstance(error, Exception):
                raise _clear_error(error, str(uri)) from error
            raise
        return writer.commit(json.loads(row.record) for row in records)


def _shard_task(staging_uri: str, rows_per_shard: int) -> Any:
    """What runs in a worker for each partition: batches in, one record (JSON) a written shard out."""

    def write_partition(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        for record in write_shards(
            staging_uri, context.partitionId(), batches, rows_per_shard=rows_per_shard
        ):
            text = pyarrow.array([json.dumps(record.to_json())], type=pyarrow.string())
            yield pyarrow.RecordBatch.from_arrays([text], names=["record"])

    return write_partition


def _arranged(dataframe: DataFrame, sort_by: Sequence[str] | None, partitions: int) -> DataFrame:
    if sort_by is None:
        return dataframe
    for name in sort_by:
        if name not in dataframe.columns:
            raise SchemaError(
                f"[spark] column {name!r} must be in the DataFrame to sort by; "
                f"it has {', '.join(dataframe.columns)}."
            )
    others = [name for name in dataframe.columns if name not in sort_by]
    keys = [dataframe[f"`{name}`"] for name in sort_by]
    order = [dataframe[f"`{name}`"] for name in (*sort_by, *others)]
    # By hash: the bounds of a range partitioning come from a sample, which differs from run to run.
    return dataframe.repartition(partitions, *keys).sortWithinPartitions(*order)


def _check_types(schema: StructType) -> None:
    for field in schema.fields:
        name = field.dataType.simpleString()
        if name not in _TYPES and not name.startswith(("char(", "varchar(")):
            raise SchemaError(
                f"[spark] column {field.name!r} must be a number, bool, string, date or timestamp; "
                f"got {name}. Cast it in the query (a decimal to double, for example)."
            )


def _clear_error(error: Exception, uri: str) -> MxpipeError:
    """The worker's own error where there is one; Spark's message without its stack traces otherwise."""
    match = re.search(r"mxpipe\.errors\.(\w+): (.*)", str(error))
    kind = getattr(errors, match[1], None) if match else None
    if match and isinstance(kind, type) and issubclass(kind, MxpipeError):
        return kind(match[2].strip())
    lines = [line for line in str(error).splitlines() if line.strip()]
    # A Python traceback ends with the reason; other messages begin with it.
    reasons = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b: ", line)]
    reason = reasons[-1] if reasons else lines[0] if lines else type(error).__name__
    return JobFailedError(f"[spark] writing {uri} must succeed; got {reason.strip()}")
