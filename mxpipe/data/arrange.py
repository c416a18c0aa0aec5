"""One arrangement of rows, whoever computes it: the same rows give the same shards and the same digest.

What enters: the parts of a table, in any order, cut anywhere. What leaves: buckets. Rows go to a bucket by a
hash of the columns that they are sorted by, and are sorted in it by these columns and, among equals, by all
others. The hash and the order are Spark's own (``repartition(n, *columns).sortWithinPartitions(*columns)``):
Spark arranges rows with its shuffle, everyone else with the functions below, and the snapshots are equal.

Between the two steps rows lie in files of the staging place, one for each part and bucket, so that a process
holds one bucket in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mxpipe.data import _arrow, storage
from mxpipe.data.shards import ROWS_PER_SHARD, ShardRecord, write_shards
from mxpipe.errors import SchemaError

if TYPE_CHECKING:
    import pyarrow

PARTITIONS = 4
_SEED = 42
_Hashes = npt.NDArray[np.uint32]


def arrange_part(
    staging_uri: str, part: int, data: Any, sort_by: Sequence[str], partitions: int = PARTITIONS
) -> list[tuple[int, str]]:
    """Put the rows of one part into files, one a bucket; safe to call from any process and to repeat.

    Args:
        staging_uri: ``SnapshotWriter.staging_uri`` of the driver.
        part: Number of the part.
        data: The rows, as ``write_snapshot`` takes them.
        sort_by: Columns to arrange by.
        partitions: Number of buckets.

    Returns:
        Bucket and file name of each file written.

    Raises:
        SchemaError: A column is missing, or of a type that a snapshot cannot hold.
        StorageError: A file could not be written.
    """
    arrow = _arrow.pyarrow_module()
    batches = list(_arrow.record_batches(data))
    if not batches:
        return []
    table = arrow.Table.from_batches(batches)
    schema = _arrow.schema_from_json(_arrow.schema_to_json(table.schema))
    table = _arrow.logical_table(table, schema)
    buckets = bucket_of(table, sort_by, partitions)
    written = []
    for bucket in np.unique(buckets).tolist():
        rows = table.filter(arrow.array(buckets == bucket))
        name = f"arranged-{bucket:05d}-{part:05d}.part"
        storage.write_file(staging_uri, lambda _, name=name: name, lambda file, rows=rows: _fill(file, rows))  # type: ignore[misc]
        written.append((bucket, name))
    return written


def write_bucket(
    staging_uri: str,
    bucket: int,
    names: Iterable[str],
    sort_by: Sequence[str],
    *,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> Iterator[ShardRecord]:
    """Write one bucket as shards; safe to call from any process and to repeat.

    Args:
        staging_uri: ``SnapshotWriter.staging_uri`` of the driver.
        bucket: Number of the bucket.
        names: Its files, as ``arrange_part`` returned them for all parts.
        sort_by: Columns to arrange by.
        rows_per_shard: Rows of every shard but the last.

    Raises:
        StorageError: A file could not be read or written.
    """
    arrow = _arrow.pyarrow_module()
    files = (arrow.BufferReader(storage.read_file(staging_uri, name)) for name in sorted(names))
    rows = arrow.concat_tables([_arrow.ipc().open_file(file).read_all() for file in files])
    yield from write_shards(staging_uri, bucket, sorted_rows(rows, sort_by), rows_per_shard=rows_per_shard)


def arranged_shards(
    staging_uri: str,
    data: Any,
    sort_by: Sequence[str],
    *,
    partitions: int = PARTITIONS,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> Iterator[ShardRecord]:
    """Both steps in this process, for rows that arrive one batch after the other."""
    names: dict[int, list[str]] = {}
    for part, batch in enumerate(_arrow.rechunked(data, rows_per_shard)):
        for bucket, name in arrange_part(staging_uri, part, batch, sort_by, partitions):
            names.setdefault(bucket, []).append(name)
    for bucket in sorted(names):
        yield from write_bucket(staging_uri, bucket, names[bucket], sort_by, rows_per_shard=rows_per_shard)


def bucket_of(table: pyarrow.Table, sort_by: Sequence[str], partitions: int) -> npt.NDArray[np.int32]:
    """The bucket of each row, shape (n,), 0 to ``partitions`` - 1.

    Raises:
        SchemaError: A column is missing or of a type that a snapshot cannot hold; the error names it.

    Example:
        >>> import pyarrow as pa
        >>> bucket_of(pa.table({"id": [0, 1, 2]}), ["id"], 4).tolist()  # Spark: pmod(hash(id), 4)
        [1, 1, 0]
    """
    hashes = np.full(table.num_rows, _SEED, dtype=np.uint32)
    for name in sort_by:
        if name not in table.column_names:
            raise SchemaError(
                f"[snapshot] column {name!r} must be there to sort by; got {', '.join(table.column_names)}."
            )
        column = _arrow.single_array(table.column(name))
        hashes = np.where(_valid(column), _hash(column, name, hashes), hashes)
    signed = hashes.astype(np.int32).astype(np.int64)
    return np.mod(signed, partitions).astype(np.int32)


def sorted_rows(table: pyarrow.Table, sort_by: Sequence[str]) -> pyarrow.Table:
    """Rows by these columns, then by all others: nulls first, NaN behind all numbers, text by its bytes."""
    arrow, functions = _arrow.pyarrow_module(), _arrow.compute()
    keys: dict[str, Any] = {}
    for name in (*sort_by, *(name for name in table.column_names if name not in sort_by)):
        column = _arrow.single_array(table.column(name))
        rank = _valid(column).astype(np.int8)
        if arrow.types.is_floating(column.type):
            nan = functions.fill_null(functions.is_nan(column), False)
            rank += nan.to_numpy(zero_copy_only=False).astype(np.int8)
            column = functions.if_else(nan, arrow.scalar(None, column.type), column)
        keys[f"{len(keys)}"] = arrow.array(rank)
        keys[f"{len(keys)}"] = column
    order = functions.sort_indices(arrow.table(keys), sort_keys=[(name, "ascending") for name in keys])
    return table.take(order)


def _fill(file: storage.HashingFile, rows: pyarrow.Table) -> None:
    arrow = _arrow.pyarrow_module()
    with _arrow.ipc().new_file(arrow.PythonFile(file, mode="w"), rows.schema) as writer:
        writer.write_table(rows)


def _valid(column: pyarrow.Array) -> npt.NDArray[np.bool_]:
    valid: npt.NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _hash(column: pyarrow.Array, name: str, seeds: _Hashes) -> _Hashes:
    """Spark's Murmur3 of one column, seeded by the hash of the columns before it."""
    kind = _arrow.type_name(column.type, name)
    if kind == "string":
        return _hash_strings(column, seeds)
    values = _arrow.physical_values(column, kind)
    if values.dtype.kind == "f":
        values = values.astype(np.float32 if kind == "float16" else values.dtype) + 0.0  # -0.0 counts as 0.0
        values = np.where(np.isnan(values), np.array(np.nan, values.dtype), values)
        values = values.view(np.int32 if values.dtype.itemsize == 4 else np.int64)
    if values.dtype.itemsize <= 4 and kind != "uint32":
        return _finish(_mix(seeds, values.astype(np.int32).view(np.uint32)), 4)
    bits = values.astype(np.int64).view(np.uint64)
    low, high = bits.astype(np.uint32), (bits >> np.uint64(32)).astype(np.uint32)
    return _finish(_mix(_mix(seeds, low), high), 8)


