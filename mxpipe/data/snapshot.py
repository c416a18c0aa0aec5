"""Snapshots: immutable folders of rows that a training run can name by one digest.

::

    flights/
      manifest.json                          schema, rows, statistics, shard digests, its own digest
      shard-00000-00000-3f1c0a9be2d4.arrow   Arrow IPC, memory-mapped by readers

A snapshot is written by one process (``write_snapshot``) or by many: the driver opens a ``SnapshotWriter``,
workers call ``write_shard`` with its ``staging_uri`` and return the records, the driver commits. The same
rows in the same shards give the same digest; publishing them again changes nothing. A snapshot may hold
others in folders inside it (rows that were refused, say), which its digest covers.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mxpipe.data import _arrow, storage
from mxpipe.data.arrange import PARTITIONS, arranged_shards
from mxpipe.data.shards import ROWS_PER_SHARD, Shard, ShardRecord, canonical_json, require_room, write_shards
from mxpipe.data.statistics import Statistics, StatisticsAccumulator
from mxpipe.errors import DataError, SchemaError, SnapshotCorruptError, StorageError, is_retryable
from mxpipe.redaction import redact_json

if TYPE_CHECKING:
    import pyarrow

FORMAT = "mxpipe.snapshot"
VERSION = 1
MAX_MANIFEST_BYTES = 64 << 20
# Entries of the metadata: digests of the snapshots inside this one, and of further files, by name.
INSIDE, FILES = storage.INSIDE, storage.FILES
_SHARD_NAME = re.compile(r"shard-\d{5,}-\d{5,}-[0-9a-f]{12}\.arrow")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Snapshot:
    """A published snapshot. Open one with ``Snapshot.open(uri)``.

    Attributes:
        uri: Where it lies.
        manifest: The manifest as a dictionary; treat it as read-only.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     snapshot = write_snapshot(f"{folder}/rows", {"x": [1.0, 2.0, None], "label": [0, 1, 1]})
        ...     reopened = Snapshot.open(snapshot.uri)
        ...     reopened.num_rows, reopened.digest == snapshot.digest, reopened.statistics["x"].nulls
        (3, True, 1)
    """

    def __init__(self, uri: str, manifest: dict[str, Any]) -> None:
        self.uri = uri
        self.manifest = manifest
        self.shards = tuple(Shard(**shard) for shard in manifest["shards"])

    @classmethod
    def open(cls, uri: str | Path) -> Snapshot:
        """Read and check the manifest of a snapshot; shards are checked when they are first read.

        Args:
            uri: A path, or any URL that fsspec understands.

        Raises:
            DataError: There is no snapshot at ``uri``.
            SnapshotCorruptError: The manifest is damaged; the error names the file and the field.
        """
        uri = str(uri).rstrip("/")
        return cls(
            uri, _parse_manifest(storage.read_manifest(uri, MAX_MANIFEST_BYTES), f"{uri}/manifest.json")
        )

    @property
    def digest(self) -> str:
        """sha256 (hex) over the manifest, and through the shards' digests over every byte of the snapshot."""
        return str(self.manifest["digest"])

    @property
    def num_rows(self) -> int:
        """Rows of all shards together."""
        return int(self.manifest["rows"])

    @property
    def metadata(self) -> dict[str, Any]:
        """What the writer noted (sources, split bounds, counts)."""
        return dict(self.manifest["metadata"])

    @property
    def column_types(self) -> dict[str, str]:
        """Type name per column, in order."""
        return {column["name"]: column["type"] for column in self.manifest["schema"]}

    def inside(self, name: str) -> Snapshot | None:
        """A snapshot that was published together with this one, in a folder inside it; None without it.

        Raises:
            SnapshotCorruptError: It is not the one that was published.
        """
        digest = self.manifest["metadata"].get(INSIDE, {}).get(name)
        if digest is None:
            return None
        found = Snapshot.open(f"{self.uri}/{name}")
        if found.digest != digest:
            raise SnapshotCorruptError(
                f"[snapshot] {found.uri} must have digest {digest[:16]}...; got {found.digest[:16]}..."
            )
        return found

    def file(self, name: str) -> bytes | None:
        """The content of a further file that was published with this snapshot; None without it.

        Raises:
            SnapshotCorruptError: It is not the one that was published.
            StorageError: It cannot be read.
        """
        digest = self.manifest["metadata"].get(FILES, {}).get(name)
        if digest is None:
            return None
        content = storage.read_file(self.uri, name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise SnapshotCorruptError(f"[snapshot] {self.uri}/{name} must have sha256 {digest[:16]}...")
        return content

    @functools.cached_property
    def schema(self) -> pyarrow.Schema:
        """The logical Arrow schema: strings are plain."""
        return _arrow.schema_from_json(self.manifest["schema"])

    @functools.cached_property
    def statistics(self) -> Statistics:
        """Statistics of every column."""
        columns = self.manifest["statistics"]
        return Statistics.from_json({name: columns[name] for name in self.column_types})

    def shard_path(self, shard: Shard) -> Path:
        """A local path of a shard whose digest has been checked in this process.

        Raises:
            SnapshotCorruptError: The shard is missing or does not match its digest; the error names the file.
        """
        path = storage.local_file(self.uri, shard.name, shard.sha256)
        try:
            _verify(path, shard)
        except SnapshotCorruptError:
            if storage.local_path(self.uri) is not None:
                raise
            # The cached copy of a remote shard may be damaged while the shard is not.
            path.unlink(missing_ok=True)
            path = storage.local_file(self.uri, shard.name, shard.sha256)
            _verify(path, shard)
        return path

    def shard_table(self, shard: Shard, columns: Sequence[str] | None = None) -> pyarrow.Table:
        """A shard as it lies on disk, memory-mapped: strings are dictionary-encoded.

        Args:
            shard: One of ``shards``.
            columns: Names to read; all when None.

        Raises:
            SnapshotCorruptError: The shard does not match its digest or the manifest's schema.
            SchemaError: A column is not in the snapshot.
        """
        self.require_columns(columns or ())
        path = self.shard_path(shard)
        arrow = _arrow.pyarrow_module()
        try:
            with arrow.memory_map(str(path)) as mapped:
                table = _arrow.ipc().open_file(mapped).read_all()
        except arrow.ArrowInvalid as error:
            raise SnapshotCorruptError(
                f"[snapshot] {path} must be an Arrow IPC file; got {error}."
            ) from error
        if _arrow.schema_to_json(table.schema) != self.manifest["schema"] or table.num_rows != shard.rows:
            raise SnapshotCorruptError(
                f"[snapshot] {path} must hold {shard.rows} rows of the manifest's schema; "
                f"got {table.num_rows} rows of {table.schema.names}."
            )
        return table if columns is None else table.select(list(columns))

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pyarrow.Table]:
        """The shards in order as tables of the logical schema."""
        for shard in self.shards:
            yield _arrow.logical_table(self.shard_table(shard, columns), self.schema)

    def to_table(self, columns: Sequence[str] | None = None) -> pyarrow.Table:
        """All rows as one table of the logical schema.

        Args:
            columns: Names to read; all when None.

        Raises:
            SchemaError: A column is not in the snapshot.
            SnapshotCorruptError: A shard does not match its digest.
        """
        return _arrow.pyarrow_module().concat_tables(list(self.tables(columns)))

    def verify(self) -> None:
        """Read every shard again and compare with its digest, whatever was checked before.

        Raises:
            SnapshotCorruptError: A shard does not match; the error names the file.
        """
        for shard in self.shards:
            _verify(self.shard_path(shard), shard, again=True)

    def require_columns(self, names: Iterable[str]) -> None:
        """Check that the snapshot has these columns.

        Raises:
            SchemaError: One is missing; the error names it.
        """
        present = self.column_types
        for name in names:
            if name not in present:
                raise SchemaError(
                    f"[snapshot] column {name!r} must be in {self.uri}; it has {', '.join(present)}."
                )

    def __repr__(self) -> str:
        return f"Snapshot({self.uri!r}, rows={self.num_rows}, digest={self.digest[:12]})"


