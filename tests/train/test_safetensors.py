"""The safetensors reader trusts nothing, and the writer's bytes are a function of the tensors."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import numpy as np
import pytest

from mxpipe.errors import ModelFormatError, StorageError
from mxpipe.model.safetensors import read_safetensors, read_safetensors_header, write_safetensors

ALL_DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")


def file_of(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_round_trip_keeps_every_type_shape_and_metadata(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    tensors = {f"t{code}": (generator.random((3, 5)) * 100).astype(code) for code in ALL_DTYPES}
    tensors |= {"scalar": np.float32(3.5).reshape(()), "empty": np.zeros((0, 4), np.int64)}
    tensors["transposed"] = generator.random((4, 6)).astype(np.float32).T
    tensors["big_endian"] = np.arange(5, dtype=">i4")
    write_safetensors(tmp_path / "a.safetensors", tensors, {"note": "Grüße"})
    read, metadata = read_safetensors(tmp_path / "a.safetensors")
    assert metadata == {"note": "Grüße"}
    assert read.keys() == tensors.keys()
    for name, array in tensors.items():
        assert read[name].shape == array.shape
        assert read[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read[name], array)


def test_the_bytes_do_not_depend_on_the_order_of_the_tensors(tmp_path: Path) -> None:
    tensors = {"b": np.ones(3, np.float32), "a": np.ones(2, np.int8), "c": np.ones(2, np.float64)}
    write_safetensors(tmp_path / "1", tensors)
    write_safetensors(tmp_path / "2", dict(reversed(tensors.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "1", tmp_path / "2"]  # nothing is left beside them


def test_the_reference_implementation_reads_ours_and_we_read_its(tmp_path: Path) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    tensors = {f"t{code}": np.arange(6).reshape(2, 3).astype(code) for code in ALL_DTYPES}
    write_safetensors(tmp_path / "ours", tensors)
    reference.save_file(tensors, tmp_path / "theirs", metadata={"format": "np"})
    ours = reference.load_file(tmp_path / "ours")
    theirs = read_safetensors(tmp_path / "theirs").tensors
    for name, array in tensors.items():
        np.testing.assert_array_equal(ours[name], array)
        np.testing.assert_array_equal(theirs[name], array)


def test_bfloat16_is_read_exactly_as_float32_or_as_bits(tmp_path: Path) -> None:
    bits = np.array([[0x3F80, 0xC000], [0x7F80, 0x0001]], np.uint16)
    write_safetensors(tmp_path / "b", {"x": bits, "ids": bits}, bfloat16=["x"])
    assert read_safetensors_header(tmp_path / "b")["x"].code == "BF16"
    wide = read_safetensors(tmp_path / "b").tensors["x"]
    np.testing.assert_array_equal(wide, np.array([[1.0, -2.0], [np.inf, 2.0**-133]], np.float32))
    np.testing.assert_array_equal(read_safetensors(tmp_path / "b", bfloat16="bits").tensors["x"], bits)
    np.testing.assert_array_equal(read_safetensors(tmp_path / "b").tensors["ids"], bits)


@pytest.mark.parametrize(
    ("header", "data", "field"),
    [
        (b"not json", b"", "the header must be JSON"),
        (b'{"a": {}, "a": {}}', b"", "'a' twice"),
        (b"[" * 100_000, b"", "the header"),
        ([1], b"", "a JSON object"),
        ({"a": 1}, b"", "'a' must have the fields"),
        ({"a": entry() | {"x": 1}}, b"1234", "'a' must have the fields"),
        ({"a": entry(dtype="F8")}, b"1234", "'a'.dtype"),
        ({"a": entry(dtype=["F32"])}, b"1234", "'a'.dtype"),
        ({"a": entry(shape=[-1])}, b"1234", "'a'.shape"),
        ({"a": entry(shape=[True])}, b"1234", "'a'.shape"),
        ({"a": entry(shape=[0, 2**70], offsets=[0, 0])}, b"", "'a'.shape"),
        ({"a": entry(shape=[0] * 99, offsets=[0, 0])}, b"", "'a'.shape"),
        ({"a": entry(offsets=[0, 8])}, b"1234", "'a'.data_offsets"),
        ({"a": entry(offsets=[4, 0])}, b"1234", "'a'.data_offsets"),
        ({"a": entry(offsets=[0.0, 4])}, b"1234", "'a'.data_offsets"),
        ({"a": entry(shape=[2**40])}, b"1234", "'a'.data_offsets"),
        ({"a": entry(shape=[2])}, b"1234", "'a'.data_offsets"),
        ({"a": entry(), "b": entry(offsets=[2, 6])}, b"12345678", "'b'.data_offsets must begin at 4"),
        ({"a": entry(), "b": entry(offsets=[8, 12])}, b"123456789012", "'b'.data_offsets must begin at 4"),
        ({"a": entry()}, b"1234trailing", "the data must end"),
        ({"__metadata__": {"a": 1}}, b"", "'__metadata__'"),
        ({"a": entry(dtype="BOOL", shape=[4])}, b"\0\1\2\1", "'a'.data"),
    ],
)
def test_a_malformed_file_is_refused_by_name_and_field(
    tmp_path: Path, header: object, data: bytes, field: str
) -> None:
    path = file_of(tmp_path / "bad.safetensors", header, data)
    with pytest.raises(ModelFormatError) as caught:
        read_safetensors(path)
    assert str(path) in str(caught.value)
    assert field in str(caught.value)


def test_a_huge_header_length_allocates_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="the header length"):
        read_safetensors(file_of(tmp_path / "huge", {}, length=2**63))


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    write_safetensors(path, {"a": np.arange(3, dtype=np.float32), "b": np.arange(5, dtype=np.uint8)})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFormatError, match="whole"):
            read_safetensors(path)


def test_a_thousand_random_damages_end_in_one_kind_of_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    write_safetensors(path, {"a": np.ones((2, 3), np.float32), "b": np.ones(3, bool)}, {"key": "value"})
    whole = path.read_bytes()
    header_end = 8 + int.from_bytes(whole[:8], "little")
    choose = random.Random(0)
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(choose.randint(1, 4)):
            data[choose.randrange(header_end)] = choose.choice(b'0123456789{}[]",:-.eE \\\x00\xff')
        path.write_bytes(data[: choose.choice((len(data), choose.randrange(len(data))))])
        with contextlib.suppress(ModelFormatError):
            read_safetensors(path)


def test_what_cannot_be_stored_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    for tensors in ({"a": np.array(["x"])}, {"a": np.zeros(2, np.complex64)}, {"__metadata__": np.zeros(2)}):
        with pytest.raises(ModelFormatError):
            write_safetensors(tmp_path / "x", tensors)
    with pytest.raises(ModelFormatError, match="uint16"):
        write_safetensors(tmp_path / "x", {"a": np.zeros(2)}, bfloat16=["a"])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_raises_and_keeps_the_old_file(tmp_path: Path, small_disk: Path) -> None:
    path = small_disk / "w.safetensors"
    write_safetensors(path, {"a": np.ones(10, np.float32)})
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"w\.safetensors"):
        write_safetensors(path, {"a": np.ones(10_000_000, np.float32)})
    assert path.read_bytes() == before
    assert list(small_disk.iterdir()) == [path]