def _hash_strings(column: pyarrow.Array, seeds: _Hashes) -> _Hashes:
    """Each distinct text is cut into words once; then all rows take in one word after the other."""
    arrow = _arrow.pyarrow_module()
    encoded = column.cast(arrow.string()).dictionary_encode()
    texts = [text.encode() for text in encoded.dictionary.to_pylist()] or [b""]
    codes = _arrow.compute().fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
    words = [_words(text) for text in texts]
    counts = np.array([part.size for part in words])
    first, flat = np.concatenate(([0], np.cumsum(counts)[:-1])), np.concatenate(words)
    hashes = seeds.copy()
    for position in range(counts.max()):
        rows = np.flatnonzero(counts[codes] > position)
        hashes[rows] = _mix(hashes[rows], flat[first[codes[rows]] + position])
    return _finish(hashes, np.array([len(text) for text in texts], dtype=np.uint32)[codes])


def _words(text: bytes) -> npt.NDArray[np.uint32]:
    """Whole words of four bytes; Spark then takes the bytes behind them one by one, each with its sign."""
    whole = len(text) - len(text) % 4
    rest = np.frombuffer(text[whole:], np.int8).astype(np.int32).view(np.uint32)
    return np.concatenate([np.frombuffer(text[:whole], "<u4"), rest])


def _mix(hashes: _Hashes, words: Any) -> _Hashes:
    with np.errstate(over="ignore"):
        mixed = np.asarray(words, dtype=np.uint32) * np.uint32(0xCC9E2D51)
        mixed = _rotate(mixed, 15) * np.uint32(0x1B873593)
        rotated = _rotate(hashes ^ mixed, 13)
        return np.asarray(rotated * np.uint32(5) + np.uint32(0xE6546B64), dtype=np.uint32)


def _finish(hashes: _Hashes, length: Any) -> _Hashes:
    with np.errstate(over="ignore"):
        mixed = hashes ^ np.asarray(length, dtype=np.uint32)
        mixed = (mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return np.asarray(mixed ^ (mixed >> np.uint32(16)), dtype=np.uint32)


def _rotate(values: _Hashes, by: int) -> _Hashes:
    return (values << np.uint32(by)) | (values >> np.uint32(32 - by))
