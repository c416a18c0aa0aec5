"""Multi-head attention and the encoder of the model zoo, against NumPy and on a rule that can be learned."""

from __future__ import annotations

import numpy
import pytest
from scipy import special

import mxpipe as mx
from mxpipe import autograd, np, npx
from mxpipe.gluon import nn


def dense(layer: nn.Dense, x: numpy.ndarray) -> numpy.ndarray:
    return x @ layer.weight.data().asnumpy().T + layer.bias.data().asnumpy()


def attend(layer: nn.MultiHeadAttention, x: numpy.ndarray, heads: int, seen: numpy.ndarray) -> numpy.ndarray:
    batch, tokens, units = x.shape
    q, k, v = dense(layer.qkv, x).reshape(batch, tokens, 3, heads, -1).transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(-1, -2) / numpy.sqrt(units / heads)
    probabilities = special.softmax(numpy.where(seen, scores, -numpy.inf), -1)
    return dense(layer.out, (probabilities @ v).swapaxes(1, 2).reshape(batch, tokens, units))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("hybrid", [False, True])
def test_multi_head_attention_against_numpy(causal: bool, hybrid: bool) -> None:
    layer = nn.MultiHeadAttention(12, 3, causal=causal)
    layer.initialize(mx.init.Normal(0.4))
    if hybrid:
        layer.hybridize()
    x = numpy.random.default_rng(0).normal(size=(2, 5, 12)).astype("float32")
    mask = numpy.arange(5) < numpy.array([[5], [3]])
    seen = mask[:, None, None, :] & (numpy.tril(numpy.ones((5, 5), bool)) if causal else True)
    result = layer(np.array(x), np.array(mask).reshape(2, 1, 1, 5))
    numpy.testing.assert_allclose(result.asnumpy(), attend(layer, x, 3, seen), rtol=2e-5, atol=2e-5)


def test_encoder_against_numpy() -> None:
    net = mx.gluon.model_zoo.transformer_encoder(20, 3, 2, 8, 2, 16, max_length=6, dropout=0.0)
    net.initialize(mx.init.Normal(0.3))
    ids = numpy.random.default_rng(1).integers(0, 20, (4, 5))

    def norm(layer: nn.LayerNorm, x: numpy.ndarray) -> numpy.ndarray:
        normal = (x - x.mean(-1, keepdims=True)) / numpy.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return normal * layer.gamma.data().asnumpy() + layer.beta.data().asnumpy()

    x = norm(net.norm, net.tokens.weight.data().asnumpy()[ids] + net.positions.data().asnumpy()[:5])
    for layer in net.layers:
        x = norm(layer.norm1, x + attend(layer.attention, x, 2, numpy.array(True)))
        hidden = dense(layer.up, x)
        x = norm(layer.norm2, x + dense(layer.down, hidden * special.ndtr(hidden)))
    expected = dense(net.classifier, numpy.tanh(dense(net.pooler, x[:, 0])))
    numpy.testing.assert_allclose(net(np.array(ids)).asnumpy(), expected, rtol=1e-4, atol=1e-5)
    net.hybridize()
    numpy.testing.assert_allclose(net(np.array(ids)).asnumpy(), expected, rtol=1e-4, atol=1e-5)


def test_padding_is_not_seen() -> None:
    net = mx.gluon.model_zoo.transformer_encoder(20, 2, 1, 8, 2, 16, max_length=6, dropout=0.0)
    net.initialize(mx.init.Normal(0.3))
    mask = np.array(numpy.arange(6)[None] < 4)
    first, second = np.array([[1, 2, 3, 4, 0, 0]]), np.array([[1, 2, 3, 4, 7, 9]])
    assert net(first, mask).asnumpy().tobytes() == net(second, mask).asnumpy().tobytes()
    assert net(first).asnumpy().tobytes() != net(second).asnumpy().tobytes()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_encoder_learns_which_token_comes_twice(precision: str) -> None:
    """The label asks for a comparison of positions that no bag of tokens can make."""
    mx.random.seed(3)
    random = numpy.random.default_rng(3)
    first = random.integers(1, 4, (1024, 6))
    ids = np.array(numpy.concatenate([numpy.zeros((1024, 1), int), first], 1))
    labels = np.array((first[:, 0] == first[:, 4]).astype("int64"))
    net = mx.gluon.model_zoo.transformer_encoder(4, 2, 2, 32, 4, 64, max_length=7, dropout=0.02)
    net.initialize(mx.init.Xavier())
    trainer = mx.gluon.Trainer(net.collect_params(), "adamw", {"learning_rate": 0.003})
    step = mx.gluon.TrainStep(net, mx.gluon.loss.SoftmaxCrossEntropyLoss(), trainer, precision=precision)
    for _ in range(12):
        for at in range(0, 1024, 64):
            step(ids[at : at + 64], labels[at : at + 64])
    net.hybridize()
    assert float((net(ids).argmax(1) == labels).astype("float32").mean()) > 0.97


def test_dropout_of_probabilities_is_drawn_anew_and_reproducible() -> None:
    x = np.random.normal(size=(2, 7, 3, 2, 4))

    def run() -> tuple[mx.np.ndarray, mx.np.ndarray]:
        mx.random.seed(5)
        with autograd.train_mode():
            return npx.attention(x, dropout=0.5), npx.attention(x, dropout=0.5)

    first, second = run()
    again, _ = run()
    assert first.asnumpy().tobytes() == again.asnumpy().tobytes() != second.asnumpy().tobytes()
    plain = npx.attention(x, dropout=0.5)  # outside of training
    numpy.testing.assert_array_equal(plain.asnumpy(), npx.attention(x).asnumpy())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bytes_do_not_depend_on_threads(dtype: str) -> None:
    x = np.random.normal(size=(2, 200, 3, 4, 16)).astype(dtype)
    x.attach_grad()

    def run(threads: int) -> tuple[bytes, bytes]:
        mx.set_num_threads(threads)
        with autograd.record():
            y = npx.attention(x, causal=True)
        y.backward()
        return y.astype("float32").asnumpy().tobytes(), x.grad.astype("float32").asnumpy().tobytes()

    threads = mx.get_num_threads()
    try:
        assert run(1) == run(2)
    finally:
        mx.set_num_threads(threads)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(mx.MxpipeError, match="multiple of num_heads"):
        nn.MultiHeadAttention(10, 3)
    q = np.ones((1, 2, 1, 4))
    with pytest.raises(mx.MxpipeError, match="together"):
        npx.attention(q, q)
    with pytest.raises(mx.MxpipeError, match="must match or broadcast"):
        npx.attention(q, q, q, mask=np.ones((3, 2)))
    with pytest.raises(mx.MxpipeError, match="at most 4 tokens"):
        mx.gluon.model_zoo.transformer_encoder(9, 2, 1, 8, 2, 16, max_length=4)(np.array([[1] * 5]))
