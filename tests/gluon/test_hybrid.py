"""Hybridized blocks give what eager ones give, and compile once a signature."""

from __future__ import annotations

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import BlockError
from mxpipe.gluon import nn


def network():
    net = nn.HybridSequential()
    net.add(
        nn.Dense(16, activation="relu"),
        nn.LayerNorm(),
        nn.Dropout(0.3),
        nn.Dense(8),
        nn.BatchNorm(),
        nn.GELU(),
        nn.Dense(2),
    )
    mx.random.seed(11)
    net.initialize(mx.init.Xavier())
    net(mx.np.ones((2, 5)))
    return net


def batch(rows=7, seed=0):
    return mx.np.array(np.random.default_rng(seed).standard_normal((rows, 5)), dtype="float32")


def state(net):
    return {name: parameter.data().asnumpy() for name, parameter in net.collect_params().items()}


def assert_same(first, second):
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_predict_mode():
    net, x = network(), batch()
    eager = net(x).asnumpy()
    net.hybridize()
    np.testing.assert_array_equal(net(x).asnumpy(), eager)
    np.testing.assert_array_equal(net(x).asnumpy(), net(x).asnumpy())


def test_training_with_dropout_gradients_and_running_statistics():
    results = []
    for hybrid in (False, True):
        net = network()
        if hybrid:
            net.hybridize()
        mx.random.seed(5)
        for seed in range(3):
            with mx.autograd.record():
                loss = (net(batch(seed=seed)) ** 2).sum()
            loss.backward()
        gradients = {
            name: parameter.grad().asnumpy()
            for name, parameter in net.collect_params().items()
            if parameter.grad_req != "null"
        }
        results.append((loss.item(), gradients, state(net), mx.random.get_state()))
    eager, hybrid = results
    assert eager[3] == hybrid[3]
    assert hybrid[0] == eager[0]
    assert_same(hybrid[1], eager[1])
    assert_same(hybrid[2], eager[2])
    for name in ("4.running_mean", "4.running_var"):
        assert not np.array_equal(eager[2][name], state(network())[name])


def test_one_plan_a_signature():
    calls = []

    class Counted(mx.gluon.HybridBlock):
        def forward(self, x):
            calls.append(x.shape)
            return x * 2

    net = Counted()
    net.hybridize(static_alloc=True)
    for rows in (2, 2, 3, 3, 2):
        assert net(mx.np.ones((rows,))).shape == (rows,)
    assert calls == [(2,), (3,)]
    with mx.autograd.train_mode():
        net(mx.np.ones((2,)))
    assert len(calls) == 3
    net(mx.np.ones((2,), dtype="float64"))
    assert len(calls) == 4
    net.hybridize(False)
    net(mx.np.ones((2,)))
    net(mx.np.ones((2,)))
    assert len(calls) == 6


def test_plans_see_new_values_and_new_arrays():
    net = nn.Dense(1, in_units=1, use_bias=False, weight_initializer="ones")
    net.initialize()
    net.hybridize()
    x = mx.np.ones((1, 1))
    assert net(x).item() == 1.0
    net.weight.set_data([[2.0]])
    assert net(x).item() == 2.0
    net.initialize(mx.init.Constant(5), force_reinit=True)
    net.weight.initialize(init=mx.init.Constant(5), force_reinit=True)
    assert net(x).item() == 5.0


def test_structured_arguments_and_results():
    class Structured(mx.gluon.HybridBlock):
        def forward(self, pair, factor, nothing=None):
            assert nothing is None
            return {"sum": 0} if factor == 0 else [pair[0] * factor, (pair[1], None)]

    net = Structured()
    net.hybridize()
    first, (second, none) = net((mx.np.ones((2,)), mx.np.zeros((3,))), 3)
    assert first.asnumpy().tolist() == [3.0, 3.0]
    assert second.shape == (3,)
    assert none is None
    assert net((mx.np.ones((2,)), mx.np.zeros((3,))), 4, None)[0].asnumpy().tolist() == [4.0, 4.0]
    with pytest.raises(BlockError, match="dict"):
        net((mx.np.ones((2,)), mx.np.zeros((3,))), 0)


def test_reading_a_value_while_compiling_is_an_error():
    class Reads(mx.gluon.HybridBlock):
        def forward(self, x):
            return x * x.asnumpy().max()

    net = Reads()
    assert net(mx.np.ones((2,))).shape == (2,)
    net.hybridize()
    with pytest.raises(mx.errors.GraphError):
        net(mx.np.ones((2,)))
    assert not mx.autograd.is_recording()


def test_unknown_option():
    with pytest.raises(BlockError, match="options"):
        nn.Dense(1).hybridize(turbo=True)


def test_a_compiled_child_in_an_eager_parent():
    class Parent(mx.gluon.Block):
        def __init__(self):
            super().__init__()
            self.inner = nn.Dense(3, activation="tanh")

        def forward(self, x):
            return self.inner(x) + float(self.inner(x).asnumpy().max())

    net = Parent()
    net.initialize()
    x = batch()
    eager = net(x).asnumpy()
    net.hybridize()
    np.testing.assert_allclose(net(x).asnumpy(), eager, rtol=1e-6)


def test_trace_names_parameters_and_fits_other_batches():
    net = network()
    trace = net.trace(batch(2))
    assert trace.inputs == ["data"]
    assert set(trace.parameters) == set(net.collect_params())
    assert len(trace.graph.inputs) == 1 + len(trace.parameters)
    x = batch(9)
    arrays = [x, *trace.parameters.values()]
    compiled = trace.graph.retype([(array.shape, array.dtype) for array in arrays]).compile()
    np.testing.assert_allclose(compiled(*arrays)[0].asnumpy(), net(x).asnumpy(), rtol=1e-6, atol=1e-6)


def test_export_and_import(tmp_path):
    net, x = network(), batch()
    with pytest.raises(BlockError, match="hybridized and called"):
        net.export(tmp_path / "net")
    net.hybridize()
    expected = net(x).asnumpy()
    symbol_file, parameter_file = net.export(tmp_path / "net", epoch=3)
    assert parameter_file.endswith("net-0003.safetensors")
    loaded = mx.gluon.SymbolBlock.imports(symbol_file, ["data"], parameter_file)
    np.testing.assert_allclose(loaded(x).asnumpy(), expected, rtol=1e-6, atol=1e-6)
    assert loaded(batch(3)).shape == (3, 2)
    loaded.hybridize()
    np.testing.assert_allclose(loaded(x).asnumpy(), expected, rtol=1e-6, atol=1e-6)
    assert set(loaded.collect_params()) == set(net.collect_params())
