"""Symbols: building, evaluating, binding, JSON, and blocks made of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import GraphError, ModelFormatError

X = np.array([[1.0, -2.0], [3.0, 4.0]], dtype=np.float32)


def expression():
    x, w, b = (mx.sym.var(name) for name in "xwb")
    hidden = mx.npx.relu(mx.npx.fully_connected(x, w, b))
    return (2.0 - hidden) / (1 + mx.np.exp(-hidden).sum(axis=1, keepdims=True))


def values():
    return {"x": mx.np.array(X), "w": mx.np.array(X + 1), "b": mx.np.array([0.5, -0.5])}


def expected():
    hidden = np.maximum(X @ (X + 1).T + [0.5, -0.5], 0)
    return (2 - hidden) / (1 + np.exp(-hidden).sum(axis=1, keepdims=True))


def test_structure():
    symbol = expression()
    assert symbol.list_arguments() == ["x", "w", "b"]
    assert symbol.list_outputs()[0].endswith("_output")
    assert symbol.list_auxiliary_states() == []
    assert "fully_connected" in " ".join(symbol.get_internals().list_outputs())


def test_eval_graph_and_shapes():
    symbol = expression()
    np.testing.assert_allclose(symbol.eval(**values())[0].asnumpy(), expected(), rtol=1e-6)
    shapes, outputs, auxiliary = symbol.infer_shape(x=(7, 2), w=(3, 2), b=(3,))
    assert (shapes, outputs, auxiliary) == ([(7, 2), (3, 2), (3,)], [(7, 3)], [])
    graph = symbol.graph(x=(2, 2), w=(2, 2), b=(2,))
    arrays = list(values().values())
    np.testing.assert_allclose(graph.compile()(*arrays)[0].asnumpy(), expected(), rtol=1e-6)
    with pytest.raises(GraphError, match="w has none"):
        symbol.infer_shape(x=(7, 2))
    with pytest.raises(GraphError, match="z"):
        symbol.infer_shape(z=(7, 2))
    with pytest.raises(GraphError, match="must have a value"):
        symbol.eval(x=mx.np.ones((1, 2)))


def test_layers_decide_the_shapes_of_their_parameters():
    ids, table = mx.sym.var("ids", dtype="int32"), mx.sym.var("table")
    rows = mx.npx.embedding(ids, table, input_dim=9, output_dim=4)
    hidden = mx.npx.fully_connected(rows, mx.sym.var("w"), mx.sym.var("b"), num_hidden=5)
    names = ["gamma", "beta", "mean", "variance"]
    hidden = mx.npx.batch_norm(hidden, *[mx.sym.var(name) for name in names], use_global_stats=True)
    symbol = mx.npx.layer_norm(hidden, gamma=mx.sym.var("scale"), beta=mx.sym.var("shift"))
    shapes, outputs, _ = symbol.infer_shape(ids=(2, 3))
    assert outputs == [(2, 5)]
    assert dict(zip(symbol.list_arguments(), shapes, strict=True)) == {
        "ids": (2, 3),
        "table": (9, 4),
        "w": (5, 12),
        "b": (5,),
        **dict.fromkeys([*names, "scale", "shift"], (5,)),
    }
    with pytest.raises(GraphError, match="y has none"):
        (mx.sym.var("x", shape=(2,)) + mx.sym.var("y")).infer_shape()
    with pytest.raises(GraphError, match="y has none"):
        mx.np.concatenate([mx.sym.var("x", shape=(2,)), mx.sym.var("y")]).infer_shape()


def test_operators_match_numpy():
    a, b = mx.sym.var("a"), mx.sym.var("b")
    arrays = {"a": mx.np.array(X), "b": mx.np.array(X[::-1].copy())}
    left, right = X, X[::-1]
    cases = [
        (a + b, left + right),
        (3 - a, 3 - left),
        (a * 2, left * 2),
        (1 / a, 1 / left),
        (a**2, left**2),
        (a @ b, left @ right),
        (-abs(a), -np.abs(left)),
        (a > b, left > right),
        (a == a, left == left),
        (a[0], left[0]),
        (a[:, 1:], left[:, 1:]),
        (a.reshape(4), left.reshape(4)),
        (a.T, left.T),
        (a.mean(), left.mean()),
        (mx.np.split(a, 2, axis=1)[1], left[:, 1:]),
        (mx.np.concatenate([a, b], axis=0), np.concatenate([left, right])),
    ]
    for symbol, reference in cases:
        reread = mx.sym.load_json(symbol.tojson())
        given = {name: arrays[name] for name in symbol.list_arguments()}
        for item in (symbol, reread):
            np.testing.assert_allclose(item.eval(**given)[0].asnumpy(), reference, rtol=1e-6)


def test_bind_forward_backward():
    x, w = mx.sym.var("x"), mx.sym.var("w")
    executor = (
        (mx.np.matmul(x, w) ** 2)
        .sum()
        .bind(args={"x": mx.np.ones((1, 2)), "w": mx.np.ones((2, 1))}, grad_req="write")
    )
    assert executor.forward(is_train=True)[0].item() == 4.0
    executor.backward()
    assert executor.grad_dict["w"].asnumpy().tolist() == [[4.0], [4.0]]
    assert executor.forward(x=mx.np.zeros((1, 2)))[0].item() == 0.0
    gradients = {"w": mx.np.zeros((2, 1))}
    executor = mx.np.matmul(x, w).bind(args=[mx.np.ones((1, 2)), mx.np.ones((2, 1))], args_grad=gradients)
    executor.forward(is_train=True)
    executor.backward(mx.np.array([[3.0]]))
    assert gradients["w"].asnumpy().tolist() == [[3.0], [3.0]]
    with pytest.raises(GraphError, match="must be a value for each"):
        mx.np.matmul(x, w).bind(args={"x": mx.np.ones((1, 2))})


def test_group():
    x = mx.sym.var("x")
    group = mx.sym.Group([x + 1, x * 2])
    results = group.eval(x=mx.np.ones((1,)))
    assert [value.item() for value in results] == [2.0, 2.0]
    assert len(group) == 2
    assert mx.sym.load_json(group.tojson()).infer_shape(x=(3,))[1] == [(3,), (3,)]


def test_json_round_trip_and_files(tmp_path):
    symbol = expression()
    again = mx.sym.load_json(symbol.tojson())
    assert again.tojson() == symbol.tojson()
    np.testing.assert_allclose(again.eval(**values())[0].asnumpy(), expected(), rtol=1e-6)
    symbol.save(tmp_path / "symbol.json")
    assert mx.sym.load(tmp_path / "symbol.json").list_arguments() == ["x", "w", "b"]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(format="other"),
        lambda content: content["nodes"][-1].update(op="os.system"),
        lambda content: content["nodes"][-1].update(op="np.__builtins__"),
        lambda content: content["nodes"][-1].update(op="np.numpy"),
        lambda content: content["nodes"][-1].update(args=[{"nodes": [99]}]),
        lambda content: content["nodes"][-1].update(args=[{"nodes": [-1]}]),
        lambda content: content["nodes"][-1].update(args=[{"call": []}]),
        lambda content: content.update(heads=["x"]),
        lambda content: content.pop("nodes"),
    ],
)
def test_bad_json_is_refused(change):
    content = json.loads(expression().tojson())
    change(content)
    with pytest.raises(ModelFormatError):
        mx.sym.load_json(json.dumps(content))


def test_arrays_must_be_variables():
    with pytest.raises(GraphError, match="use var"):
        mx.np.add(mx.sym.var("x"), mx.np.ones((1,)))


def test_symbol_block(tmp_path):
    symbol = expression()
    given = values()
    net = mx.gluon.SymbolBlock(symbol, mx.sym.var("x"), {"w": given["w"], "b": given["b"]})
    np.testing.assert_allclose(net(given["x"]).asnumpy(), expected(), rtol=1e-6)
    net.hybridize()
    np.testing.assert_allclose(net(given["x"]).asnumpy(), expected(), rtol=1e-6)
    assert list(net.collect_params()) == ["w", "b"]
    net.save_parameters(tmp_path / "weights")
    symbol.save(tmp_path / "symbol.json")
    loaded = mx.gluon.SymbolBlock.imports(tmp_path / "symbol.json", "x", tmp_path / "weights")
    np.testing.assert_allclose(loaded(given["x"]).asnumpy(), expected(), rtol=1e-6)
    with mx.autograd.record():
        loss = loaded(given["x"]).sum()
    loss.backward()
    assert loaded.collect_params()["w"].grad().shape == (2, 2)
