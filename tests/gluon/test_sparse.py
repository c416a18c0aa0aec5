"""Row-sparse gradients: the same training as with dense ones, at a cost that the vocabulary does not set."""

from __future__ import annotations

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import MxpipeError, OperatorError
from mxpipe.gluon import nn

ROWS, WIDTH = 12, 4
BATCHES = [np.array([[1, 3], [3, 7]]), np.array([[0, 0], [11, 1]]), np.array([[3, 3], [3, 3]])]


def embedding(sparse_grad, rows=ROWS):
    net = nn.Embedding(rows, WIDTH, sparse_grad=sparse_grad)
    mx.random.seed(1)
    net.initialize(mx.init.Normal(0.5))
    return net


def squares(rows, label):
    return ((rows.sum(axis=1) - label) ** 2).mean(axis=1)


def train(sparse_grad, door, optimizer, arguments):
    net = embedding(sparse_grad)
    trainer = mx.gluon.Trainer(net.collect_params(), optimizer, {"learning_rate": 0.1} | arguments)
    step = mx.gluon.TrainStep(net, squares, trainer)
    if door == "hybrid":
        net.hybridize()
    for ids in BATCHES:
        x, y = mx.np.array(ids, dtype="int32"), mx.np.ones((2, 1))
        if door == "step":
            step(x, y)
            continue
        with mx.autograd.record():
            loss = squares(net(x), y)
        loss.backward()
        trainer.step(2)
    return net.weight.data().asnumpy()


@pytest.mark.parametrize("door", ["eager", "hybrid", "step"])
@pytest.mark.parametrize(("optimizer", "arguments"), [("sgd", {}), ("adagrad", {})])
def test_memoryless_rules_train_alike(door, optimizer, arguments):
    """Where a zero gradient changes nothing, lazy updates are the dense ones."""
    np.testing.assert_allclose(
        train(True, door, optimizer, arguments),
        train(False, "eager", optimizer, arguments),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adagrad", "rmsprop", "ftrl"])
def test_doors_agree(optimizer):
    arguments = {"momentum": 0.9, "wd": 0.1} if optimizer == "sgd" else {"wd": 0.1}
    eager = train(True, "eager", optimizer, arguments)
    for door in ("hybrid", "step"):
        np.testing.assert_array_equal(train(True, door, optimizer, arguments), eager)


def test_gradient_is_the_dense_one():
    gradients = []
    for sparse_grad in (True, False):
        net = embedding(sparse_grad)
        x = mx.np.array(BATCHES[0], dtype="int32")
        with mx.autograd.record():
            loss = (net(x) ** 2).sum() + (net(x) * 3).sum()
        loss.backward()
        gradients.append(net.weight.grad())
    sparse, dense = gradients
    assert isinstance(sparse, mx.sparse.RowSparseArray)
    np.testing.assert_allclose(sparse.todense().asnumpy(), dense.asnumpy(), rtol=1e-6)
    ids = sparse.indices.asnumpy()
    assert ids[:3].tolist() == [1, 3, 7]
    assert (ids[3:] == -1).all()
    assert (sparse.data.asnumpy()[3:] == 0).all()
    assert repr(sparse).startswith("RowSparseArray(3 of 12 rows")


def test_before_backward_and_accumulation():
    net = embedding(True)
    assert net.weight.grad().indices.shape == (0,)
    assert net.weight.grad().shape == (ROWS, WIDTH)
    net.setattr("grad_req", "add")
    for ids in BATCHES[:2]:
        with mx.autograd.record():
            loss = net(mx.np.array(ids, dtype="int32")).sum()
        loss.backward()
    counts = np.bincount(np.concatenate([ids.ravel() for ids in BATCHES[:2]]), minlength=ROWS)
    np.testing.assert_array_equal(net.weight.grad().asnumpy()[:, 0], counts)
    net.zero_grad()
    assert (net.weight.grad().asnumpy() == 0).all()


def test_ids_out_of_range_raise():
    net = embedding(True)
    for ids in ([ROWS], [-1]):
        with pytest.raises(MxpipeError):
            net(mx.np.array(ids, dtype="int32")).asnumpy()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_does_not_touch_memory_of_the_vocabulary(optimizer):
    """The plan of a step over a table of 80 MB needs an arena for a batch only."""
    net = embedding(True, rows=5_000_000)
    trainer = mx.gluon.Trainer(net.collect_params(), optimizer)
    step = mx.gluon.TrainStep(net, squares, trainer)
    step(mx.np.array(BATCHES[0], dtype="int32"), mx.np.ones((2, 1)))
    (_, plan) = next(step._plans.newest())
    assert plan.compiled.arena_bytes < 1_000_000


def test_row_sparse_array_checks_its_shapes():
    with pytest.raises(OperatorError, match="indices"):
        mx.sparse.RowSparseArray(mx.np.zeros((2,), dtype="int64"), mx.np.zeros((3, 2)), (5, 2))
