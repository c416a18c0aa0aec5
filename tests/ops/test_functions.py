"""The functions of mx.np against NumPy's, by name, on the same arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import mxpipe as mx
from mxpipe import _native, autograd
from mxpipe.testing import check_vjp


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(-2, 2, shape).astype(np.float32)


X = numbers(3, 4)
CUBE = numbers(2, 3, 4, seed=1)
INTS = np.arange(-6, 6).reshape(3, 4)

# name, positional arguments, keyword arguments: NumPy gets the same ones.
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("sum", (CUBE,), {}),
    ("sum", (CUBE, -1), {}),
    ("sum", (CUBE, (0, -1)), {"keepdims": True}),
    ("sum", (INTS,), {"axis": 0}),
    ("sum", (X,), {"dtype": "float64"}),
    ("prod", (CUBE, 1), {}),
    ("mean", (CUBE, (0, 2)), {}),
    ("max", (CUBE, 1), {"keepdims": True}),
    ("min", (CUBE,), {}),
    ("ptp", (CUBE, 0), {}),
    ("argmax", (CUBE,), {}),
    ("argmax", (CUBE, -1), {"keepdims": True}),
    ("argmin", (CUBE,), {"keepdims": True}),
    ("var", (CUBE, (0, 1)), {"ddof": 1}),
    ("std", (CUBE, 2), {"keepdims": True}),
    ("any", (INTS, 0), {}),
    ("all", (INTS, 1), {}),
    ("any", (np.zeros((0, 3)), 0), {}),
    ("all", (np.zeros((0, 3)), 0), {}),
    ("count_nonzero", (INTS, 0), {}),
    ("reshape", (X, (2, -1)), {}),
    ("reshape", (X, 12), {}),
    ("ravel", (CUBE,), {}),
    ("squeeze", (numbers(1, 3, 1),), {}),
    ("squeeze", (numbers(1, 3, 1), -1), {}),
    ("squeeze", (numbers(1, 3, 1), (0, 2)), {}),
    ("expand_dims", (X, 0), {}),
    ("expand_dims", (X, (1, -1)), {}),
    ("atleast_1d", (3.0,), {}),
    ("broadcast_to", (X, (2, 3, 4)), {}),
    ("transpose", (CUBE,), {}),
    ("transpose", (CUBE, (1, -1, 0)), {}),
    ("swapaxes", (CUBE, 0, -1), {}),
    ("moveaxis", (CUBE, 0, -1), {}),
    ("moveaxis", (CUBE, [0, 1], [-1, 0]), {}),
    ("flip", (CUBE,), {}),
    ("flip", (CUBE, 1), {}),
    ("flip", (np.zeros((0, 2), np.float32),), {}),
    ("roll", (X, 2), {}),
    ("roll", (X, -5, 1), {}),
    ("concatenate", ([X, X],), {}),
    ("concatenate", ([X, X], 1), {}),
    ("concatenate", ([X, CUBE], None), {}),
    ("stack", ([X, X], 1), {}),
    ("stack", ([X, X, X],), {"axis": -1}),
    ("vstack", ([X[0], X],), {}),
    ("hstack", ([X, X],), {}),
    ("hstack", ([X[0], X[1]],), {}),
    ("split", (X, 2, 1), {}),
    ("split", (X, [1, 3], -1), {}),
    ("array_split", (X, 3, 1), {}),
    ("array_split", (np.arange(5), [2, 9]), {}),
    ("repeat", (X, 2), {}),
    ("repeat", (X, 3, 1), {}),
    ("tile", (X, 2), {}),
    ("tile", (X, (2, 1, 3)), {}),
    ("pad", (X, 1), {}),
    ("pad", (X, ((0, 1), (2, 0))), {"constant_values": 5}),
    ("matmul", (X, X.T), {}),
    ("matmul", (CUBE, X.T), {}),
    ("matmul", (X[0], X[1]), {}),
    ("matmul", (CUBE, X[0]), {}),
    ("matmul", (numbers(3), CUBE), {}),
    ("dot", (X, X[0]), {}),
    ("dot", (CUBE, numbers(5, 4, 2)), {}),
    ("dot", (X, 2.0), {}),
    ("tensordot", (CUBE, numbers(3, 4, 5)), {}),
    ("tensordot", (CUBE, numbers(5, 2, 3), ([0, 1], [1, 2])), {}),
    ("inner", (X, X), {}),
    ("outer", (X, X), {}),
    ("vdot", (X, X), {}),
    ("where", (X > 0, X, 0.0), {}),
    ("where", (X > 0, 1, 0), {}),
    ("where", (X, 1, 0), {}),
    ("power", (np.array([2, -3, 0, 1]), np.array([3, 2, 0, 5])), {}),
    ("clip", (X, -1, 1), {}),
    ("clip", (X, None, 0.5), {}),
    ("clip", (INTS, -2, 3), {}),
    ("round", (X, 1), {}),
    ("round", (X * 100, -1), {}),
    ("trunc", (X,), {}),
    ("log2", (np.abs(X),), {}),
    ("log10", (np.abs(X),), {}),
    ("hypot", (X, X), {}),
    ("tan", (X / 2,), {}),
    ("sinh", (X,), {}),
    ("cosh", (X,), {}),
    ("cumsum", (X,), {}),
    ("cumsum", (CUBE, 1), {}),
    ("cumsum", (INTS, -1), {}),
    ("column_stack", ([X[:, 0], X],), {}),
    ("meshgrid", (X[0], X[:, 0]), {}),
    ("meshgrid", (X[0], X[:, 0], X[0]), {"indexing": "ij"}),
    ("diff", (X,), {}),
    ("diff", (CUBE, 2, 0), {}),
    ("isinf", (np.array([1, np.inf, -np.inf, np.nan], np.float32),), {}),
    ("isfinite", (np.array([1, np.inf, -np.inf, np.nan], np.float32),), {}),
    ("isfinite", (INTS,), {}),
    ("isnan", (INTS,), {}),
    ("nan_to_num", (np.array([1, np.inf, -np.inf, np.nan], np.float32),), {}),
    ("logical_xor", (INTS, X > 0), {}),
    ("take", (X, np.array([2, 0, -1])), {}),
    ("take", (X, np.array([[2, 0], [1, 1]]), 1), {}),
    ("take", (X, np.array([7, -9]), 1), {"mode": "clip"}),
    ("take", (X, np.array([7, -9]), 1), {"mode": "wrap"}),
    ("isclose", (X, X + np.float32(1e-7)), {}),
    ("isclose", (np.array([np.inf, np.nan, 1]), np.array([np.inf, np.nan, np.inf])), {"equal_nan": True}),
    ("tril", (X,), {}),
    ("triu", (CUBE, 1), {}),
    ("eye", (3, 4, 1), {"dtype": "float32"}),
    ("identity", (3,), {"dtype": "float32"}),
    ("linspace", (0, 1, 7), {"dtype": "float32"}),
    ("linspace", (0, 1, 4, False), {"dtype": "float32"}),
    ("arange", (5,), {}),
    ("arange", (1, 9, 3), {}),
    ("arange", (5, 0, -2), {}),
    ("full", ((2, 3), 7), {}),
    ("full", ((2, 3), np.arange(3)), {}),
    ("full", (2, 2**62 + 1), {}),
    ("zeros", ((2, 3),), {"dtype": "int32"}),
    ("ones_like", (INTS,), {}),
    ("zeros_like", (X,), {}),
    ("full_like", (X, 2), {}),
    ("broadcast_arrays", (X, X[0], 1.0), {}),
]


def name_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def to_arrays(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return mx.np.array(argument)
    if isinstance(argument, list) and any(isinstance(item, np.ndarray) for item in argument):
        return [to_arrays(item) for item in argument]
    return argument


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=name_of)
def test_as_numpy(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    expected = getattr(np, name)(*args, **kwargs)
    result = getattr(mx.np, name)(*(to_arrays(argument) for argument in args), **kwargs)
    many = isinstance(expected, (list, tuple))
    for found, wanted in zip(result if many else [result], expected if many else [expected], strict=True):
        wanted = np.asarray(wanted)
        assert found.shape == wanted.shape
        if wanted.dtype != np.float64:  # float64 is float32 here unless an argument had it
            assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found.asnumpy(), wanted, rtol=2e-6, atol=1e-6)


def leaves(arguments: Any) -> Iterator[np.ndarray[Any, Any]]:
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            yield argument
        elif isinstance(argument, list):
            yield from leaves(argument)


def refill(argument: Any, arrays: Iterator[Any]) -> Any:
    if isinstance(argument, np.ndarray):
        return next(arrays)
    return [refill(item, arrays) for item in argument] if isinstance(argument, list) else argument


@pytest.mark.parametrize(
    ("name", "args", "kwargs"), [call for call in CALLS if list(leaves(call[1]))], ids=name_of
)
def test_traced_as_eager(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    inputs = [mx.np.array(value) for value in leaves(args)]

    def function(*arrays: Any) -> list[Any]:
        remaining = iter(arrays)
        result = getattr(mx.np, name)(*(refill(argument, remaining) for argument in args), **kwargs)
        return list(result) if isinstance(result, (list, tuple)) else [result]

    compiled = _native.trace(function, inputs)
    assert not compiled.captures or name in ("tril", "triu", "dot", "broadcast_arrays", "cumsum"), (
        "no constant may become an input"
    )
    for eager, traced in zip(function(*inputs), compiled(*inputs), strict=True):
        assert (eager.shape, eager.dtype) == (traced.shape, traced.dtype)
        assert eager.asnumpy().tobytes() == traced.asnumpy().tobytes()


ORDERING: list[tuple[str, tuple[Any, ...]]] = [
    ("sort", (CUBE, 1)),
    ("sort", (X, None)),
    ("argsort", (np.array([2, 1, 2, 1]),)),
    ("argsort", (np.array([np.nan, 1, -np.inf]),)),
    ("unique", (INTS % 3,)),
    ("nonzero", (INTS % 3,)),
]


@pytest.mark.parametrize(("name", "args"), ORDERING)
def test_ordering_as_numpy(name: str, args: tuple[Any, ...]) -> None:
    expected = getattr(np, name)(*args, **({"kind": "stable"} if "sort" in name else {}))
    result = getattr(mx.np, name)(*(to_arrays(argument) for argument in args))
    for found, wanted in zip(result, expected, strict=True):
        np.testing.assert_array_equal(found.asnumpy(), wanted)


def test_descending_order_keeps_equal_numbers_in_place() -> None:
    x = mx.np.array([1.0, 3.0, np.nan, 3.0, -np.inf])
    assert mx.np.argsort(x, descending=True).tolist() == [1, 3, 0, 4, 2]
    assert mx.np.sort(x, descending=True).tolist()[:4] == [3.0, 3.0, 1.0, -np.inf]
    assert mx.np.argsort(mx.np.array([2, 7, 2], dtype="uint8"), descending=True).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: mx.np.var(x, axis=1, ddof=1),
        lambda x: mx.np.std(x),
        lambda x: mx.np.repeat(x, 2, axis=1),
        lambda x: mx.np.tile(x, (2, 2)),
        lambda x: mx.np.pad(x, 1, constant_values=2),
        lambda x: mx.np.roll(x, 3),
        lambda x: mx.np.stack([x, x * x], axis=1),
        lambda x: mx.np.split(x, 2, axis=1)[1],
        lambda x: mx.np.tensordot(x, x, ([0], [0])),
        lambda x: mx.np.matmul(x, x[0]),
        lambda x: mx.np.tril(x),
        lambda x: mx.np.flip(x, 0) * x,
        lambda x: x[1:, ::-1] * x[0],
        lambda x: mx.npx.smooth_l1(x),
        lambda x: mx.npx.masked_softmax(x, x > 0),
        lambda x: mx.npx.layer_norm(x, x[:, 0], x[:, 1], axis=0),
        lambda x: mx.npx.log_sigmoid(x),
        lambda x: mx.npx.mish(x),
        lambda x: mx.np.sort(x, axis=0) * x,
        lambda x: mx.np.cumsum(x, axis=1),
        lambda x: mx.np.sinh(x) * mx.np.cosh(x) + mx.np.tan(x / 2),
        lambda x: mx.npx.leaky_relu(x, act_type="elu", slope=0.5),
        lambda x: mx.npx.leaky_relu(x, act_type="selu"),
        lambda x: mx.npx.leaky_relu(x, x[:1] * 0.1, act_type="prelu"),
        lambda x: mx.npx.fully_connected(mx.np.stack([x, x * 2]), x, flatten=False),
        lambda x: mx.np.matmul(mx.np.stack([x, x * 2]), x.T),
        lambda x: mx.npx.activation(x, "softsign"),
        lambda x: mx.npx.softmax(x, temperature=2.0),
    ],
)
def test_composites_are_differentiable(function: Any) -> None:
    check_vjp(function, [mx.np.array(X.astype(np.float64))], epsilon=1e-6, rtol=1e-6, atol=1e-7)


# ------------------------------------------------------------------------------------------- scalars, dtypes


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "bfloat16", "int8", "int64"])
def test_python_numbers_are_weak(dtype: str) -> None:
    x = mx.np.ones(3, dtype=dtype)
    for result in (x + 1, 1 + x, x * 2, 2 - x, mx.np.add(x, 1), mx.np.maximum(1, x), x == 1):
        assert str(result.dtype) in (dtype, "bool")
    if dtype in ("int8", "int64"):
        assert (x * 0.5).dtype == np.float32
        assert (x / 2).dtype == np.float32
    else:
        assert str((0.5 * x).dtype) == str((x / 2).dtype) == dtype


def test_mixed_dtypes_are_promoted() -> None:
    f32, f64, i64, i8, u8 = (
        mx.np.ones((2, 2), dtype=d) for d in ("float32", "float64", "int64", "int8", "uint8")
    )
    assert (f32 + f64).dtype == np.float64
    assert (i64 + f32).dtype == np.float32
    assert (i8 + u8).dtype == np.int16
    assert mx.np.matmul(i64, f32).dtype == np.float32
    assert mx.np.concatenate([i8, i64]).dtype == np.int64
    assert mx.np.stack([f32, f64]).dtype == np.float64


def test_defaults_of_new_arrays() -> None:
    assert mx.np.array([1.5, 2]).dtype == np.float32
    assert mx.np.array([1, 2]).dtype == np.int64
    assert mx.np.array([True]).dtype == np.bool_
    assert mx.np.array(np.ones(2)).dtype == np.float64
    assert mx.np.array([1, 2], dtype="float16").dtype == np.float16
    assert mx.np.array([1.0], dtype=mx.np.bfloat16).dtype == "bfloat16"
    assert mx.np.zeros(2).dtype == np.float32
    assert mx.np.arange(3).dtype == np.int64
    assert mx.np.exp([0.0, 1.0]).dtype == np.float32


def test_new_arrays_share_no_memory() -> None:
    source = np.zeros(3, np.float32)
    first = mx.np.array(source)
    second = mx.np.array(first)
    source[0] = 1
    second[1] = 2
    assert first.tolist() == [0, 0, 0]


def test_methods_are_the_functions() -> None:
    x = mx.np.array(X)
    np.testing.assert_allclose(x.sum(axis=0).asnumpy(), X.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(x.mean().asnumpy(), X.mean(), rtol=1e-6)
    np.testing.assert_array_equal(x.max(1, keepdims=True).asnumpy(), X.max(1, keepdims=True))
    np.testing.assert_array_equal(x.flatten().asnumpy(), X.flatten())
    np.testing.assert_allclose((x @ x.T).asnumpy(), X @ X.T, rtol=1e-5)
    np.testing.assert_array_equal(((x > 0) & (x < 1)).asnumpy(), (X > 0) & (X < 1))
    assert [row.shape for row in x] == [(4,)] * 3


# -------------------------------------------------------------------------------------------------- training


def test_dropout_is_the_identity_outside_training() -> None:
    x = mx.np.ones((50, 50))
    assert mx.npx.dropout(x, 0.5).asnumpy().tobytes() == x.asnumpy().tobytes()
    with autograd.train_mode():
        dropped = mx.npx.dropout(x, 0.5).asnumpy()
        rows = mx.npx.dropout(x, 0.5, axes=(1,)).asnumpy()
    assert set(np.unique(dropped)) == {0.0, 2.0}
    assert (rows == rows[:, :1]).all()
    assert 0 < rows[:, 0].mean() < 2


def test_batch_norm_moves_its_running_statistics_in_training_only() -> None:
    x, gamma, beta = mx.np.array(X), mx.np.ones(4), mx.np.zeros(4)
    mean, variance = mx.np.zeros(4), mx.np.ones(4)
    mx.npx.batch_norm(x, gamma, beta, mean, variance)
    assert mean.tolist() == [0.0] * 4
    with autograd.train_mode():
        y = mx.npx.batch_norm(x, gamma, beta, mean, variance, eps=0.0, momentum=0.75)
    np.testing.assert_allclose(y.asnumpy(), (X - X.mean(0)) / X.std(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean.asnumpy(), 0.25 * X.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance.asnumpy(), 0.75 + 0.25 * X.var(0), rtol=1e-5)
    y = mx.npx.batch_norm(x, gamma, beta, mean, variance, eps=0.0)
    np.testing.assert_allclose(
        y.asnumpy(), (X - mean.asnumpy()) / np.sqrt(variance.asnumpy()), rtol=1e-4, atol=1e-5
    )


def test_sparse_and_dense_embedding_gradients_agree() -> None:
    ids = mx.np.array([[3, 1], [3, 0]])
    gradients = []
    for sparse in (False, True):
        weight = mx.np.array(numbers(5, 3))
        weight.attach_grad()
        with autograd.record():
            loss = mx.np.sum(mx.np.square(mx.npx.embedding(ids, weight, sparse_grad=sparse)))
        loss.backward()
        gradients.append(weight.grad)
    dense, (unique, rows) = gradients
    spread = mx.npx.scatter_rows(mx.np.zeros((5, 3)), unique, rows)
    np.testing.assert_allclose(spread.asnumpy(), dense.asnumpy(), rtol=1e-6)


# ---------------------------------------------------------------------------------------------------- random


def test_random_numbers_follow_the_seed_and_their_distribution() -> None:
    draws = []
    for _ in range(2):
        mx.np.random.seed(11)
        draws.append(
            [
                mx.np.random.uniform(-1, 3, 10000).asnumpy(),
                mx.np.random.normal(2, 0.5, 10000).asnumpy(),
                mx.np.random.bernoulli(0.25, size=10000).asnumpy(),
                mx.np.random.randint(-3, 4, 10000).asnumpy(),
                mx.np.random.exponential(2.0, 10000).asnumpy(),
                mx.np.random.uniform(mx.np.zeros(2), mx.np.array([1.0, 9.0]), (5000, 2)).asnumpy(),
                mx.np.random.permutation(100).asnumpy(),
            ]
        )
    for first, second in zip(*draws, strict=True):
        np.testing.assert_array_equal(first, second)
    uniform, normal, bernoulli, integers, exponential, bounded, order = draws[0]
    assert uniform.min() >= -1
    assert uniform.max() < 3
    np.testing.assert_allclose([uniform.mean(), uniform.std()], [1, 4 / np.sqrt(12)], atol=0.05)
    np.testing.assert_allclose([normal.mean(), normal.std()], [2, 0.5], atol=0.02)
    np.testing.assert_allclose(bernoulli.mean(), 0.25, atol=0.02)
    assert set(integers) == set(range(-3, 4))
    np.testing.assert_allclose(exponential.mean(), 2, atol=0.1)
    np.testing.assert_allclose(bounded.mean(0), [0.5, 4.5], rtol=0.05)
    assert sorted(order) == list(range(100))


def test_every_draw_takes_one_tick() -> None:
    mx.random.seed(3)
    for _ in range(3):
        mx.np.random.uniform(size=5)
    assert mx.random.get_state() == {"seed": 3, "counter": 3}


# --------------------------------------------------------------------------------------------------- symbols


def test_functions_take_symbols() -> None:
    x, w = mx.sym.var("x"), mx.sym.var("w")
    y = mx.np.sum(mx.npx.relu(mx.np.concatenate([mx.np.matmul(x, w), x * 2], axis=1)), axis=-1)
    (value,) = y.eval(x=mx.np.array(X), w=mx.np.array(X.T))
    both = np.concatenate([X @ X.T, 2 * X], axis=1)
    np.testing.assert_allclose(value.asnumpy(), np.maximum(both, 0).sum(-1), rtol=1e-5)


def test_graphs_of_composites_fit_other_batch_sizes() -> None:
    def network(x: Any) -> Any:
        columns = [mx.npx.one_hot(x[:, i].astype("int64"), 3) for i in range(2)]
        hidden = mx.np.concatenate([mx.np.squeeze(mx.np.expand_dims(x, 1), 1), *columns], axis=1)
        return mx.npx.fully_connected(mx.np.stack([hidden, hidden], axis=1), mx.np.ones((5, 16)))

    traced = _native.trace(network, [mx.np.ones((2, 2))])
    for rows in (1, 7):
        graph = traced.graph.retype(
            [
                ((rows, *shape[1:]) if i == 0 else shape, dtype)
                for i, (_, shape, dtype) in enumerate(traced.graph.inputs)
            ]
        )
        assert graph.outputs[0][1] == (rows, 5)


def test_softmax_of_the_first_numbers_of_a_line() -> None:
    x, length = mx.np.array([[1.0, 2.0, 9.0], [0.5, 9.0, 9.0]]), mx.np.array([2, 1])
    e = np.exp([1.0, 2.0])
    expected = np.array([[*(e / e.sum()), 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(mx.npx.softmax(x, length=length).asnumpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(mx.npx.softmax(x.T, axis=0, length=length).asnumpy(), expected.T, rtol=1e-6)
    with np.errstate(divide="ignore"):
        logarithms = np.log(expected)
    np.testing.assert_allclose(
        mx.npx.log_softmax(x, length=length).asnumpy(), logarithms, rtol=1e-5, atol=1e-7
    )


def test_programs_over_more_memory_than_caches_hold():
    random = np.random.default_rng(0)
    values = [random.standard_normal(3_000_017, dtype="float32") for _ in range(3)]
    arrays = [mx.np.array(value) for value in values]
    compiled = mx._native.trace(lambda a, b, c: (a * b + c, a - c), arrays).compile()
    found = [result.asnumpy() for result in compiled(*arrays)]
    a, b, c = values
    np.testing.assert_array_equal(found[0], a * b + c)
    np.testing.assert_array_equal(found[1], a - c)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("axis", [1, -1])
def test_batch_norm_of_images_larger_than_the_caches(dtype: str, axis: int) -> None:
    # Copies of the same images have the statistics of one, and every copy gets its result and gradient.
    shape = (2, 64, 12, 12) if axis == 1 else (2, 12, 12, 64)
    copies = 180 if dtype == "float32" else 350  # 13 MB: results pass the caches by
    x, residual, g = (mx.np.array(numbers(*shape, seed=seed), dtype=dtype) for seed in range(3))
    gamma, beta = mx.np.array(numbers(64, seed=3)), mx.np.array(numbers(64, seed=4))
    attributes = {"axis": axis % 4, "activation": "relu"}

    def both(times: int) -> list[Any]:
        image, other, head = (mx.np.concatenate([each] * times) for each in (x, residual, g))
        forward = _native.invoke("batch_norm", [image, gamma, beta, other], attributes)
        inputs = [head, image, gamma, forward[1], forward[2], beta, forward[0]]
        backward = _native.invoke("batch_norm_backward", inputs, attributes)
        return [each[-2:].astype("float32").asnumpy() for each in (forward[0], backward[0], backward[3])]

    for large, small in zip(both(copies), both(1), strict=True):
        np.testing.assert_allclose(large, small, atol=1e-4 if dtype == "float32" else 3e-2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "out"), [(64, 256), (256, 64), (256, 128), (128, 256)])
def test_weight_gradients_of_1x1_convolutions(channels: int, out: int, stride: int) -> None:
    x, g = numbers(2, 8, 8, channels), numbers(2, 8 // stride, 8 // stride, out, seed=1)
    attributes = {"kernel": [1, 1], "stride": [stride, stride], "layout": "NHWC"}
    result = _native.invoke("convolution_backward_weights", [mx.np.array(x), mx.np.array(g)], attributes)
    expected = np.einsum("nhwo,nhwc->oc", g, x[:, ::stride, ::stride])
    np.testing.assert_allclose(result.asnumpy()[:, :, 0, 0], expected, rtol=1e-4, atol=1e-4)
