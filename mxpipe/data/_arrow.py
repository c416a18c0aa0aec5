"""Arrow at the border: which column types a snapshot holds, and how a column is written.

pyarrow is optional for the rest of mxpipe, so it is imported by the functions that need it. A snapshot
accepts a closed set of types, named as in NumPy (``float64``, ``int32``, ``bool``, ``string``, ``date32``,
``timestamp[us]``): a manifest can then be read without trusting it.

Strings are dictionary-encoded on disk with a sorted dictionary: the loader maps a shard's dictionary to ids
once and then only looks up integers. Readers get plain strings back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from mxpipe.errors import SchemaError, require

if TYPE_CHECKING:
    import pyarrow

NUMERIC_TYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "bool"),
)
INTEGER_TYPES = NUMERIC_TYPES[:8]
FLOAT_TYPES = NUMERIC_TYPES[8:11]
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=([A-Za-z0-9_+:/-]{1,64}))?\]")


def pyarrow_module() -> ModuleType:
    """The pyarrow module, or an error that names the extra that brings it."""
    return require("pyarrow", extra="data")


def compute() -> ModuleType:
    """``pyarrow.compute``."""
    return require("pyarrow.compute", extra="data")


def ipc() -> ModuleType:
    """``pyarrow.ipc``."""
    return require("pyarrow.ipc", extra="data")


def is_temporal(type_name: str) -> bool:
    """Whether a column type is a date or a timestamp.

    Example:
        >>> is_temporal("timestamp[us, tz=UTC]"), is_temporal("int64")
        (True, False)
    """
    return type_name == "date32" or _TIMESTAMP.fullmatch(type_name) is not None


def type_name(data_type: pyarrow.DataType, column: str) -> str:
    """The name under which a manifest knows an Arrow type.

    Args:
        data_type: Type of the column; a dictionary type counts as the type of its values.
        column: Name of the column, for the error.

    Raises:
        SchemaError: A snapshot cannot hold this type.
    """
    types = pyarrow_module().types
    if types.is_dictionary(data_type):
        data_type = data_type.value_type
    if types.is_string(data_type) or types.is_large_string(data_type) or str(data_type) == "string_view":
        return "string"
    text = {"halffloat": "float16", "float": "float32", "double": "float64", "date32[day]": "date32"}.get(
        str(data_type), str(data_type)
    )
    if text in NUMERIC_TYPES or is_temporal(text):
        return text
    raise SchemaError(
        f"[snapshot] column {column!r} must be numeric, bool, string, date32 or timestamp; got {data_type}. "
        "Cast it before writing (a decimal to float64, for example)."
    )


def type_from_name(name: str) -> pyarrow.DataType:
    """The Arrow type that a manifest's type name stands for.

    Raises:
        SchemaError: The name is not one of a snapshot's types.
    """
    arrow = pyarrow_module()
    match = _TIMESTAMP.fullmatch(name)
    if match:
        return arrow.timestamp(match[1], tz=match[2])
    if name == "bool":
        return arrow.bool_()
    if name in NUMERIC_TYPES or name in ("string", "date32"):
        return getattr(arrow, name)()
    raise SchemaError(f"[snapshot] a column type must be one that a snapshot can hold; got {name!r}.")


def schema_to_json(schema: pyarrow.Schema) -> list[dict[str, str]]:
    """A schema as a manifest writes it: ``[{"name": ..., "type": ...}, ...]``.

    Raises:
        SchemaError: Two columns have the same name, or a type is not supported.
    """
    names = list(schema.names)
    for name in names:
        if names.count(name) > 1:
            raise SchemaError(f"[snapshot] column names must be unique; got {name!r} twice.")
    return [{"name": field.name, "type": type_name(field.type, field.name)} for field in schema]


def schema_from_json(columns: Iterable[Mapping[str, str]]) -> pyarrow.Schema:
    """The logical Arrow schema (strings plain) of a manifest's columns."""
    arrow = pyarrow_module()
    return arrow.schema([(column["name"], type_from_name(column["type"])) for column in columns])


def record_batches(data: Any) -> Iterator[pyarrow.RecordBatch]:
    """Record batches of anything tabular: a table, a reader, batches, pandas, or an Arrow stream exporter.

    Raises:
        SchemaError: The object is not tabular data.
    """
    arrow = pyarrow_module()
    if isinstance(data, arrow.RecordBatch):
        yield data
    elif isinstance(data, arrow.Table):
        yield from data.to_batches()
    elif isinstance(data, Mapping):
        yield from arrow.table(dict(data)).to_batches()
    elif hasattr(data, "__arrow_c_stream__"):
        yield from arrow.RecordBatchReader.from_stream(data)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        for part in data:
            yield from record_batches(part)
    else:
        raise SchemaError(
            f"[snapshot] data must be Arrow data or convertible to it; got {type(data).__name__}."
        )


