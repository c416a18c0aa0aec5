"""From a DataFrame to a snapshot: workers write shards and their statistics, the driver merges and publishes.

No row passes through the driver. A task that Spark repeats writes the same files under the same names; a
killed attempt leaves nothing that readers could take for a snapshot, and the next attempt removes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe.data import Snapshot, SnapshotWriter, write_shards
from mxpipe.data.arrange import PARTITIONS
from mxpipe.errors import SchemaError
from mxpipe_spark.jobs import run_tasks

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
    with SnapshotWriter(uri, metadata=metadata) as writer:
        place = writer.staging_uri

        def write_partition(partition: int, batches: Iterable[Any]) -> Iterator[str]:
            for record in write_shards(place, partition, batches, rows_per_shard=rows_per_shard):
                yield json.dumps(record.to_json())

        records = run_tasks(rows, write_partition, f"writing {uri}")
        return writer.commit(json.loads(record) for record in records)


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
