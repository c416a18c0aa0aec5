"""Rows of ordinary files: Parquet, Arrow IPC, CSV and JSON lines, read and written batch by batch.

Enters: a path, a folder or a pattern, on any file system that fsspec knows. Leaves: record batches in the
order of the files' names and of the rows in them; and the other way round, one file that appears whole or not
at all. Called by the command line and by ingest stages.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe.data import _arrow, storage
from mxpipe.errors import DataError, SpecificationError, StorageError, require
from mxpipe.model.storage import write_aside

if TYPE_CHECKING:
    import pyarrow

_KINDS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
}


def file_kind(name: str | Path) -> str:
    """What a file holds, by its suffix.

    Raises:
        SpecificationError: The suffix is not known.

    Example:
        >>> file_kind("flights.feather")
        'arrow'
    """
    kind = _KINDS.get(Path(name).suffix)
    if kind is None:
        raise SpecificationError(
            f"[{name}] the suffix must be one of {sorted(_KINDS)}; got {Path(name).suffix!r}."
        )
    return kind


def list_files(uri: str | Path) -> tuple[Any, list[str]]:
    """The files that a path, a folder or a pattern names.

    Returns:
        Their fsspec file system, and their paths in it, in order.

    Raises:
        DataError: There is none.
        StorageError: The place cannot be read.
    """
    fsspec = require("fsspec", extra="data")
    system, path = fsspec.core.url_to_fs(str(uri))
    try:
        if any(sign in path for sign in "*?["):
            found = [name for name in system.glob(path) if system.isfile(name)]
        elif system.isdir(path):
            found = [name for name in system.find(path) if Path(name).suffix in _KINDS]
        else:
            found = [path] if system.isfile(path) else []
    except OSError as error:
        raise StorageError(error.errno, f"[{uri}] the place must be readable; got {error}.") from error
    if not found:
        raise DataError(f"[{uri}] there must be at least one file of rows; got none.")
    return system, sorted(found)


def files_digest(uri: str | Path) -> str:
    """A digest of the files that a path, a folder or a pattern names: another one when any of them changes.

    Names and bytes count on a local disk; elsewhere what the file system says of their version.

    Raises:
        DataError: There is none.
        StorageError: One cannot be read.
    """
    system, files = list_files(uri)
    local = storage.local_path(str(uri)) is not None
    digest = hashlib.sha256()
    try:
        for name in files:
            state = storage.file_sha256(Path(name)) if local else str(system.ukey(name))
            digest.update(f"{name.rpartition('/')[2]}:{state}\n".encode())
    except OSError as error:
        raise StorageError(error.errno, f"[{uri}] the files must be readable; got {error}.") from error
    return digest.hexdigest()


def read_rows(
    uri: str | Path, *, columns: Sequence[str] | None = None, types: Mapping[str, str] | None = None
) -> Iterator[pyarrow.RecordBatch]:
    r"""Rows of one or more files of one kind, batch by batch.

    Args:
        uri: A path, a folder or a pattern such as ``s3://bucket/2013-01/*.parquet``. Files are read in the
            order of their names.
        columns: Columns to read; all by default.
        types: Types of columns by name, as a snapshot has them, where CSV and JSON do not say: what is not
            named here is inferred from the beginning of the first file.

    Raises:
        DataError: There is no file, or one does not hold what its suffix says.
        SpecificationError: Files are of different or unknown kinds.
        StorageError: A file cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.csv").write_text("id,x\n1,0.5\n2,\n")
        ...     [batch.to_pydict() for batch in read_rows(folder, types={"id": "int32"})]
        [{'id': [1, 2], 'x': [0.5, None]}]
    """
    arrow, dataset = _arrow.pyarrow_module(), require("pyarrow.dataset", extra="data")
    system, files = list_files(uri)
    kinds = {file_kind(name) for name in files}
    if len(kinds) > 1:
        raise SpecificationError(f"[{uri}] all files must be of one kind; got {', '.join(sorted(kinds))}.")
    kind = kinds.pop()
    try:
        rows = dataset.dataset(files, format=_format(kind, types or {}), filesystem=system)
        if types and kind != "csv":
            rows = rows.replace_schema(_with_types(rows.schema, types))
        yield from rows.scanner(columns=None if columns is None else list(columns)).to_batches()
    except arrow.ArrowException as error:
        raise DataError(f"[{uri}] the file must be readable as {kind}; got {error}.") from error
    except OSError as error:
        raise StorageError(error.errno, f"[{uri}] the files must be readable; got {error}.") from error


@contextlib.contextmanager
def writing_rows(path: str | Path) -> Iterator[Callable[[Any], None]]:
    """Write tables to one file, which appears when the block ends without an error.

    Args:
        path: A local file; its suffix says what it will be.

    Returns:
        A function that takes one table after the other, all of one schema.

    Raises:
        SpecificationError: The suffix is not known.
        StorageError: The disk is full; nothing is left.
    """
    kind = file_kind(path)
    writer: Any = None
    with write_aside(path) as file:

        def write(table: pyarrow.Table) -> None:
            nonlocal writer
            if kind == "json":
                file.writelines(json.dumps(row, default=str).encode() + b"\n" for row in table.to_pylist())
                return
            if writer is None:
                writer = _writer(kind, file, table.schema)
            writer.write_table(table)

        yield write
        if writer is not None:
            writer.close()


def _writer(kind: str, file: Any, schema: pyarrow.Schema) -> Any:
    if kind == "parquet":
        return require("pyarrow.parquet", extra="data").ParquetWriter(file, schema)
    if kind == "csv":
        return require("pyarrow.csv", extra="data").CSVWriter(file, schema)
    return _arrow.ipc().new_file(file, schema)


def _format(kind: str, types: Mapping[str, str]) -> Any:
    if kind != "csv":
        return kind
    wanted = {name: _arrow.type_from_name(type_name) for name, type_name in types.items()}
    options = require("pyarrow.csv", extra="data").ConvertOptions(
        column_types=wanted, strings_can_be_null=True
    )
    return require("pyarrow.dataset", extra="data").CsvFileFormat(convert_options=options)


def _with_types(schema: pyarrow.Schema, types: Mapping[str, str]) -> pyarrow.Schema:
    for name, type_name in types.items():
        position = schema.get_field_index(name)
        if position >= 0:
            schema = schema.set(position, schema.field(position).with_type(_arrow.type_from_name(type_name)))
    return schema
