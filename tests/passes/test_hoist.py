"""What depends on parameters alone is computed once, until one of them changes."""

from __future__ import annotations

import threading

import numpy as onp

from mxpipe import _native, np


def scaled(weight: np.ndarray, scale: np.ndarray):
    """x @ (weight * exp(scale)): the product of parameters depends on nothing else."""
    x = np.ones((2, 3))
    return _native.trace(lambda x: np.matmul(x, weight * np.exp(scale)), [x]).compile()


def test_the_plan_of_a_call_leaves_out_what_is_hoisted():
    weight, scale = np.ones((3, 4)), np.zeros((4,))
    compiled = scaled(weight, scale)
    assert "exp" not in compiled.optimized()
    assert "program" not in compiled.steps(), "the product of the parameters is not in the plan of a call"


def test_a_change_of_a_parameter_is_seen():
    weight, scale = np.ones((3, 4)), np.zeros((4,))
    compiled = scaled(weight, scale)
    x = np.ones((2, 3))
    assert (compiled(x)[0].asnumpy() == 3.0).all()
    weight[:] = 2.0
    assert (compiled(x)[0].asnumpy() == 6.0).all()
    _native.assign(weight, np.full((3, 4), 5.0))
    assert (compiled(x)[0].asnumpy() == 15.0).all()


def test_a_write_through_a_buffer_is_seen():
    weight, scale = np.ones((3, 4)), np.zeros((4,))
    compiled = scaled(weight, scale)
    x = np.ones((2, 3))
    compiled(x)
    view = memoryview(weight).cast("B").cast("f", (3, 4))
    for row in range(3):
        for column in range(4):
            view[row, column] = 7.0
    assert (compiled(x)[0].asnumpy() == 21.0).all()


def test_captured_inputs_of_a_graph():
    traced = _native.trace(lambda x, w: np.matmul(x, w + 1.0), [np.ones((2, 3)), np.ones((3, 4))])
    compiled = traced.graph.compile({1: np.full((3, 4), 2.0)})
    assert (compiled(np.ones((2, 3)))[0].asnumpy() == 9.0).all()


def test_threads_that_call_at_once_get_the_same():
    generator = onp.random.default_rng(0)
    weight, scale = np.array(generator.standard_normal((3, 4)).astype("float32")), np.zeros((4,))
    compiled = scaled(weight, scale)
    expected = onp.ones((2, 3), "float32") @ weight.asnumpy()
    results = []

    def call() -> None:
        for _ in range(50):
            results.append(compiled(np.ones((2, 3)))[0].asnumpy())

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 200
    for result in results:
        onp.testing.assert_allclose(result, expected, rtol=1e-6)
