"""Shards: the workers' side of writing a snapshot.

Enters: rows of one part of a snapshot, in any process. Leaves: Arrow files in a staging place, each beside
its statistics, and records for the driver, which commits them (see ``snapshot.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mxpipe.data import _arrow, storage
from mxpipe.data.statistics import StatisticsAccumulator
from mxpipe.model.storage import require_space

ROWS_PER_SHARD = 1 << 20


@dataclass(frozen=True)
class Shard:
    """One file of a snapshot.

    Attributes:
        name: File name inside the folder.
        rows: Rows it holds.
        bytes: Size of the file.
        sha256: Digest of the file, hex.
    """

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardRecord:
    """What a worker tells the driver about a shard it wrote; travels as JSON.

    The shard's statistics are too large for that: they wait in a file beside the shard until they are merged.
    """

    partition: int
    sequence: int
    shard: Shard
    schema: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShardRecord:
        """The record that ``to_json`` wrote."""
        return cls(**{**value, "shard": Shard(**value["shard"])})


def write_shard(staging_uri: str, partition: int, data: Any, *, sequence: int = 0) -> ShardRecord:
    """Write one shard of a snapshot; safe to call from any process and to repeat.

    Args:
        staging_uri: ``SnapshotWriter.staging_uri`` of the driver.
        partition: Number of the worker's part; shards are ordered by (partition, sequence).
        data: The rows: an Arrow table, batches, or anything that exports an Arrow stream.
        sequence: Number of the shard within the part.

    Raises:
        SchemaError: A column has a type that a snapshot cannot hold.
        StorageError: The file could not be written; nothing of it is left.
    """
    arrow = _arrow.pyarrow_module()
    table = _arrow.canonical_table(arrow.Table.from_batches(list(_arrow.record_batches(data))))
    schema = _arrow.schema_to_json(table.schema)
    statistics = StatisticsAccumulator(schema)
    statistics.update(table)

    def fill(file: storage.HashingFile) -> None:
        with _arrow.ipc().new_file(arrow.PythonFile(file, mode="w"), table.schema) as writer:
            writer.write_table(table)

    require_room(staging_uri, table)
    prefix = f"shard-{partition:05d}-{sequence:05d}"
    written = storage.write_file(staging_uri, lambda sha256: f"{prefix}-{sha256[:12]}.arrow", fill)
    beside = written.name + storage.STATISTICS_SUFFIX
    storage.write_file(
        staging_uri, lambda _: beside, lambda file: file.write(canonical_json(statistics.to_json()))
    )
    return ShardRecord(
        partition, sequence, Shard(written.name, table.num_rows, written.size, written.sha256), schema
    )


def write_shards(
    staging_uri: str, partition: int, data: Any, *, rows_per_shard: int = ROWS_PER_SHARD
) -> Iterator[ShardRecord]:
    """Write a part of any size as shards of ``rows_per_shard`` rows, holding one of them in memory at a time.

    Args:
        staging_uri: ``SnapshotWriter.staging_uri`` of the driver.
        partition: Number of the worker's part.
        data: The rows, as ``write_snapshot`` takes them. Shards are cut by row count alone.
        rows_per_shard: Rows of every shard but the last.

    Raises:
        SchemaError: A column has a type that a snapshot cannot hold.
        StorageError: A file could not be written; nothing of it is left.
    """
    for sequence, table in enumerate(_arrow.rechunked(data, rows_per_shard)):
        yield write_shard(staging_uri, partition, table, sequence=sequence)


def require_room(uri: str, data: Any) -> None:
    """Refuse to begin where the local disk cannot hold the rows: a table says how large it is.

    Raises:
        StorageError: There is not enough free space.
    """
    path, size = storage.local_path(uri), getattr(data, "nbytes", None)
    if path is not None and isinstance(size, int):
        require_space(path, size)


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()
