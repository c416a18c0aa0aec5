"""What each pass promises, seen in the text of the graph after it."""

import numpy as np
import pytest

from mxpipe._native import Array, array, assign, grad, invoke, trace


def matrix(*shape: int, seed: int = 0) -> Array:
    return array(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def stages(function, *arguments: Array) -> dict[str, str]:
    return dict(trace(function, list(arguments)).graph.passes())


def test_simplify_shares_equal_subexpressions_and_drops_dead_code() -> None:
    def function(x: Array) -> Array:
        invoke("exp", [x], {})  # nobody reads it
        return invoke("tanh", [x], {}) * invoke("tanh", [x], {})

    text = stages(function, matrix(3, 4))["simplify"]
    assert text.count("tanh(") == 1
    assert "exp(" not in text


def test_simplify_absorbs_transposes_into_matmul() -> None:
    text = stages(lambda x: invoke("matmul", [x, x.T], {}), matrix(3, 4))["simplify"]
    assert "transpose(" not in text
    assert "transpose_b=true" in text


def test_simplify_takes_reductions_of_one_entry_for_views() -> None:
    text = stages(lambda x: invoke("mean", [x], {"axis": [1]}), matrix(5, 1))["simplify"]
    assert "mean(" not in text
    assert "reshape(" in text


def test_fuse_makes_one_program_of_a_chain() -> None:
    text = stages(lambda x: invoke("sigmoid", [x * 2.0 + 1.0], {}), matrix(3, 4))["fuse"]
    assert text.count("elementwise(") == 1


def test_fuse_does_not_make_a_step_wait_for_itself() -> None:
    # exp -> matmul -> add(exp): merging exp with add would need the matmul's result before it starts.
    def function(x: Array) -> Array:
        y = invoke("exp", [x], {})
        return invoke("matmul", [y, y], {}) + y

    text = stages(function, matrix(4, 4))["fuse"]
    assert text.count("elementwise(") == 2


def test_relu_becomes_a_post_op_of_its_layer() -> None:
    weight, bias = matrix(5, 4), matrix(5)
    text = stages(
        lambda x: invoke("relu", [invoke("fully_connected", [x, weight, bias], {})], {}), matrix(3, 4)
    )["fuse"]
    assert "activation=relu" in text
    assert "elementwise(" not in text


def test_an_update_runs_in_place_and_before_later_work() -> None:
    weight = matrix(6, 6)

    def step(x: Array) -> Array:
        product = invoke("matmul", [x, weight], {})
        (gradient,) = grad([product], [weight])
        assign(weight, weight - gradient * 0.1)
        return invoke("matmul", [product, product], {})

    compiled = trace(step, [matrix(6, 6)])
    assert "@update:" in compiled.steps()
    assert "0 copies at the end" in compiled.memory()
    lines = compiled.steps().splitlines()
    update = next(i for i, line in enumerate(lines) if "@update:" in line)
    assert update < len(lines) - 1  # hoisted before the last product


def test_a_state_that_is_met_last_does_not_delay_its_update() -> None:
    first, second = matrix(6, 6), matrix(6, 6, seed=1)
    states = [matrix(6, 6, seed=2), matrix(6, 6, seed=3)]

    def step(x: Array) -> Array:
        loss = invoke("matmul", [invoke("matmul", [x, first], {}), second], {})
        for weight, state, gradient in zip(
            [first, second], states, grad([loss], [first, second]), strict=True
        ):
            assign(state, state * 0.9 + gradient)
            assign(weight, weight - state)
        return loss

    lines = trace(step, [matrix(6, 6)]).steps().splitlines()
    updates = [i for i, line in enumerate(lines) if "@update:" in line]
    assert updates[0] < updates[-1] - 1, "the last layer's weight is updated before the first one's gradient"


def test_memory_is_reused_along_a_chain() -> None:
    x = matrix(64, 64)

    def chain(value: Array) -> Array:
        for _ in range(10):
            value = invoke("matmul", [value, value], {})
        return value

    assert trace(chain, [x]).arena_bytes < 5 * x.nbytes


@pytest.mark.parametrize("channels", [5, 32, 256])
@pytest.mark.parametrize("activation", ["relu", "negative"])  # the first becomes part of the convolution
def test_a_convolution_adds_where_its_addend_dies(channels: int, activation: str) -> None:
    x, weight = matrix(2, 14, 14, channels), matrix(channels, channels, 1, 1, seed=1)
    bias = matrix(channels, seed=2)

    def layer(value: Array) -> Array:
        return invoke("relu", [invoke("convolution", [value, weight, bias], {"layout": "NHWC"})], {})

    def blocks(value: Array) -> Array:
        value = layer(value)
        for _ in range(3):
            inner = invoke("convolution", [layer(value), weight, bias], {"layout": "NHWC"})
            value = invoke(activation, [inner + value], {})
        return layer(value)

    compiled = trace(blocks, [x])
    (result,) = compiled(x)
    assert result.asnumpy().tobytes() == blocks(x).asnumpy().tobytes()
    homes = [line.split(" -> ")[1] for line in compiled.steps().splitlines()]
    assert len(set(homes)) == 3, "two images of the arena take turns; the last is the result"
