"""Matrices in compressed sparse rows: construction, conversions, products, and errors at the call."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import mxpipe as mx
from mxpipe.errors import OperatorError
from mxpipe.sparse import csr_matrix


@pytest.fixture
def dense():
    random = np.random.default_rng(0)
    return (random.standard_normal((7, 5)) * (random.random((7, 5)) < 0.4)).astype(np.float32)


def test_every_way_to_make_one_gives_the_same_matrix(dense):
    scipy_csr = sparse.csr_matrix(dense)
    coordinates = scipy_csr.tocoo()
    shuffled = np.random.default_rng(1).permutation(coordinates.nnz)
    sources = [
        (dense, None),
        (mx.np.array(dense), None),
        (scipy_csr, None),
        (coordinates, None),
        ((scipy_csr.data, scipy_csr.indices, scipy_csr.indptr), dense.shape),
        ((mx.np.array(scipy_csr.data), scipy_csr.indices, scipy_csr.indptr.astype(np.int64)), dense.shape),
        (
            (coordinates.data[shuffled], (coordinates.row[shuffled], coordinates.col[shuffled])),
            dense.shape,
        ),
    ]
    for source, shape in sources:
        matrix = csr_matrix(source, shape=shape)
        assert (matrix.shape, matrix.nnz, str(matrix.dtype)) == (dense.shape, scipy_csr.nnz, "float32")
        np.testing.assert_array_equal(matrix.asnumpy(), dense)
        np.testing.assert_array_equal(matrix.asscipy().toarray(), dense)
    assert csr_matrix(csr_matrix(dense), dtype="float64").asnumpy().dtype == np.float64
    assert csr_matrix(([1, 2], ([0, 2], [1, 0]))).shape == (3, 2)
    assert str(csr_matrix([[0, 2]]).dtype) == "float32"


def test_products(dense):
    matrix, random = csr_matrix(dense), np.random.default_rng(2)
    right, left = random.standard_normal((5, 3), np.float32), random.standard_normal((7, 3), np.float32)
    np.testing.assert_allclose((matrix @ mx.np.array(right)).asnumpy(), dense @ right, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        mx.sparse.dot(matrix, mx.np.array(left), transpose_a=True).asnumpy(),
        dense.T @ left,
        rtol=1e-5,
        atol=1e-6,
    )
    vector = mx.np.array(right[:, 0])
    np.testing.assert_allclose((matrix @ vector).asnumpy(), dense @ right[:, 0], rtol=1e-5, atol=1e-6)


def test_gradients_reach_values_and_the_dense_operand(dense):
    matrix = csr_matrix(dense)
    right = mx.np.array(np.random.default_rng(3).standard_normal((5, 3), np.float32))
    for array in (matrix.data, right):
        array.attach_grad()
    with mx.autograd.record():
        loss = ((matrix @ right) ** 2).sum() + (matrix.todense() ** 2).sum()
    loss.backward()
    g = 2 * dense @ right.asnumpy()
    np.testing.assert_allclose(right.grad.asnumpy(), dense.T @ g, rtol=1e-4, atol=1e-5)
    expected = (g @ right.asnumpy().T + 2 * dense)[np.nonzero(dense)]
    np.testing.assert_allclose(matrix.data.grad.asnumpy(), expected, rtol=1e-4, atol=1e-5)


def test_rows(dense):
    matrix = csr_matrix(dense)
    for key in (slice(2, 5), slice(None), slice(-3, None), slice(4, 2), slice(0, 100)):
        np.testing.assert_array_equal(matrix[key].asnumpy(), dense[key])
    np.testing.assert_array_equal(matrix[-2].asnumpy(), dense[-2:-1])
    np.testing.assert_array_equal(matrix.copy().tostype("default").asnumpy(), dense)
    assert matrix.tostype("csr") is matrix
    assert len(matrix) == 7
    assert repr(matrix).startswith("CSRNDArray(")


def test_the_number_of_threads_changes_no_byte():
    random = np.random.default_rng(4)
    matrix = csr_matrix(sparse.random(4000, 300, 0.02, "csr", np.float32, random))
    right = mx.np.array(random.standard_normal((300, 70), np.float32))
    left = mx.np.array(random.standard_normal((4000, 70), np.float32))
    before, results = mx.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            mx.set_num_threads(threads)
            results.append((matrix @ right).asnumpy().tobytes() + matrix.dot(left, True).asnumpy().tobytes())
    finally:
        mx.set_num_threads(before)
    assert len(set(results)) == 1


@pytest.mark.parametrize("transpose", [False, True])
def test_what_points_outside_raises(transpose):
    right = mx.np.ones((2, 3))
    for indices, indptr in (
        ([0, 2], [0, 1, 2]),
        ([0, -1], [0, 1, 2]),
        ([0, 1], [0, 3, 2]),
        ([0, 1], [1, 1, 2]),
    ):
        with pytest.raises(OperatorError, match=r"\[csr_matmul\]"):
            csr_matrix(([1.0, 2.0], indices, indptr), shape=(2, 2)).dot(right, transpose)


def test_parts_that_do_not_fit():
    with pytest.raises(OperatorError, match="indptr"):
        csr_matrix(([1.0], [0], [0, 1]), shape=(2, 2))
    with pytest.raises(OperatorError, match="2 axes"):
        csr_matrix(np.ones(3))
    with pytest.raises(OperatorError, match="rows must lie"):
        csr_matrix(([1.0], ([2], [0])), shape=(2, 2))
    with pytest.raises(OperatorError, match="step 1"):
        csr_matrix(np.eye(3))[::2]
    with pytest.raises(OperatorError, match="a row must be"):
        csr_matrix(np.eye(3))[3]
    with pytest.raises(OperatorError, match="b must have shape"):
        csr_matrix(np.eye(3, dtype="float32")) @ mx.np.ones((2, 2))
