"""The native gather against NumPy: every type, nulls, chunks, slices, and arrays that lie."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxpipe._native import RowGather, RowSource, Vocabulary, data_copy_count
from mxpipe.errors import DataError, SchemaError

MEAN, INVERSE_STD, FILL = 1.25, 0.3, 7.5
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def expected_numbers(values: list[Any]) -> np.ndarray:
    numbers = np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, FILL)
    return ((numbers - MEAN) * INVERSE_STD).astype(np.float32)


def gather(
    source: RowSource, rows: Any = None, **features: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    numeric, categorical, label = (features.get(name) for name in ("numeric", "categorical", "label"))
    numeric, categorical = numeric or [], categorical or []
    native = RowGather(source, numeric, categorical, label)
    count = source.num_rows if rows is None else len(rows)
    width = len(numeric) + sum(feature[4] for feature in numeric)
    outputs = (
        np.full((count, width), -1, np.float32),
        np.full((count, len(categorical)), -1, np.int32),
        np.full(count, -1, np.float32) if label else None,
    )
    native.gather(rows, *outputs)
    return outputs


def source_of(*tables: pa.Table | pa.RecordBatch) -> RowSource:
    source = RowSource(tables[0].schema.names)
    for table in tables:
        source.append(table)
    return source


@pytest.mark.parametrize("name", [*INTEGERS, "float16", "float32", "float64", "bool"])
@pytest.mark.parametrize("offset", [0, 3])
def test_every_numeric_type_with_nulls_slices_and_chunks(name: str, offset: int):
    random = np.random.default_rng(0)
    if name == "bool":
        plain: list[Any] = (random.random(300) < 0.5).tolist()
    elif name.startswith("float"):
        plain = [*random.normal(size=297).astype(name).tolist(), float("nan"), float("inf"), -float("inf")]
    else:
        limits = np.iinfo(name)
        plain = random.integers(limits.min, limits.max, 300, dtype=name, endpoint=True).tolist()
    values = [None if random.random() < 0.2 else value for value in plain]
    if name == "float16":
        array = pa.array([None if value is None else np.float16(value) for value in values], pa.float16())
    else:
        array = pa.array(values, getattr(pa, "bool_" if name == "bool" else name)())
    batches = [
        pa.record_batch({"x": array.slice(start, size)})
        for start, size in ((offset, 130), (offset + 130, 150))
    ]
    source = source_of(*batches)
    kept = values[offset : offset + 280]
    numeric = [("x", MEAN, INVERSE_STD, FILL, True)]
    for rows in (None, np.arange(5, 200), random.integers(0, 280, 500)):
        out, _, _ = gather(source, rows, numeric=numeric)
        wanted = kept if rows is None else [kept[row] for row in rows]
        assert np.array_equal(out[:, 0], expected_numbers(wanted))
        missing = [value is None or not np.isfinite(value) for value in wanted]
        assert np.array_equal(out[:, 1], np.array(missing, np.float32))


@given(
    columns=st.integers(0, 35),
    rows=st.integers(0, 300),
    cuts=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_any_number_of_columns_rows_and_chunks(columns: int, rows: int, cuts: int, seed: int):
    random = np.random.default_rng(seed)
    data = random.normal(size=(columns, 200)).astype(np.float32)
    codes = random.integers(0, 9, (columns, 200))
    names = [f"x{index}" for index in range(columns)]
    strings = [f"c{index}" for index in range(columns)]
    table = pa.table(
        {"label": np.arange(200.0)}
        | dict(zip(names, data, strict=True))
        | {name: pa.array([str(code) for code in row]) for name, row in zip(strings, codes, strict=True)}
    )
    edges = [0, *sorted(random.integers(0, 201, cuts - 1).tolist()), 200]
    source = source_of(*[table.slice(a, b - a) for a, b in itertools.pairwise(edges)])
    vocabulary = Vocabulary([str(value) for value in range(8)], True)
    chosen = random.integers(0, 200, rows)
    numbers, ids, label = gather(
        source,
        chosen,
        numeric=[(name, 0.0, 1.0, 0.0, False) for name in names],
        categorical=[(name, vocabulary) for name in strings],
        label="label",
    )
    assert np.array_equal(numbers, data.T[chosen])
    assert np.array_equal(ids, np.where(codes < 8, codes + 1, 0).T[chosen])
    assert np.array_equal(label, chosen.astype(np.float32))


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary", "wide dictionary"])
def test_strings_of_every_layout(kind: str):
    values = ["UA", None, "DL", "", "unknown", "Zürich", "UA"] * 40
    array = pa.array(values, pa.large_string() if kind == "large_string" else pa.string())
    if "dictionary" in kind:
        array = array.dictionary_encode()
    if kind == "wide dictionary":
        array = pa.DictionaryArray.from_arrays(array.indices.cast(pa.uint8()), array.dictionary)
    source = source_of(pa.record_batch({"c": array.slice(1)}), pa.record_batch({"c": array.slice(0, 0)}))
    vocabulary = Vocabulary(["UA", "DL", "", "Zürich"], True)
    _, ids, _ = gather(source, categorical=[("c", vocabulary)])
    known = {"UA": 1, "DL": 2, "": 3, "Zürich": 4}
    assert ids[:, 0].tolist() == [known.get(value, 0) for value in values[1:]]


@pytest.mark.parametrize("base", [0, -3, 10**12])
def test_integer_categories(base: int):
    vocabulary = Vocabulary([base + 5, base, *([base + 100_000] if base > 0 else [])], False)
    values = [base, base + 5, None, base + 1, -(2**63), 2**63 - 1]
    for array in (pa.array(values, pa.int64()), pa.array(values, pa.int64()).dictionary_encode()):
        _, ids, _ = gather(source_of(pa.record_batch({"c": array})), categorical=[("c", vocabulary)])
        assert ids[:, 0].tolist() == [2, 1, 0, 0, 0, 0]
    floats = pa.array([float(base), base + 0.5, np.nan, np.inf, None])
    _, ids, _ = gather(source_of(pa.record_batch({"c": floats})), categorical=[("c", vocabulary)])
    assert ids[:, 0].tolist() == [2, 0, 0, 0, 0]


def test_columns_without_any_value():
    source = source_of(pa.record_batch({"x": pa.nulls(3), "c": pa.nulls(3)}))
    vocabulary = Vocabulary(["a"], True)
    out, ids, _ = gather(source, numeric=[("x", 0.0, 1.0, 4.0, True)], categorical=[("c", vocabulary)])
    assert out.tolist() == [[4.0, 1.0]] * 3
    assert ids.tolist() == [[0]] * 3


def test_one_write_an_output_byte_and_no_copy_on_import():
    count = 100_000
    codes = pa.array(["a", "b"] * (count // 2)).dictionary_encode()
    table = pa.table({"x": np.arange(float(count)), "c": codes, "y": np.ones(count)})
    allocated, (gathers, written) = pa.total_allocated_bytes(), data_copy_count()
    source = source_of(table)
    assert pa.total_allocated_bytes() - allocated < 10_000  # a column has 800,000 bytes
    vocabulary = Vocabulary(["a"], True)
    for rows in (np.arange(100), np.arange(1000)[::-1]):
        gather(source, rows, numeric=[("x", 0.0, 1.0, 0.0, True)], categorical=[("c", vocabulary)], label="y")
    assert data_copy_count() == (gathers + 2, written + (100 + 1000) * 4 * 4)


def test_source_outlives_what_it_was_made_of():
    table = pa.table({"x": np.arange(100.0)})
    source = source_of(table)
    del table
    out, _, _ = gather(source, numeric=[("x", 0.0, 1.0, 0.0, False)])
    assert np.array_equal(out[:, 0], np.arange(100, dtype=np.float32))


def test_roles_and_outputs_are_checked():
    source = source_of(pa.record_batch({"x": pa.array([1.0, None]), "c": pa.array(["a", "b"])}))
    vocabulary = Vocabulary(["a"], True)
    with pytest.raises(SchemaError, match="column 'c' must be numeric; got strings"):
        gather(source, numeric=[("c", 0.0, 1.0, 0.0, False)])
    with pytest.raises(SchemaError, match="column 'x' must hold strings; got float64"):
        gather(source, categorical=[("x", vocabulary)])
    with pytest.raises(SchemaError, match="column 'c' must hold integers; got strings"):
        gather(source, categorical=[("c", Vocabulary([1], False))])
    with pytest.raises(SchemaError, match="column 'z' must be in the source"):
        gather(source, numeric=[("z", 0.0, 1.0, 0.0, False)])
    with pytest.raises(
        DataError, match="label column 'x' must have a finite value in every row; got none in row 1"
    ):
        gather(source, label="x")
    with pytest.raises(DataError, match=r"rows must be in 0\.\.2; got 2"):
        gather(source, np.array([0, 2]), numeric=[("x", 0.0, 1.0, 0.0, False)])
    with pytest.raises(DataError, match="rows must be in"):
        gather(source, np.array([-1]), numeric=[("x", 0.0, 1.0, 0.0, False)])
    native = RowGather(source, [("x", 0.0, 1.0, 0.0, False)], [], None)
    with pytest.raises(DataError, match="numeric must be writable and of shape"):
        native.gather(None, np.empty((3, 1), np.float32), np.empty((2, 0), np.int32), None)
    with pytest.raises(TypeError):
        native.gather(None, np.empty((2, 1), np.float64), np.empty((2, 0), np.int32), None)
    with pytest.raises(DataError, match="values must be distinct; got 'a' twice"):
        Vocabulary(["a", "a"], True)
    with pytest.raises(SchemaError, match="column 'y' must be in every part"):
        RowSource(["y"]).append(pa.record_batch({"x": pa.array([1])}))
    with pytest.raises(
        SchemaError, match="column 't' must hold numbers, bools or strings; got Arrow format 'tdD'"
    ):
        source_of(pa.record_batch({"t": pa.array([1], pa.date32())}))


class Liar:
    """Exports a record batch after changing one field of its C structures."""

    def __init__(self, batch: pa.RecordBatch, change: Any) -> None:
        self.batch, self.change = batch, change

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        schema, array = self.batch.__arrow_c_array__()
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        address = pointer(array, b"arrow_array")
        children = ctypes.c_void_p.from_address(address + 48).value  # behind five integers and the buffers
        child = ctypes.c_void_p.from_address(children).value
        fields, child_fields = ((ctypes.c_int64 * 5).from_address(place) for place in (address, child))
        self.change(fields, child_fields)
        return schema, array


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("have a length", lambda table, child: table.__setitem__(0, -1)),
        ("be as long as each of their columns", lambda table, child: table.__setitem__(0, 1000)),
        ("have a length and an offset", lambda table, child: table.__setitem__(2, -5)),
        ("have the children that their type declares", lambda table, child: table.__setitem__(4, 0)),
        ("have an offset that memory can hold", lambda table, child: child.__setitem__(2, -1)),
        ("have a length that memory can hold", lambda table, child: child.__setitem__(0, 2**62)),
        ("have the buffers of its type", lambda table, child: child.__setitem__(3, 3)),
        ("have a bitmap for its nulls", lambda table, child: child.__setitem__(1, 2)),
    ],
)
def test_arrays_that_break_the_rules_of_the_interface(rule: str, change: Any):
    with pytest.raises(DataError, match=rule):
        RowSource(["x"]).append(Liar(pa.record_batch({"x": pa.array([1.0, 2.0])}), change))


def test_indices_and_offsets_outside_of_their_buffers():
    bad = pa.DictionaryArray.from_arrays(pa.array([0, 5], pa.int32()), pa.array(["a"]), safe=False)
    with pytest.raises(DataError, match="an index must lie in its dictionary of 1 values"):
        gather(source_of(pa.record_batch({"c": bad})), categorical=[("c", Vocabulary(["a"], True))])
    offsets = pa.py_buffer(np.array([0, 90, 2], np.int32))
    strings = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"ab"))
    with pytest.raises(DataError, match="string offsets must ascend inside the buffer"):
        gather(source_of(pa.record_batch({"c": strings})), categorical=[("c", Vocabulary(["a"], True))])