class SnapshotWriter:
    """The driver's side of writing a snapshot; a context manager that leaves nothing behind on an error.

    Args:
        uri: Where the snapshot will be published.
        metadata: JSON-able notes for the manifest. They are part of the digest: no clocks in here.
            Credentials inside of addresses are taken out.
        resume: Keep what an attempt before has staged, and leave it staged on an error that a retry may mend.
            The caller's files say what of it is complete; ``commit`` removes the rest.

    Raises:
        StorageError: The place cannot be written, or another process is writing this snapshot.

    Example:
        >>> import pyarrow as pa, tempfile
        >>> from mxpipe.data import write_shard
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with SnapshotWriter(f"{folder}/rows") as writer:
        ...         records = [write_shard(writer.staging_uri, i, pa.table({"x": [i]})) for i in range(2)]
        ...         snapshot = writer.commit(records)
        ...     snapshot.to_table()["x"].to_pylist()
        [0, 1]
    """

    def __init__(
        self, uri: str | Path, *, metadata: Mapping[str, Any] | None = None, resume: bool = False
    ) -> None:
        self.uri = str(uri).rstrip("/")
        self._metadata = redact_json(json.loads(json.dumps(dict(metadata or {}), allow_nan=False)))
        self._resume = resume
        self._staging: storage.Staging | None = storage.open_staging(self.uri, resume)
        self.staging_uri = self._staging.uri

    def __enter__(self) -> SnapshotWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._staging is not None and self._resume and error is not None and is_retryable(error):
            self._staging.release()
            self._staging = None
        self.abort()

    def staging_inside(self, name: str) -> str:
        """Staging place of a snapshot inside this one, for ``write_shard``; see ``commit``."""
        if self._staging is None:
            raise self._closed()
        return self._staging.inside(name)

    def commit(
        self,
        records: Iterable[ShardRecord | Mapping[str, Any]],
        *,
        metadata: Mapping[str, Any] | None = None,
        inside: Mapping[str, Iterable[ShardRecord | Mapping[str, Any]]] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Snapshot:
        """Merge the workers' statistics, write the manifest and publish.

        Args:
            records: What ``write_shard`` returned, in any order, as objects or as their JSON. A repeated task
                may have given a record twice.
            metadata: Further notes for the manifest, known only now.
            inside: Records of shards in ``staging_inside(name)``, by name: they become snapshots of their own
                in folders of this one, published in the same moment. One without rows is left out.
            files: Further files of the folder by name, not larger than a manifest may be.

        Returns:
            The published snapshot. When ``uri`` already holds the same content, that one.

        Raises:
            SchemaError: Shards have different schemas.
            DataError: No rows were written, or ``uri`` holds a snapshot with other content.
            StorageError: The disk is full or refuses; nothing was published.
        """
        if self._staging is None:
            raise self._closed()
        ordered = _ordered_records(records, self.uri)
        keep = {record.shard.name for record in ordered}
        notes = {**self._metadata, **(metadata or {})}
        digests = {name: self._stage_inside(name, inner, keep) for name, inner in (inside or {}).items()}
        if written := {name: digest for name, digest in digests.items() if digest}:
            notes[INSIDE] = written
        if files:
            notes[FILES] = {name: self._stage_file(name, content, keep) for name, content in files.items()}
        manifest = _build_manifest(ordered, notes, self.staging_uri)
        existing = self._published(manifest)
        if existing is None:
            content = canonical_json(manifest)
            try:
                self._staging.publish(content, keep)
            except StorageError:
                # Another writer may have published the same content while this one was at work.
                existing = self._published(manifest)
                if existing is None:
                    raise
        self.abort()
        return existing or Snapshot(self.uri, manifest)

    def _stage_inside(
        self, name: str, records: Iterable[ShardRecord | Mapping[str, Any]], keep: set[str]
    ) -> str | None:
        """Write the manifest of a snapshot inside this one; its digest, or None where it has no rows."""
        listed = list(records)
        if not listed:
            return None
        uri = self.staging_inside(name)
        ordered = _ordered_records(listed, f"{self.uri}/{name}")
        manifest = _build_manifest(ordered, {}, uri)
        storage.write_file(uri, lambda _: storage.MANIFEST, lambda file: file.write(canonical_json(manifest)))
        keep.update(f"{name}/{file}" for file in (storage.MANIFEST, *(r.shard.name for r in ordered)))
        return str(manifest["digest"])

    def _stage_file(self, name: str, content: bytes, keep: set[str]) -> str:
        keep.add(name)
        return storage.write_file(self.staging_uri, lambda _: name, lambda file: file.write(content)).sha256

    def _closed(self) -> DataError:
        return DataError(f"[snapshot] a writer of {self.uri} must commit once; it is closed.")

    def abort(self) -> None:
        """Remove what was staged; harmless after ``commit``."""
        if self._staging is not None:
            self._staging.discard()
            self._staging = None

    def _published(self, manifest: Mapping[str, Any]) -> Snapshot | None:
        try:
            existing = Snapshot.open(self.uri)
        except SnapshotCorruptError:
            raise
        except DataError:
            return None
        if existing.digest != manifest["digest"]:
            raise DataError(
                f"[snapshot] {self.uri} must not hold another snapshot; got digest "
                f"{existing.digest[:12]} there and {manifest['digest'][:12]} to publish. "
                "Snapshots are immutable: choose another place."
            )
        return existing


def write_snapshot(
    uri: str | Path,
    data: Any,
    *,
    metadata: Mapping[str, Any] | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    sort_by: Sequence[str] | None = None,
    partitions: int = PARTITIONS,
) -> Snapshot:
    """Write rows as a snapshot, from this process, holding one shard in memory at a time.

    Args:
        uri: Where to publish: a path, or any URL that fsspec understands.
        data: An Arrow table, record batches, a pandas DataFrame, a mapping of columns, or anything that
            exports an Arrow stream. Shards are cut by row count alone, however the input is chunked.
        metadata: JSON-able notes for the manifest; part of the digest.
        rows_per_shard: Rows of every shard but the last.
        sort_by: Columns to arrange the rows by, so that the same rows give the same digest in whatever order
            they arrive, and whether this process, Spark or Dask writes them; see ``arrange.py``.
        partitions: Parts to spread the rows over when ``sort_by`` is given; part of what decides the digest.

    Returns:
        The published snapshot; when ``uri`` already holds the same content, that one.

    Raises:
        SchemaError: A column has a type that a snapshot cannot hold.
        DataError: There are no rows, or ``uri`` holds a snapshot with other content.
        StorageError: The disk is full or refuses; nothing is left behind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_snapshot(f"{folder}/rows", {"x": [1, 2, 3]}).num_rows
        3
    """
    require_room(str(uri), data)
    with SnapshotWriter(uri, metadata=metadata) as writer:
        place = writer.staging_uri
        if sort_by is None:
            return writer.commit(write_shards(place, 0, data, rows_per_shard=rows_per_shard))
        return writer.commit(
            arranged_shards(place, data, sort_by, partitions=partitions, rows_per_shard=rows_per_shard)
        )


def _ordered_records(records: Iterable[ShardRecord | Mapping[str, Any]], uri: str) -> list[ShardRecord]:
    """Records by place in the snapshot; a repeated one counts once, an empty one not at all."""
    by_place: dict[tuple[int, int], ShardRecord] = {}
    for value in records:
        record = value if isinstance(value, ShardRecord) else ShardRecord.from_json(value)
        if record.shard.rows:
            by_place[record.partition, record.sequence] = record
    ordered = [by_place[place] for place in sorted(by_place)]
    if not ordered:
        raise DataError(f"[snapshot] {uri} must hold at least one row; got none.")
    for record in ordered:
        if record.schema != ordered[0].schema:
            different = [column for column in record.schema if column not in ordered[0].schema]
            raise SchemaError(
                f"[snapshot] all shards of {uri} must have one schema; got {different or record.schema} in "
                f"partition {record.partition}."
            )
    return ordered


def _build_manifest(
    records: Sequence[ShardRecord], metadata: Mapping[str, Any], staging_uri: str
) -> dict[str, Any]:
    statistics = StatisticsAccumulator(records[0].schema)
    for record in records:
        part = storage.read_file(staging_uri, record.shard.name + storage.STATISTICS_SUFFIX)
        statistics.merge(StatisticsAccumulator.from_json(json.loads(part)))
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "rows": sum(record.shard.rows for record in records),
        "schema": records[0].schema,
        "shards": [asdict(record.shard) for record in records],
        "statistics": statistics.finish().to_json(),
        "metadata": dict(metadata),
    }
    # Through JSON and back, so that a fresh manifest equals one that was read (tuples become lists).
    manifest: dict[str, Any] = json.loads(canonical_json(content))
    return manifest | {"digest": manifest_digest(manifest)}


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """sha256 (hex) of a manifest's canonical JSON, its own digest left out."""
    content = {name: value for name, value in manifest.items() if name != "digest"}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def _parse_manifest(content: bytes, place: str) -> dict[str, Any]:
    """A manifest that has been checked field by field."""

    def check(holds: bool, field: str, rule: str) -> None:
        if not holds:
            raise SnapshotCorruptError(f"[snapshot] field {field!r} of {place} must be {rule}; it is not.")

    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SnapshotCorruptError(f"[snapshot] {place} must be JSON; got {error}.") from error
    check(isinstance(manifest, dict) and manifest.get("format") == FORMAT, "format", repr(FORMAT))
    check(manifest.get("version") == VERSION, "version", f"{VERSION}, the version this mxpipe reads")
    for name, kind in (("schema", list), ("shards", list), ("statistics", dict), ("metadata", dict)):
        check(isinstance(manifest.get(name), kind), name, f"a {kind.__name__}")
    check(_is_count(manifest.get("rows")), "rows", "a row count")
    check(
        manifest.get("digest") == manifest_digest(manifest), "digest", "the sha256 of the manifest's content"
    )
    for column in manifest["schema"]:
        check(
            isinstance(column, dict)
            and set(column) == {"name", "type"}
            and all(isinstance(text, str) for text in column.values()),
            "schema",
            "a list of column names and types",
        )
    names = {column["name"] for column in manifest["schema"]}
    check(set(manifest["statistics"]) == names, "statistics", "given for every column")
    for shard in manifest["shards"]:
        check(
            isinstance(shard, dict) and set(shard) == {"name", "rows", "bytes", "sha256"}, "shards", "a list"
        )
        check(_SHARD_NAME.fullmatch(str(shard["name"])) is not None, "shards.name", "a plain shard file name")
        check(_SHA256.fullmatch(str(shard["sha256"])) is not None, "shards.sha256", "a sha256 in hex")
        check(_is_count(shard["rows"]) and _is_count(shard["bytes"]), "shards.rows", "a count")
    check(
        sum(shard["rows"] for shard in manifest["shards"]) == manifest["rows"], "rows", "the sum over shards"
    )
    checked: dict[str, Any] = manifest
    return checked


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


_verified: set[tuple[str, int, int, int, str]] = set()
_verified_lock = threading.Lock()


def _verify(path: Path, shard: Shard, again: bool = False) -> None:
    """Compare a shard with its digest, once per process and state of the file."""
    state = path.stat()
    key = (str(path), state.st_ino, state.st_size, state.st_mtime_ns, shard.sha256)
    with _verified_lock:
        if key in _verified and not again:
            return
    if state.st_size != shard.bytes:
        raise SnapshotCorruptError(f"[snapshot] {path} must have {shard.bytes} bytes; got {state.st_size}.")
    sha256 = storage.file_sha256(path)
    if sha256 != shard.sha256:
        with contextlib.suppress(KeyError), _verified_lock:
            _verified.remove(key)
        raise SnapshotCorruptError(
            f"[snapshot] {path} must have sha256 {shard.sha256[:16]}...; got {sha256[:16]}... The file was "
            "damaged after it was written: write the snapshot again."
        )
    with _verified_lock:
        _verified.add(key)
