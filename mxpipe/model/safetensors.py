"""The safetensors file format, read and written with NumPy alone.

A file is an 8-byte little-endian header length, a JSON header, and the bytes of the tensors. The reader
trusts
nothing: every length is checked against the file's own size before anything is allocated, the tensors must
    cover the
data without gap or overlap, and an error names the file and the field. The writer gives the same bytes for
the same tensors. Files of the reference implementation are read, and it reads ours.

NumPy has no bfloat16. A BF16 tensor is read as float32, which holds every bfloat16 exactly, or as its bits.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from mxpipe.errors import ModelFormatError
from mxpipe.model.storage import write_aside

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation

_NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the bits
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_CODES = {dtype: code for code, dtype in _NUMPY_DTYPES.items() if code != "BF16"}


class TensorEntry(NamedTuple):
    """One tensor of a header: its type code, shape, and byte range inside the data part."""

    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile(NamedTuple):
    """What :func:`read_safetensors` returns."""

    tensors: dict[str, npt.NDArray[Any]]
    metadata: dict[str, str]


def _fail(path: Path, field: str, must: str, got: object) -> NoReturn:
    raise ModelFormatError(f"[{path}] {field} must {must}; got {got}.")


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    bfloat16: Collection[str] = (),
) -> None:
    """Write tensors to a file, aside and then renamed into place.

    Args:
        path: The file to create or replace.
        tensors: Name to array of any shape; dtypes float16/32/64, int8-64, uint8-64, bool, or a bfloat16 that
            some package registered with NumPy.
        metadata: Text to text, kept in the header.
        bfloat16: Names of uint16 arrays that hold the bits of a bfloat16 tensor.

    Raises:
        ModelFormatError: A dtype or a name cannot be stored.
        StorageError: The disk is full; the file is as it was before.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_safetensors(f"{folder}/w.safetensors", {"weight": np.ones((2, 3), np.float32)})
        ...     read_safetensors(f"{folder}/w.safetensors").tensors["weight"].shape
        (2, 3)
    """
    with write_aside(path) as file:
        write_safetensors_to(file, tensors, metadata, bfloat16)


def write_safetensors_to(
    file: BinaryIO,
    tensors: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    bfloat16: Collection[str] = (),
) -> None:
    """Write tensors to an open binary file; see :func:`write_safetensors`."""
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = {name: metadata[name] for name in sorted(metadata)}
    chunks: list[npt.NDArray[Any]] = []
    position = 0
    coded = {name: (_type_code(name, array, bfloat16), array) for name, array in tensors.items()}
    # Wide types first, as in the reference implementation: every tensor is then aligned to its own item size.
    for name in sorted(coded, key=lambda name: (-coded[name][1].dtype.itemsize, name)):
        code, array = coded[name]
        stored = np.ascontiguousarray(array)
        if stored.dtype.byteorder == ">":
            stored = stored.astype(stored.dtype.newbyteorder("<"))
        end = position + stored.nbytes
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [position, end]}
        chunks.append(stored)
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for chunk in chunks:
        if chunk.size:
            file.write(chunk.reshape(-1).view(np.uint8).data)


def _type_code(name: str, array: npt.NDArray[Any], bfloat16: Collection[str]) -> str:
    if name == "__metadata__":
        raise ModelFormatError("[safetensors] a tensor's name must not be '__metadata__'; got it.")
    if array.dtype.name == "bfloat16" or (name in bfloat16 and array.dtype == np.uint16):
        return "BF16"
    code = _CODES.get(array.dtype.newbyteorder("<"))
    if code is None or name in bfloat16:
        expected = "uint16 for bfloat16 bits" if name in bfloat16 else f"one of {sorted(_CODES.values())}"
        raise ModelFormatError(f"[safetensors] the dtype of {name!r} must be {expected}; got {array.dtype}.")
    return code


def read_safetensors(
    path: str | os.PathLike[str], bfloat16: Literal["float32", "bits"] = "float32"
) -> SafetensorsFile:
    """Read a file's tensors as read-only arrays mapped from it, without a copy.

    Args:
        path: The file.
        bfloat16: Return BF16 tensors widened to float32 (a copy), or as uint16 bits.

    Raises:
        ModelFormatError: The file is truncated, has trailing bytes, overlapping tensors, an unknown dtype or
            a malformed header; the message names the file and the field.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        entries, metadata, data_start = _read_header(path, file, size)
        data: npt.NDArray[np.uint8]
        if size > data_start:
            data = np.memmap(file, dtype=np.uint8, mode="r", offset=data_start, shape=(size - data_start,))
        else:
            data = np.empty(0, np.uint8)
    tensors: dict[str, npt.NDArray[Any]] = {}
    for name, entry in entries.items():
        array = _view(path, name, entry, data)
        if entry.code == "BF16" and bfloat16 == "float32":
            array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        tensors[name] = array
    return SafetensorsFile(tensors, metadata)


