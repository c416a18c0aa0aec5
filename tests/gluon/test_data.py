"""Datasets in memory: order, batches, and threads that change nothing."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import DataError
from mxpipe.gluon import data

X = np.arange(20).reshape(10, 2).astype(np.float64)
Y = np.arange(10)


def flat(loader):
    return [int(value) for _, y in loader for value in y.asnumpy()]


def test_batches_and_types():
    loader = data.DataLoader(data.ArrayDataset(X, Y), batch_size=4)
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    assert [x.shape for x, _ in batches] == [(4, 2), (4, 2), (2, 2)]
    assert batches[0][0].dtype == np.float32
    assert batches[0][1].dtype == np.int64
    np.testing.assert_array_equal(batches[1][0].asnumpy(), X[4:8])
    (single,) = data.DataLoader(mx.np.array(X), batch_size=10)
    np.testing.assert_array_equal(single.asnumpy(), X)


def test_shuffle_is_decided_by_the_seed():
    loader = data.DataLoader(data.ArrayDataset(X, Y), batch_size=3, shuffle=True)
    mx.random.seed(1)
    first, second = flat(loader), flat(loader)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    mx.random.seed(1)
    assert flat(loader) == first


def test_last_batch():
    dataset = data.ArrayDataset(X, Y)
    assert len(flat(data.DataLoader(dataset, 4, last_batch="discard"))) == 8
    rolling = data.DataLoader(dataset, 4, last_batch="rollover")
    assert len(flat(rolling)) == 8
    assert len(rolling) == 3
    assert flat(rolling)[:3] == [8, 9, 0]


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_keep_the_order(workers):
    names = set()

    def note(x, y):
        names.add(threading.current_thread().name)
        return x * 2, y

    dataset = data.ArrayDataset(X, Y).transform(note)
    batches = list(data.DataLoader(dataset, 3, num_workers=workers))
    np.testing.assert_array_equal(np.concatenate([x.asnumpy() for x, _ in batches]), X * 2)
    assert all(name.startswith("mxpipe-loader") for name in names)


def test_leaving_a_loop_early_ends_the_threads():
    before = threading.active_count()
    for _ in data.DataLoader(data.ArrayDataset(X, Y), 1, num_workers=2):
        break
    assert threading.active_count() == before


def test_an_error_in_a_transform_surfaces():
    def fail(x, y):
        raise ZeroDivisionError

    for workers in (0, 2):
        with pytest.raises(ZeroDivisionError):
            list(data.DataLoader(data.ArrayDataset(X, Y).transform(fail), 2, num_workers=workers))


def test_derived_datasets():
    dataset = data.ArrayDataset(X, Y)
    assert [y for _, y in (dataset.filter(lambda sample: sample[1] % 2 == 0)[i] for i in range(5))] == [
        0,
        2,
        4,
        6,
        8,
    ]
    assert len(dataset.take(3)) == 3
    assert [len(dataset.shard(3, index)) for index in range(3)] == [4, 3, 3]
    assert flat(data.DataLoader(dataset.shard(3, 1), 2)) == [4, 5, 6]
    assert dataset.transform_first(lambda x: x.sum())[1] == (5.0, 1)
    eager = dataset.transform(lambda x, y: y + 1, lazy=False)
    assert [eager[index] for index in range(3)] == [1, 2, 3]
    stacked = next(iter(data.DataLoader(data.SimpleDataset([mx.np.ones((2,))] * 4), 4)))
    assert stacked.shape == (4, 2)


def test_bad_arguments():
    dataset = data.ArrayDataset(X, Y)
    for make in (
        lambda: data.ArrayDataset(),
        lambda: data.ArrayDataset(X, Y[:3]),
        lambda: data.DataLoader(dataset),
        lambda: data.DataLoader(dataset, 0),
        lambda: data.DataLoader(dataset, 2, last_batch="wrap"),
        lambda: data.DataLoader(dataset, 2, shuffle=True, sampler=data.SequentialSampler(3)),
        lambda: data.DataLoader(dataset, 2, batch_sampler=data.BatchSampler(data.SequentialSampler(3), 1)),
        lambda: dataset.shard(2, 2),
    ):
        with pytest.raises(DataError):
            make()
