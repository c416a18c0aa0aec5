"""From a Dask DataFrame to a snapshot: workers write shards and their statistics, the driver publishes.

No row passes through the driver. A task that Dask repeats writes the same files under the same names; a
killed attempt leaves nothing that readers could take for a snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask

from mxpipe.data import Snapshot, SnapshotWriter, write_shards
from mxpipe.data.arrange import PARTITIONS, arrange_part, write_bucket
from mxpipe.errors import SchemaError
from mxpipe_dask.tasks import arrow_schema, arrow_table, run_tasks

if TYPE_CHECKING:
    import pyarrow
    from dask.dataframe import DataFrame


def write_snapshot(
    frame: DataFrame,
    uri: str | Path,
    *,
    sort_by: Sequence[str] | None = None,
    partitions: int = PARTITIONS,
    rows_per_shard: int = 1 << 20,
    metadata: Mapping[str, Any] | None = None,
) -> Snapshot:
    """Compute a Dask DataFrame and publish its rows as a snapshot. The index is left out.

    Args:
        frame: The rows: numbers, bools, strings, dates and timestamps.
        uri: Where to publish: a path or fsspec URL that driver and workers see alike.
        sort_by: Columns to arrange the rows by, so that the same rows give the same digest however they are
            partitioned, the one that Spark's and this process's writers give them as well. Without it
            partitions are written as they are.
        partitions: Parts to spread the rows over when ``sort_by`` is given; part of what decides the digest.
        rows_per_shard: A larger partition becomes several shards.
        metadata: JSON-able notes for the manifest; part of the digest.

    Returns:
        The published snapshot; when ``uri`` already holds the same content, that one.

    Raises:
        SchemaError: A column is missing or of a type that a snapshot cannot hold; the error names it.
        DataError: There are no rows, or ``uri`` holds a snapshot with other content.
        StorageError: A worker or the driver could not write; nothing was published.
        JobFailedError: Dask failed for another reason.

    Example:
        >>> with local_client(2):  # doctest: +SKIP
        ...     write_snapshot(dask.dataframe.read_parquet("flights/"), "data/flights").num_rows
        336776
    """
    schema = arrow_schema(frame)
    for name in sort_by or ():
        if name not in schema.names:
            raise SchemaError(
                f"[dask] column {name!r} must be in the DataFrame to sort by; it has "
                f"{', '.join(schema.names)}."
            )
    parts = frame.to_delayed()
    with SnapshotWriter(uri, metadata=metadata) as writer:
        place, action = writer.staging_uri, f"writing {uri}"
        if sort_by is None:
            tasks = [
                _write_part(place, part, index, schema, rows_per_shard) for index, part in enumerate(parts)
            ]
        else:
            arranged = run_tasks(
                [
                    _arrange_part(place, part, index, schema, sort_by, partitions)
                    for index, part in enumerate(parts)
                ],
                action,
            )
            names: dict[int, list[str]] = {}
            for bucket, name in (item for written in arranged for item in written):
                names.setdefault(bucket, []).append(name)
            tasks = [
                _write_bucket(place, bucket, names[bucket], sort_by, rows_per_shard)
                for bucket in sorted(names)
            ]
        return writer.commit(record for records in run_tasks(tasks, action) for record in records)


@dask.delayed(pure=False)
def _write_part(
    place: str, part: Any, index: int, schema: pyarrow.Schema, rows_per_shard: int
) -> list[dict[str, Any]]:
    rows = arrow_table(part, schema)
    return [record.to_json() for record in write_shards(place, index, rows, rows_per_shard=rows_per_shard)]


@dask.delayed(pure=False)
def _arrange_part(
    place: str, part: Any, index: int, schema: pyarrow.Schema, sort_by: Sequence[str], partitions: int
) -> list[tuple[int, str]]:
    return arrange_part(place, index, arrow_table(part, schema), sort_by, partitions)


@dask.delayed(pure=False)
def _write_bucket(
    place: str, bucket: int, names: Sequence[str], sort_by: Sequence[str], rows_per_shard: int
) -> list[dict[str, Any]]:
    return [
        record.to_json()
        for record in write_bucket(place, bucket, names, sort_by, rows_per_shard=rows_per_shard)
    ]