def read_safetensors_header(path: str | os.PathLike[str]) -> dict[str, TensorEntry]:
    """Read and check only the header: each tensor's type code, shape and byte range."""
    path = Path(path)
    with open(path, "rb") as file:
        entries, _, _ = _read_header(path, file, os.fstat(file.fileno()).st_size)
    return entries


def _view(path: Path, name: str, entry: TensorEntry, data: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    dtype = _NUMPY_DTYPES[entry.code]
    raw = np.asarray(data[entry.begin : entry.end])
    if entry.code == "BOOL" and raw.size and raw.max() > 1:
        _fail(path, f"{name!r}.data", "hold only 0 and 1 for dtype BOOL", int(raw.max()))
    if entry.begin % dtype.itemsize:  # other writers may not align
        raw = raw.copy()
    try:
        return raw.view(dtype).reshape(entry.shape)
    except ValueError:
        _fail(path, f"{name!r}.shape", "be a shape that an array can have", list(entry.shape))


def _read_header(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, TensorEntry], dict[str, str], int]:
    prefix = file.read(8)
    if len(prefix) < 8:
        _fail(path, "the file", "hold at least 8 bytes of header length", f"{size} bytes")
    length = int.from_bytes(prefix, "little")
    if length > min(MAX_HEADER_BYTES, size - 8):
        _fail(path, "the header length", f"fit into the file of {size} bytes (is it truncated?)", length)
    header = _parse_header(path, file.read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _fail(path, "'__metadata__'", "map text to text", type(metadata).__name__)
    data_size = size - 8 - length
    entries = {name: _parse_entry(path, name, value, data_size) for name, value in header.items()}
    _check_cover(path, entries, data_size)
    return entries, metadata, 8 + length


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                _fail(path, "the header", "name each field once", f"{name!r} twice")
            found[name] = value
        return found

    try:
        header = json.loads(text.decode(), object_pairs_hook=unique)
    except ModelFormatError:
        raise
    except (ValueError, RecursionError) as error:
        _fail(path, "the header", "be JSON", str(error).splitlines()[0])
    if not isinstance(header, dict):
        _fail(path, "the header", "be a JSON object", type(header).__name__)
    return header


def _parse_entry(path: Path, name: str, value: Any, data_size: int) -> TensorEntry:
    def natural(number: Any) -> bool:
        return isinstance(number, int) and not isinstance(number, bool) and number >= 0

    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        got = sorted(value) if isinstance(value, dict) else type(value).__name__
        _fail(path, repr(name), "have the fields dtype, shape and data_offsets", got)
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in _NUMPY_DTYPES:
        _fail(path, f"{name!r}.dtype", f"be one of {sorted(_NUMPY_DTYPES)}", repr(code))
    if not isinstance(shape, list) or not all(natural(extent) for extent in shape):
        _fail(path, f"{name!r}.shape", "be a list of integers of at least 0", shape)
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(natural(offset) for offset in offsets):
        _fail(path, f"{name!r}.data_offsets", "be two integers of at least 0", offsets)
    begin, end = offsets
    if not begin <= end <= data_size:
        _fail(path, f"{name!r}.data_offsets", f"lie within the {data_size} data bytes (truncated?)", offsets)
    needed = math.prod(shape) * _NUMPY_DTYPES[code].itemsize
    if end - begin != needed:
        _fail(path, f"{name!r}.data_offsets", f"span the {needed} bytes of its shape {shape}", offsets)
    return TensorEntry(code, tuple(shape), begin, end)


def _check_cover(path: Path, entries: Mapping[str, TensorEntry], data_size: int) -> None:
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            _fail(
                path,
                f"{name!r}.data_offsets",
                f"begin at {position}, after the tensor before it",
                entry.begin,
            )
        position = entry.end
    if position != data_size:
        _fail(path, "the data", f"end with the last tensor at byte {position}", f"{data_size} bytes")
