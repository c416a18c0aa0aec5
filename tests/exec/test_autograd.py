"""Three doors, one result: the tape, compiled blocks, and gradients within a trace."""

import threading

import numpy as np
import pytest

from mxpipe import _native as core
from mxpipe.errors import GraphError


def matrix(*shape: int, seed: int = 0) -> core.Array:
    return core.array(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.fixture
def recording():
    previous = core.set_recording(True)
    yield
    core.set_recording(previous)


def loss_of(x: core.Array, weight: core.Array, bias: core.Array) -> core.Array:
    hidden = core.invoke("relu", [core.invoke("fully_connected", [x, weight, bias], {})], {})
    return core.invoke("sum", [hidden * hidden], {"axis": [0, 1]})


def by_tape(x, weight, bias):
    core.set_recording(True)
    loss = loss_of(x, weight, bias)
    core.set_recording(False)
    loss.backward()
    return loss, weight.grad, bias.grad


def test_tape_compiled_and_traced_gradients_are_the_same_bytes() -> None:
    x, weight, bias = matrix(9, 5), matrix(4, 5, seed=1), matrix(4, seed=2)
    weight.attach_grad()
    bias.attach_grad()
    expected = [value.asnumpy().tobytes() for value in by_tape(x, weight, bias)]

    compiled = core.trace(lambda value: loss_of(value, weight, bias), [x])
    core.set_recording(True)
    (loss,) = compiled(x)
    core.set_recording(False)
    loss.backward()
    assert [value.asnumpy().tobytes() for value in (loss, weight.grad, bias.grad)] == expected

    def with_gradients(value):
        traced_loss = loss_of(value, weight, bias)
        return traced_loss, *core.grad([traced_loss], [weight, bias])

    assert [value.asnumpy().tobytes() for value in core.trace(with_gradients, [x])(x)] == expected


def test_gradients_of_gradients(recording) -> None:
    x = core.array(np.array([0.5, -1.5, 2.0], np.float32))
    x.attach_grad()
    y = x * x * x
    (first,) = core.grad([y], [x], create_graph=True)
    first.backward()
    np.testing.assert_allclose(x.grad.asnumpy(), 6 * x.asnumpy(), rtol=1e-6)


def test_gradient_requests(recording) -> None:
    kept, summed, ignored = matrix(3), matrix(3), matrix(3)
    kept.attach_grad()
    summed.attach_grad("add")
    ignored.attach_grad("null")
    for _ in range(2):
        (kept * 2.0 + summed * 3.0 + ignored).backward()
    assert kept.grad.tolist() == [2.0] * 3
    assert summed.grad.tolist() == [6.0] * 3
    assert ignored.grad.tolist() == [0.0] * 3


def test_a_second_walk_needs_retain_graph(recording) -> None:
    x = matrix(3)
    x.attach_grad()
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(GraphError, match="retain_graph=True"):
        y.backward()


def test_an_overwritten_operand_is_noticed(recording) -> None:
    x = matrix(3)
    x.attach_grad()
    y = x * x
    core.set_recording(False)
    core.assign(x, 0.0)
    with pytest.raises(GraphError, match="overwritten"):
        y.backward()


def test_a_head_outside_the_tape_is_refused() -> None:
    with pytest.raises(GraphError, match=r"autograd.record\(\)"):
        matrix(3).backward()


def test_detach_stops_the_gradient_in_every_door(recording) -> None:
    x = matrix(3)
    x.attach_grad()
    (x * x.detach()).backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), x.asnumpy())
    core.set_recording(False)

    def traced(value):
        return core.grad([value * value.detach()], [value])[0]

    np.testing.assert_array_equal(core.trace(traced, [x])(x)[0].asnumpy(), x.asnumpy())


def test_random_ops_draw_the_same_numbers_in_every_door() -> None:
    x = core.array(np.ones((50, 40), np.float32))

    def twice(value):
        first = core.invoke("dropout", [value], {"p": 0.3})
        return core.invoke("dropout", [first], {"p": 0.5})

    core.set_seed(11)
    eager = twice(x), twice(x)
    after = core.random_state()
    core.set_seed(11)
    compiled = core.trace(twice, [x])
    got = compiled(x)[0], compiled(x)[0]
    assert core.random_state() == after
    for left, right in zip(eager, got, strict=True):
        np.testing.assert_array_equal(left.asnumpy(), right.asnumpy())
    assert not np.array_equal(eager[0].asnumpy(), eager[1].asnumpy())


def test_a_compiled_function_runs_in_many_threads_at_once() -> None:
    weight = matrix(64, 64)
    compiled = core.trace(
        lambda x: core.invoke("matmul", [core.invoke("tanh", [x], {}), weight], {}), [matrix(8, 64)]
    )
    inputs = [matrix(8, 64, seed=seed) for seed in range(8)]
    expected = [compiled(x)[0].asnumpy() for x in inputs]
    failures: list[int] = []

    def work(index: int) -> None:
        for _ in range(50):
            if not np.array_equal(compiled(inputs[index])[0].asnumpy(), expected[index]):
                failures.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_traced_array_has_no_value() -> None:
    def reads(x):
        x.asnumpy()
        return x

    with pytest.raises(GraphError, match="read it outside the traced function"):
        core.trace(reads, [matrix(3)])
    assert not core.is_tracing()


def test_graphs_survive_json() -> None:
    weight = matrix(4, 5)
    x = matrix(3, 5)
    compiled = core.trace(
        lambda value: (
            core.invoke(
                "clip",
                [
                    core.invoke("fully_connected", [value, weight], {}),
                ],
                {"a_min": 0.0},
            )
            * 2.0
        ),
        [x],
    )
    graph = core.Graph.from_json(compiled.graph.rename_inputs(["x", "weight"]).to_json())
    assert [name for name, _, _ in graph.inputs] == ["x", "weight"]
    np.testing.assert_array_equal(graph.compile()(x, weight)[0].asnumpy(), compiled(x)[0].asnumpy())
    wider = graph.retype([((11, 5), "float32"), ((4, 5), "float32")])
    assert wider.outputs[0][1] == (11, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": [{"op": "no_such", "inputs": [], "attributes": {}}]}, "must name a registered op"),
        ({"nodes": [{"op": "relu", "inputs": [[0, 0]], "attributes": {}}]}, "made before it is read"),
        ({"nodes": [{"input": "x", "type": {"dtype": "float32", "shape": [2**62, 8]}}]}, "63 bits"),
        ({"nodes": [{"input": "x"}]}, "field type must be present"),
        ({"version": 99}, "format and version"),
    ],
)
def test_a_malformed_graph_is_refused(change: dict, message: str) -> None:
    import json

    from mxpipe.errors import MxpipeError

    document = {"format": "mxpipe.graph", "version": 1, "nodes": [], "inputs": [], "outputs": []} | change
    with pytest.raises(MxpipeError, match=message):
        core.Graph.from_json(json.dumps(document))
