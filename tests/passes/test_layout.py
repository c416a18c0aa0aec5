"""Images become channels-last inside a plan, and what leaves it has the layout in which it was written."""

from __future__ import annotations

import numpy as onp

from mxpipe import _native, autograd, np
from mxpipe._native import invoke


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = onp.random.default_rng(0)
    return [np.array(generator.standard_normal(shape).astype("float32")) for shape in shapes]


def block(x, w1, w2, gamma, beta):
    """Convolution, batch norm, relu, convolution, addition, pooling, mean."""
    y = invoke("convolution", [x, w1], {"padding": [1, 1]})
    y = np.maximum(invoke("batch_norm", [y, gamma, beta], {})[0], 0.0)
    z = invoke("convolution", [y, w2], {"padding": [1, 1]}) + y * gamma.reshape(-1, 1, 1)
    z = invoke("max_pool", [z], {"kernel": [2, 2], "stride": [2, 2]})[0]
    return np.concatenate([z, z[:, 1:3]], axis=1).mean(axis=(2, 3))


SHAPES = ((2, 3, 8, 6), (4, 3, 3, 3), (4, 4, 3, 3), (4,), (4,))


def text_after(function, inputs) -> str:
    return dict(_native.trace(function, inputs).graph.passes())["layout"]


def test_one_transpose_in_and_none_between():
    text = text_after(block, arrays(*SHAPES))
    assert text.count("transpose(") == 1, text
    assert text.count("layout=NHWC") == 3
    assert "axis=3" in text


def test_results_are_those_of_the_layout_as_written():
    inputs = arrays(*SHAPES)
    compiled = _native.trace(block, inputs).compile()(*inputs)[0]
    onp.testing.assert_allclose(compiled.asnumpy(), block(*inputs).asnumpy(), rtol=2e-5, atol=2e-5)


def test_gradients_are_those_of_the_layout_as_written():
    inputs = arrays(*SHAPES)

    def gradients(*inputs):
        return tuple(autograd.grad((block(*inputs) ** 2).sum(), list(inputs)))

    compiled = _native.trace(gradients, inputs).compile()(*inputs)
    for array in inputs:
        array.attach_grad()
    with autograd.record():
        loss = (block(*inputs) ** 2).sum()
    loss.backward()
    for array, got in zip(inputs, compiled, strict=True):
        assert got.shape == array.shape
        scale = float(onp.abs(array.grad.asnumpy()).max())
        onp.testing.assert_allclose(got.asnumpy(), array.grad.asnumpy(), rtol=1e-4, atol=1e-4 * scale)


def test_the_backward_of_a_block_moves_no_image():
    def gradients(x, w1, w2, gamma, beta):
        y = invoke("batch_norm", [invoke("convolution", [x, w1], {"padding": [1, 1]}), gamma, beta], {})[0]
        y = np.maximum(y, 0.0)
        z = np.maximum(invoke("convolution", [y, w2], {"padding": [1, 1]}) + y, 0.0)
        return tuple(autograd.grad((z.mean(axis=(2, 3)) ** 2).sum(), [w1, w2, gamma, beta]))

    text = text_after(gradients, arrays(*SHAPES))
    assert text.count("transpose(") == 1, text  # the input, on its way in


def test_an_image_that_leaves_has_its_layout_back():
    x, w = arrays((2, 3, 8, 6), (4, 3, 3, 3))
    compiled = _native.trace(lambda x, w: invoke("convolution", [x, w], {}) * 2.0, [x, w]).compile()
    onp.testing.assert_allclose(
        compiled(x, w)[0].asnumpy(), invoke("convolution", [x, w], {}).asnumpy() * 2.0, rtol=1e-5, atol=1e-5
    )


def test_channels_last_as_written_stays():
    x, w = arrays((2, 8, 6, 3), (4, 3, 3, 3))
    text = text_after(lambda x, w: np.exp(invoke("convolution", [x, w], {"layout": "NHWC"})), [x, w])
    assert "transpose(" not in text
