"""The short path of eager calls: operators, caches and small blocks of memory."""

from __future__ import annotations

import threading

import numpy
import pytest

import mxpipe as mx
from mxpipe import _native, np
from mxpipe.errors import GraphError, OperatorError


def test_operators_equal_numpy() -> None:
    a = numpy.array([[1.5, -2.0, 3.0]], "float32")
    b = numpy.array([[2.0], [4.0]], "float32")
    x, y = np.array(a), np.array(b)
    for result, expected in [
        (x + y, a + b),
        (x - y, a - b),
        (x * y, a * b),
        (x / y, a / b),
        (x // y, a // b),
        (x % y, a % b),
        (x**2, a**2),
        (2.0**x, 2.0**a),
        (1.0 - x, 1.0 - a),
        (a + y, a + b),
        (-x, -a),
        (abs(x), abs(a)),
        (x < y, a < b),
        (x <= y, a <= b),
        (x > y, a > b),
        (x >= y, a >= b),
        (x == y, a == b),
        (x != y, a != b),
        (~(x == y), a != b),
        (x.__add__(y), a + b),
        (x.__rsub__(1.0), 1.0 - a),
    ]:
        numpy.testing.assert_allclose(result.asnumpy(), expected, rtol=1e-6)


def test_operators_leave_modular_power_and_symbols_to_others() -> None:
    x = np.ones(3)
    with pytest.raises(TypeError):
        pow(x, 2, 3)
    with pytest.raises(GraphError, match="beside symbols"):  # what Symbol says, not Array
        x + mx.sym.var("s")
    with pytest.raises(OperatorError, match=r"got None"):
        x + None


def test_invoke_takes_names_and_refuses_what_is_wrong() -> None:
    x = np.ones((2, 3))
    assert _native.invoke(op="sum", inputs=[x], attributes={"axis": 0}).shape == (3,)
    assert _native.invoke("".join(["s", "um"]), (x,), {"axis": ()}).shape == (2, 3)
    for arguments in [(), ("sum",), (1, (x,)), ("sum", (x,), 3), ("sum", (x,), {}, 4), ("sum", 3)]:
        with pytest.raises(TypeError):
            _native.invoke(*arguments)
    with pytest.raises(TypeError):
        _native.invoke("sum", (x,), other=1)
    with pytest.raises(OperatorError):
        _native.invoke("no such op", (x,))


def test_calls_that_differ_in_the_sign_of_zero_or_in_type_are_different_calls() -> None:
    for _ in range(2):
        assert numpy.signbit(np.full((3,), -0.0).asnumpy()).all()
        assert not numpy.signbit(np.full((3,), 0.0).asnumpy()).any()
        assert numpy.isnan(np.full((3,), float("nan")).asnumpy()).all()
        assert str(np.full((3,), 1, dtype="int64").dtype) == "int64"
        assert str(np.full((3,), 1, dtype="int32").dtype) == "int32"


def test_recording_and_tracing_pass_through_operators() -> None:
    x = np.array([1.0, 2.0])
    x.attach_grad()
    with mx.autograd.record():
        y = (x * x + 3.0).sum()
    y.backward()
    assert x.grad.asnumpy().tolist() == [2.0, 4.0]
    traced = _native.trace(lambda a: (a + a * 2.0,), [x])
    assert traced.compile()(x)[0].asnumpy().tolist() == [3.0, 6.0]


def test_small_arrays_move_between_threads() -> None:
    """Blocks are freed by other threads than took them, by the hundred; the counts stay right."""
    used = _native.memory()["used"]
    made: list[list[mx.np.ndarray]] = [[] for _ in range(4)]
    wrong = []

    def work(number: int) -> None:
        for turn in range(300):
            x = np.full((number + 1, 7), float(turn))
            made[number].append(x + number)
            other = made[(number + 1) % 4]
            if len(other) > 8:
                y = other.pop(0)
                values = y.asnumpy()
                if not (values == values.flat[0]).all():
                    wrong.append(values)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert _native.memory()["used"] > used
    made.clear()
    assert _native.memory()["used"] == used
