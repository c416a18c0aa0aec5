"""Arrays as NumPy users know them, and errors that name what must hold."""

import numpy as np
import pytest

from mxpipe._native import Array, array, invoke
from mxpipe.errors import OperatorError


def test_values_round_trip_for_every_dtype() -> None:
    for dtype in [
        "float32",
        "float64",
        "float16",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
    ]:
        values = np.arange(6).reshape(2, 3).astype(dtype)
        made = array(values)
        assert made.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(made.asnumpy(), values)


def test_bfloat16_keeps_eight_bits_of_mantissa() -> None:
    made = array(np.array([1.0, 1.0 + 2**-7, 1.0 + 2**-9], np.float32)).astype("bfloat16")
    assert made.dtype == "bfloat16"
    assert made.asnumpy().tolist() == [1.0, 1.0078125, 1.0]


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        slice(1, 3),
        slice(None, None, 2),
        slice(None, None, -1),
        (0, 1),
        (slice(None), 2),
        (Ellipsis, -1),
        (None, 0),
        (slice(0, 2), slice(1, None)),
        slice(3, 1),
    ],
)
def test_basic_indexing_equals_numpy(index) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(array(values)[index].asnumpy(), values[index])


@pytest.mark.parametrize("index", [0, slice(1, 3), (slice(None), 2), (slice(None, None, 2), slice(1, 4))])
def test_assignment_by_index_equals_numpy(index) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    made = array(values)
    made[index] = 7.0
    values = values.copy()
    values[index] = 7.0
    np.testing.assert_array_equal(made.asnumpy(), values)


def test_python_numbers_are_weak() -> None:
    assert (array(np.ones(3, np.float32)) * 2).dtype == np.float32
    assert (array(np.ones(3, np.int32)) + 1).dtype == np.int32
    assert (array(np.ones(3, np.int64)) + 0.5).dtype == np.float32
    assert (2.0 / array(np.ones(3, np.float64))).dtype == np.float64


def test_an_integer_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OperatorError, match=r"\[add\] a Python int must fit the dtype int8"):
        array(np.ones(3, np.int8)) + 1000


def test_large_integers_stay_exact() -> None:
    values = array(np.array([2**53 + 1], np.int64))
    assert (values + (2**53 + 3)).item() == 2**54 + 4


def test_numpy_memory_is_shared_without_a_copy() -> None:
    values = np.arange(4, dtype=np.float32)
    shared = array(values, copy=False)
    values[0] = 9.0
    assert shared.tolist() == [9.0, 1.0, 2.0, 3.0]
    exported = np.from_dlpack(shared)
    assert exported.ctypes.data == values.ctypes.data


def test_non_contiguous_and_read_only_inputs_are_copied() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(array(values.T, copy=False).asnumpy(), values.T)
    values.flags.writeable = False
    shared = array(values, copy=False)
    shared += 1.0
    assert values[0, 0] == 0.0


def test_shape_errors_state_both_facts() -> None:
    with pytest.raises(
        OperatorError, match=r"\[add\] shapes must match or broadcast; got shape \(2, 3\) and \(4, 5\)"
    ):
        array(np.ones((2, 3), np.float32)) + array(np.ones((4, 5), np.float32))
    with pytest.raises(OperatorError, match=r"\[getitem\] index must lie in \[-2, 2\) on axis 0; got 5"):
        array(np.ones((2, 3), np.float32))[5]
    with pytest.raises(OperatorError, match=r"\[op\] the op must be registered; got no_such_op"):
        invoke("no_such_op", [], {})
    with pytest.raises(OperatorError, match=r"attributes must be declared ones; got axes"):
        invoke("relu", [array(np.ones(3, np.float32))], {"axes": 1})


def test_views_share_memory_and_see_writes() -> None:
    made = array(np.zeros((2, 3), np.float32))
    flat = made.reshape(6)
    made += 1.0
    assert flat.tolist() == [1.0] * 6


def test_empty_arrays_pass_through() -> None:
    empty = array(np.zeros((0, 3), np.float32))
    assert (empty + 1.0).shape == (0, 3)
    assert isinstance(empty, Array)
    assert invoke("matmul", [empty, array(np.ones((3, 2), np.float32))], {}).shape == (0, 2)