def rechunked(data: Any, rows: int) -> Iterator[pyarrow.Table]:
    """Tables of exactly ``rows`` rows (the last has the rest), independent of the chunks of ``data``."""
    arrow = pyarrow_module()
    waiting: list[Any] = []
    count = 0
    for batch in record_batches(data):
        start = 0
        while batch.num_rows - start >= rows - count:
            waiting.append(batch.slice(start, rows - count))
            start += rows - count
            yield arrow.Table.from_batches(waiting)
            waiting, count = [], 0
        if start < batch.num_rows:
            waiting.append(batch.slice(start))
            count += batch.num_rows - start
    if waiting:
        yield arrow.Table.from_batches(waiting)


def physical_values(array: pyarrow.Array, name: str) -> np.ndarray[Any, Any]:
    """A numeric, bool or temporal column as NumPy: nulls are zero, temporal values their integer count.

    Args:
        array: One array without chunks, shape (n,).
        name: The column's type name.

    Returns:
        Shape (n,); int64 for timestamps, int32 for dates, else the column's own dtype.
    """
    arrow = pyarrow_module()
    if is_temporal(name):
        array = array.view(arrow.int32() if name == "date32" else arrow.int64())
    if array.null_count:
        zero = np.zeros((), dtype=array.type.to_pandas_dtype())
        array = compute().fill_null(array, arrow.scalar(zero.item(), type=array.type))
    return np.asarray(array.to_numpy(zero_copy_only=False))


def canonical_table(table: pyarrow.Table) -> pyarrow.Table:
    """The same rows with one representation, so that equal content gives equal bytes.

    Chunks are joined, values under nulls are zero, strings become int32 indices into a sorted dictionary,
    metadata is dropped.

    Raises:
        SchemaError: A column type is not supported, or two columns have the same name.
    """
    arrow = pyarrow_module()
    columns, fields = [], []
    for declared in schema_to_json(table.schema):
        column = _canonical_column(table.column(declared["name"]), declared["type"])
        columns.append(column)
        fields.append(arrow.field(declared["name"], column.type))
    return arrow.Table.from_arrays(columns, schema=arrow.schema(fields))


def logical_table(table: pyarrow.Table, schema: pyarrow.Schema) -> pyarrow.Table:
    """A shard's table with its dictionaries resolved to the types that the manifest declares."""
    arrow = pyarrow_module()
    columns = []
    for name in table.column_names:
        column, wanted = table.column(name), schema.field(name).type
        columns.append(column if column.type.equals(wanted) else column.cast(wanted))
    return arrow.Table.from_arrays(columns, names=table.column_names)


def single_array(column: pyarrow.ChunkedArray | pyarrow.Array) -> pyarrow.Array:
    """A chunked column as one array; no copy when it has one chunk already."""
    arrow = pyarrow_module()
    if isinstance(column, arrow.Array):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return arrow.concat_arrays(joined.chunks) if isinstance(joined, arrow.ChunkedArray) else joined


def _canonical_column(column: pyarrow.ChunkedArray, name: str) -> pyarrow.Array:
    arrow = pyarrow_module()
    if name == "string":
        return _canonical_strings(column)
    array = single_array(column)
    if arrow.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    values = physical_values(array, name)
    data = np.packbits(values, bitorder="little") if name == "bool" else np.ascontiguousarray(values)
    buffers = [_validity(array), arrow.py_buffer(data)]
    return arrow.Array.from_buffers(type_from_name(name), len(array), buffers, array.null_count)


def _canonical_strings(column: pyarrow.ChunkedArray) -> pyarrow.Array:
    arrow, functions = pyarrow_module(), compute()
    array = single_array(column.cast(arrow.string()))
    encoded = array.dictionary_encode()
    order = functions.array_sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    if array.null_count:
        indices = functions.fill_null(encoded.indices, arrow.scalar(0, type=arrow.int32())).to_numpy()
    else:
        indices = encoded.indices.to_numpy()
    # A column of nothing but nulls has an empty dictionary: its zeros point nowhere and stay as they are.
    codes = rank[indices] if len(rank) else np.zeros(len(array), dtype=np.int32)
    if array.null_count:
        codes = np.where(array.is_null().to_numpy(zero_copy_only=False), np.int32(0), codes).astype(np.int32)
    buffers = [_validity(array), arrow.py_buffer(np.ascontiguousarray(codes))]
    indices_array = arrow.Array.from_buffers(arrow.int32(), len(array), buffers, array.null_count)
    dictionary = encoded.dictionary.take(arrow.array(order))
    return arrow.DictionaryArray.from_arrays(indices_array, dictionary)


def _validity(array: pyarrow.Array) -> pyarrow.Buffer | None:
    """The validity bitmap with zero bits behind the last row, or nothing when no value is null."""
    if array.null_count == 0:
        return None
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    return pyarrow_module().py_buffer(np.packbits(valid, bitorder="little"))
