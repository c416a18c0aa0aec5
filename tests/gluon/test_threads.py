"""One network, many threads: inference is safe, and scopes belong to their thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import mxpipe as mx
from mxpipe.gluon import nn


def network():
    net = nn.HybridSequential()
    net.add(nn.Dense(32, activation="relu"), nn.BatchNorm(), nn.Dropout(0.5), nn.Dense(3))
    mx.random.seed(1)
    net.initialize()
    net(mx.np.ones((1, 8)))
    return net


def test_concurrent_inference_with_several_signatures():
    random = np.random.default_rng(0)
    inputs = [
        mx.np.array(random.standard_normal((1 + number % 5, 8)), dtype="float32") for number in range(40)
    ]
    net = network()
    expected = [net(x).asnumpy() for x in inputs]
    net.hybridize()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            results = list(pool.map(lambda x: net(x).asnumpy(), inputs))
            for ours, theirs in zip(results, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_training_in_one_thread_does_not_turn_dropout_on_in_another():
    net, x = network(), mx.np.ones((4, 8))
    expected = net(x).asnumpy()
    with mx.autograd.record(), ThreadPoolExecutor(1) as pool:
        assert mx.autograd.is_training()
        state = pool.submit(lambda: (mx.autograd.is_recording(), mx.autograd.is_training())).result()
        assert state == (False, False)
        np.testing.assert_array_equal(pool.submit(lambda: net(x).asnumpy()).result(), expected)
