"""Networks by name: shapes, the model they stand for, and learning."""

from __future__ import annotations

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import MxpipeError, SpecificationError
from mxpipe.gluon import model_zoo

CARDINALITIES = [4, 30, 2]


def batch(rows=16, seed=0):
    random = np.random.default_rng(seed)
    numeric = random.standard_normal((rows, 3)).astype(np.float32)
    categorical = np.stack([random.integers(0, size, rows) for size in CARDINALITIES], axis=1).astype(
        np.int32
    )
    label = (numeric[:, 0] + (categorical[:, 1] % 2) - 0.5 > 0).astype(np.float32)
    return mx.np.array(numeric), mx.np.array(categorical), mx.np.array(label)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("logistic_regression", {}),
        ("mlp", {"hidden_units": [8]}),
        ("wide_and_deep", {}),
        ("wide_and_deep", {"embedding_dims": 4, "norm": "layer", "dropout": 0.1, "embedding_dropout": 0.1}),
        ("wide_and_deep", {"embedding_dims": [2, 5, 2], "norm": "batch", "activation": "silu", "outputs": 3}),
        ("wide_and_deep", {"sparse_grad": False, "hidden_units": []}),
    ],
)
def test_shapes_eager_and_hybrid(name, arguments):
    net = model_zoo.get_model(name, num_numeric=3, cardinalities=CARDINALITIES, **arguments)
    net.initialize()
    numeric, categorical, _ = batch()
    eager = net(numeric, categorical).asnumpy()
    assert eager.shape == (16, arguments.get("outputs", 1))
    net.hybridize()
    np.testing.assert_allclose(net(numeric, categorical).asnumpy(), eager, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["logistic_regression", "mlp", "wide_and_deep"])
def test_without_categories_and_without_numbers(name):
    numeric, categorical, _ = batch()
    net = model_zoo.get_model(name, num_numeric=3)
    net.initialize()
    assert net(numeric).shape == (16, 1)
    net = model_zoo.get_model(name, num_numeric=0, cardinalities=CARDINALITIES)
    net.initialize()
    assert net(mx.np.zeros((16, 0)), categorical).shape == (16, 1)
    with pytest.raises(SpecificationError, match="column"):
        model_zoo.get_model(name, num_numeric=0)


def test_logistic_regression_is_linear_in_numbers_and_categories():
    net = model_zoo.logistic_regression(3, CARDINALITIES, output_bias=-1.0)
    net.initialize()
    numeric, categorical, _ = batch()
    assert (net(numeric, categorical).asnumpy() == -1.0).all()
    random = np.random.default_rng(1)
    for parameter in net.collect_params().values():
        parameter.set_data(random.standard_normal(parameter.shape))
    offsets = np.array([0, 4, 34])
    weights = {name: parameter.data().asnumpy() for name, parameter in net.collect_params().items()}
    expected = (
        weights["bias"]
        + numeric.asnumpy() @ weights["wide_numeric.weight"].T
        + weights["wide_table.table.weight"][categorical.asnumpy() + offsets].sum(axis=1)
    )
    np.testing.assert_allclose(net(numeric, categorical).asnumpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [None, 4, [3, 3, 2]])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_ids_of_a_column_do_not_reach_into_the_next(dims, column):
    net = model_zoo.wide_and_deep(3, CARDINALITIES, embedding_dims=dims)
    net.initialize()
    numeric, categorical, _ = batch()
    for wrong in (CARDINALITIES[column], -1):
        ids = categorical.asnumpy()
        ids[3, column] = wrong
        with pytest.raises(MxpipeError):
            net(numeric, mx.np.array(ids)).asnumpy()


@pytest.mark.parametrize("name", ["logistic_regression", "mlp", "wide_and_deep"])
def test_learns(name):
    mx.random.seed(0)
    net = model_zoo.get_model(name, num_numeric=3, cardinalities=CARDINALITIES)
    net.initialize()
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.02})
    step = mx.gluon.TrainStep(net, mx.gluon.loss.SigmoidBCELoss(), trainer)
    for epoch in range(60):
        step(*batch(256, seed=epoch % 4))
    metric = mx.gluon.metric.AUC()
    numeric, categorical, label = batch(1000, seed=99)
    metric.update(label, net(numeric, categorical))
    assert metric.get()[1] > 0.95


@pytest.mark.parametrize("merged", [True, False])
def test_dlrm_is_the_same_with_one_table_or_many_sparse_or_dense(merged):
    losses = []
    for sparse_grad in (True, False):
        mx.random.seed(0)
        net = model_zoo.dlrm(3, CARDINALITIES, 4, [8], [8], merged=merged, sparse_grad=sparse_grad)
        net.initialize()
        trainer = mx.gluon.Trainer(net.collect_params(), "adagrad", {"learning_rate": 0.1})
        step = mx.gluon.TrainStep(net, mx.gluon.loss.SigmoidBCELoss(), trainer)
        losses.append([step(*batch(256, seed=epoch % 4)).mean().item() for epoch in range(60)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[0][-1] < 0.5 * losses[0][0]


def test_dlrm_is_the_model_of_the_paper():
    net = model_zoo.dlrm(3, CARDINALITIES, 4, bottom_units=[], top_units=[])
    net.initialize()
    numeric, categorical, _ = batch()
    x = np.maximum(
        numeric.asnumpy() @ net.bottom[0].weight.data().asnumpy().T + net.bottom[0].bias.data().asnumpy(), 0
    )
    table, offsets = net.tables[0].table.weight.data().asnumpy(), np.cumsum([0, *CARDINALITIES[:-1]])
    vectors = np.concatenate([x[:, None], table[categorical.asnumpy() + offsets]], axis=1)
    pairs = [(vectors[:, i] * vectors[:, j]).sum(-1) for i in range(4) for j in range(i)]
    expected = np.concatenate([x, np.stack(pairs, axis=1)], axis=1) @ net.top[0].weight.data().asnumpy().T
    np.testing.assert_allclose(net(numeric, categorical).asnumpy(), expected, rtol=1e-5, atol=1e-6)


def test_registry():
    assert {"dlrm", "logistic_regression", "mlp", "wide_and_deep"} <= set(model_zoo.list_models())
    with pytest.raises(SpecificationError, match="must be one of"):
        model_zoo.get_model("transformer", num_numeric=1)
    with pytest.raises(SpecificationError, match="one entry"):
        model_zoo.wide_and_deep(1, [2, 3], embedding_dims=[1])
    with pytest.raises(SpecificationError, match="numbers and categories"):
        model_zoo.dlrm(1, [])
    with pytest.raises(SpecificationError, match="norm"):
        model_zoo.wide_and_deep(1, norm="group")


def test_exported_graph_fits_other_batches():
    net = model_zoo.wide_and_deep(3, CARDINALITIES, norm="layer", dropout=0.2)
    net.initialize()
    trace = net.trace(*batch(2)[:2])
    inputs = batch(33)[:2]
    arrays = [*inputs, *trace.parameters.values()]
    compiled = trace.graph.retype([(array.shape, array.dtype) for array in arrays]).compile()
    np.testing.assert_allclose(compiled(*arrays)[0].asnumpy(), net(*inputs).asnumpy(), rtol=1e-5, atol=1e-6)
