"""One row an op: inputs, reference, tolerances. The rows drive every test of this folder.

A row's variants say what the op is called with. Inputs are drawn by specifications (`real`, `ids`, ...):
those of `real` take the dtype under test, the others have their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import references as ref
from numpy.typing import NDArray
from scipy import special

Values = NDArray[np.generic]
Shape = tuple[int, ...]

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int32", "int64", "int8", "uint8", "int16", "uint16", "uint32", "uint64")
NUMBERS = (*FLOATS, *INTEGERS)
ALL = (*NUMBERS, "bool")

# Relative and absolute; the narrow types are computed in float32 and rounded once.
TOLERANCES = {
    "float64": (1e-12, 1e-13),
    "float32": (2e-6, 1e-6),
    "float16": (1e-3, 1e-4),
    "bfloat16": (8e-3, 1e-3),
}


# --------------------------------------------------------------------------------------------------- inputs


@dataclass(frozen=True)
class Spec:
    """How an input is drawn."""

    draw: Callable[[np.random.Generator, str], Values]
    typed: bool = False  # takes the dtype under test


def real(*shape: int, low: float = -2.0, high: float = 2.0) -> Spec:
    def draw(random: np.random.Generator, dtype: str) -> Values:
        if dtype == "bool":
            return random.integers(0, 2, shape).astype(bool)
        if dtype in INTEGERS:
            least = max(0 if dtype.startswith("u") else -5, round(low * 3))
            return random.integers(least, max(round(high * 3), least + 1), shape).astype(dtype)
        return random.uniform(low, high, shape)

    return Spec(draw, typed=True)


def fixed(values: Sequence[Any], dtype: str) -> Spec:
    return Spec(lambda random, _: np.array(values, dtype=dtype))


def special_floats() -> Spec:
    """Infinities, NaN and both zeros, for floating dtypes; small integers otherwise."""
    floats = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, -1.5, 100.0]
    return Spec(
        lambda _, dtype: (
            np.array(floats) if dtype in FLOATS else np.array([0, 1, 3, 1, 0, 2, 5, 7], dtype=dtype)
        ),
        typed=True,
    )


def ids(*shape: int, below: int, low: int = 0, dtype: str = "int64") -> Spec:
    return Spec(lambda random, _: random.integers(low, below, shape).astype(dtype))


def truths(*shape: int) -> Spec:
    return Spec(lambda random, _: random.integers(0, 2, shape).astype(bool))


def unique_ids(count: int, below: int, unused: int) -> Spec:
    """Ascending, `unused` of them -1 at the end."""

    def draw(random: np.random.Generator, _: str) -> Values:
        chosen = np.sort(random.choice(below, count - unused, replace=False))
        return np.concatenate([chosen, np.full(unused, -1)]).astype("int64")

    return Spec(draw)


def statistics(*shape: int, low: float = 0.5, high: float = 1.5) -> Spec:
    """float32, or float64 where that is tested: what norms give beside their result."""
    return Spec(lambda random, dtype: random.uniform(low, high, shape).astype(compute(dtype)))


KEY = fixed([2**63 + 12345, 2**32 + 7], "uint64")


# ----------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Variant:
    inputs: tuple[Spec, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    smooth: bool = True  # differentiable where the inputs lie, so that gradients are checked


def call(*inputs: Spec, smooth: bool = True, **attributes: Any) -> Variant:
    return Variant(inputs, attributes, smooth)


def same(dtype: str) -> str:
    return dtype


def always(dtype: str) -> Callable[[str], str]:
    return lambda _: dtype


def floating(dtype: str) -> str:
    return dtype if dtype in FLOATS else "float32"


def compute(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"


def accumulated(dtype: str) -> str:
    if dtype in FLOATS:
        return dtype
    return "uint64" if dtype.startswith("u") else "int64"


@dataclass(frozen=True)
class Row:
    op: str
    reference: Callable[..., Any]
    variants: tuple[Variant, ...]
    dtypes: tuple[str, ...] = FLOATS
    result: Callable[[str], str] | tuple[Callable[[str], str], ...] = same
    exact: bool = False  # the reference takes integers as they are; else as float64
    loose: float = 1.0  # factor on the tolerances: sums of many terms
    second_order: bool = False
    differentiated: tuple[int, ...] | None = None  # outputs that gradients are asked of; None for all
    precision: str | None = None  # dtype whose tolerances hold; None for that of the result


SHAPES: tuple[Shape, ...] = ((3, 5), (), (0, 4), (1,), (130,), (2, 3, 17))
PAIRS: tuple[tuple[Shape, Shape], ...] = (
    ((3, 5), (3, 5)),
    ((), ()),
    ((4, 1, 5), (3, 1)),
    ((2, 3), ()),
    ((0, 3), (1, 3)),
    ((1, 67), (5, 1)),
)


def unary(
    op: str, reference: Callable[..., Any], low: float = -2.0, high: float = 2.0, **options: Any
) -> Row:
    """A row of an elementwise op of one array, over many shapes and the special floats."""
    attributes = options.pop("attributes", [{}])
    variants = [call(real(*shape, low=low, high=high), **a) for shape, a in product(SHAPES, attributes)]
    variants += [call(special_floats(), smooth=False, **a) for a in attributes]
    return Row(op, reference, tuple(variants), **options)


def binary(
    op: str,
    reference: Callable[..., Any],
    low: tuple[float, float] = (-2.0, -2.0),
    high: tuple[float, float] = (2.0, 2.0),
    **options: Any,
) -> Row:
    """A row of an elementwise op of two arrays, over many pairs of broadcasting shapes."""
    variants = tuple(
        call(real(*a, low=low[0], high=high[0]), real(*b, low=low[1], high=high[1])) for a, b in PAIRS
    )
    return Row(op, reference, variants, **options)


def reduction(op: str, reference: Callable[..., Any], empty: bool = True, **options: Any) -> Row:
    """A row of a reduction, over many shapes and axes."""
    shapes: list[tuple[Shape, list[int]]] = [
        ((3, 5), [1]),
        ((3, 5), [0]),
        ((3, 5), [0, 1]),
        ((2, 3, 4, 5), [1, 3]),
        ((2, 3, 4), [0, 2]),
        ((), []),
        ((3, 4), []),
        ((1, 257), [1]),
        ((257, 3), [0]),
        ((0, 4), [1]),
    ]
    if empty:
        shapes.append(((4, 0), [1]))

    def compute_reference(x: Values, axis: list[int], keepdims: bool = False) -> Values:
        return reference(x, axis=tuple(axis), keepdims=keepdims) if axis else reference(x[None], axis=(0,))

    variants = tuple(
        call(real(*shape), axis=axis, keepdims=k) for shape, axis in shapes for k in (False, True)
    )
    return Row(op, compute_reference, variants, **options)


def softmax_like(op: str, reference: Callable[..., Any]) -> Row:
    return Row(
        op,
        reference,
        (
            call(real(4, 7), axis=-1),
            call(real(4, 7, low=-80, high=80), axis=1, smooth=False),
            call(real(3, 4, 5), axis=1),
            call(real(6), axis=0),
            call(real(0, 3), axis=1),
            call(real(2, 1), axis=1),
        ),
        loose=4,
        second_order=True,
    )


def softmax_backward_like(op: str, reference: Callable[..., Any], positive: bool) -> Row:
    low, high = (0.05, 0.5) if positive else (-2.0, -0.1)
    return Row(
        op,
        reference,
        tuple(
            call(real(*shape), real(*shape, low=low, high=high), axis=axis)
            for shape, axis in (((4, 7), -1), ((3, 4, 5), 1), ((0, 3), 1))
        ),
        loose=8,
        second_order=True,
    )


def truth_of(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *inputs: function(*(x != 0 for x in inputs))


WHOLE = 2**63 - 1  # the end of a slice that takes a whole axis

ROWS: list[Row] = [
    # ------------------------------------------------------------------------------------------- one array
    unary("negative", np.negative, dtypes=NUMBERS, exact=True, second_order=True),
    unary("abs", np.abs, dtypes=NUMBERS, exact=True),
    unary("sign", np.sign, dtypes=NUMBERS, exact=True),
    unary("square", np.square, dtypes=NUMBERS, exact=True, second_order=True),
    unary("floor", np.floor, dtypes=NUMBERS, exact=True),
    unary("ceil", np.ceil, dtypes=NUMBERS, exact=True),
    unary("round", np.rint, dtypes=FLOATS),
    unary(
        "reciprocal", np.reciprocal, low=0.5, dtypes=("int32", *FLOATS), result=floating, second_order=True
    ),
    unary("sqrt", np.sqrt, low=0.5, dtypes=("int32", *FLOATS), result=floating, second_order=True),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), low=0.5, result=floating, second_order=True, loose=2),
    unary("exp", np.exp, dtypes=("int8", "bool", *FLOATS), result=floating, second_order=True),
    unary("expm1", np.expm1, result=floating, second_order=True),
    unary("log", np.log, low=0.5, dtypes=("uint8", *FLOATS), result=floating, second_order=True),
    unary("log1p", np.log1p, low=-0.5, result=floating, second_order=True),
    unary("sin", np.sin, low=-9, high=9, result=floating, second_order=True),
    unary("cos", np.cos, low=-9, high=9, result=floating, second_order=True),
    unary("tanh", np.tanh, dtypes=("int64", *FLOATS), result=floating, second_order=True),
    unary("erf", special.erf, result=floating, second_order=True),
    unary("sigmoid", special.expit, low=-9, high=9, result=floating, second_order=True),
    unary("softplus", lambda x: np.logaddexp(x, 0), low=-9, high=9, result=floating, second_order=True),
    unary("relu", lambda x: np.maximum(x, 0), dtypes=NUMBERS, exact=True),
    unary("silu", lambda x: x * special.expit(x), result=floating, second_order=True, loose=2),
    unary(
        "gelu",
        ref.gelu,
        result=floating,
        second_order=True,
        loose=4,
        attributes=[{"approximate": False}, {"approximate": True}],
    ),
    unary(
        "leaky_relu",
        lambda x, slope=0.25: np.where(x > 0, x, slope * x),
        result=floating,
        attributes=[{}, {"slope": 0.1}],
    ),
    unary("is_nan", np.isnan, dtypes=ALL, result=always("bool")),
    unary("logical_not", truth_of(np.logical_not), dtypes=ALL, result=always("bool")),
    unary(
        "clip",
        lambda x, a_min=-np.inf, a_max=np.inf: np.clip(x, a_min, a_max),
        dtypes=("int32", "uint8", *FLOATS),
        attributes=[{"a_min": -1.0, "a_max": 1.0}, {"a_min": 0.0}, {"a_max": 1.0}, {}],
    ),
    # ------------------------------------------------------------------------------------------ two arrays
    binary("add", np.add, dtypes=ALL, exact=True, second_order=True),
    binary("subtract", np.subtract, dtypes=NUMBERS, exact=True, second_order=True),
    binary("multiply", np.multiply, dtypes=ALL, exact=True, second_order=True),
    binary(
        "divide",
        np.divide,
        low=(-2.0, 0.5),
        dtypes=("int32", "int64", "uint8", *FLOATS),
        result=floating,
        second_order=True,
    ),
    binary("power", np.power, low=(0.5, -2.0), second_order=True, loose=4),
    binary("maximum", np.maximum, dtypes=ALL, exact=True),
    binary("minimum", np.minimum, dtypes=ALL, exact=True),
    binary(
        "mod",
        ref.floor_mod,
        low=(-9, 0.75),
        high=(9, 1.0),
        dtypes=("int32", "int64", "uint8", *FLOATS),
        exact=True,
    ),
    binary(
        "floor_divide",
        ref.floor_divide,
        low=(-9, 0.75),
        high=(9, 1.0),
        dtypes=("int32", "int64", "uint8", *FLOATS),
        exact=True,
    ),
    *(
        binary(name, getattr(np, name), dtypes=ALL, exact=True, result=always("bool"))
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    ),
    *(
        binary(name, truth_of(getattr(np, name)), dtypes=ALL, exact=True, result=always("bool"))
        for name in ("logical_and", "logical_or")
    ),
    binary("multiply_if_positive", lambda g, x: np.where(x > 0, g, 0)),
    Row(
        "where",
        np.where,
        (
            call(truths(3, 5), real(3, 5), real(3, 5)),
            call(truths(3, 1), real(5), real(2, 1, 1)),
            call(truths(), real(4), real()),
            call(ids(4, below=3), real(4), real(4)),
            call(truths(0, 2), real(0, 2), real(2)),
        ),
        dtypes=ALL,
        exact=True,
    ),
    # --------------------------------------------------------------------------------- conversion, constants
    Row(
        "cast",
        ref.cast,
        tuple(
            call(real(3, 70, low=-9, high=9), dtype=to, smooth=to == "float64")
            for to in ("float64", "float32", "int32", "int64", "int8", "bool", "int16")
        ),
        dtypes=("float32", "float64", "float16", "bfloat16", "int32", "int64", "int8", "bool", "uint8"),
        result=lambda dtype: "attribute",
        exact=True,
    ),
    Row(
        "broadcast_to",
        lambda x, shape: np.broadcast_to(x, shape),
        (
            call(real(3, 1), shape=[2, 3, 4]),
            call(real(), shape=[5]),
            call(real(1, 4), shape=[0, 4]),
            call(real(4), shape=[4]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "full",
        lambda shape, value, dtype="float32": ref.cast(np.full(shape, value), dtype),
        tuple(
            call(shape=shape, value=value, dtype=dtype)
            for shape in ([3, 4], [], [0, 2])
            for value, dtype in (
                (1.5, "float32"),
                (-3.0, "int64"),
                (1.0, "bool"),
                (0.1, "float64"),
                (2.5, "bfloat16"),
            )
        ),
        dtypes=("float32",),
        result=lambda dtype: "attribute",
    ),
    # --------------------------------------------------------------------------------------------- reductions
    reduction("sum", np.sum, dtypes=ALL, result=accumulated, exact=True, loose=20, second_order=True),
    reduction("mean", np.mean, empty=False, loose=20, second_order=True),
    reduction("prod", np.prod, dtypes=("int32", "bool", *FLOATS), result=accumulated, exact=True, loose=20),
    reduction("max", np.max, empty=False, dtypes=ALL, exact=True),
    reduction("min", np.min, empty=False, dtypes=ALL, exact=True),
    *(
        Row(
            name,
            getattr(np, name),
            tuple(
                call(real(*shape), axis=axis, keepdims=k)
                for shape, axis in (
                    ((3, 5), 1),
                    ((3, 5), 0),
                    ((2, 3, 4), -2),
                    ((7,), 0),
                    ((0, 3), 1),
                    ((2, 300), 1),
                )
                for k in (False, True)
            ),
            dtypes=ALL,
            result=always("int64"),
            exact=True,
        )
        for name in ("argmax", "argmin")
    ),
    # -------------------------------------------------------------------------------------------------- shape
    Row(
        "reshape",
        lambda x, shape: x.reshape([x.shape[i] if n == -2 else n for i, n in enumerate(shape)]),
        (
            call(real(3, 4), shape=[2, 6]),
            call(real(3, 4), shape=[-1]),
            call(real(2, 3, 4), shape=[-2, -1]),
            call(real(1), shape=[]),
            call(real(0, 3), shape=[3, 0]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "transpose",
        lambda x, axes: x.transpose(axes),
        (
            call(real(3, 4), axes=[1, 0]),
            call(real(2, 3, 4), axes=[2, 0, 1]),
            call(real(2, 3, 4), axes=[0, 2, 1]),
            call(real(5), axes=[0]),
            call(real(), axes=[]),
            call(real(0, 3), axes=[1, 0]),
            call(real(2, 3, 4, 5), axes=[3, 1, 2, 0]),
            call(real(70, 65), axes=[1, 0]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "concatenate",
        lambda *arrays, axis=0: np.concatenate(arrays, axis),
        (
            call(real(2, 3), real(4, 3), axis=0),
            call(real(2, 3), real(2, 1), real(2, 5), axis=1),
            call(real(2, 3, 4), real(2, 3, 4), axis=-2),
            call(real(3), axis=0),
            call(real(0, 3), real(2, 3), axis=0),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "slice",
        lambda x, begin, end, step: x[ref.region(begin, end, step)],
        (
            call(real(5, 6), begin=[1, 0], end=[4, WHOLE], step=[1, 1]),
            call(real(5, 6), begin=[0, 5], end=[WHOLE, -1], step=[2, -2]),
            call(real(7), begin=[6], end=[-1], step=[-1]),
            call(real(4, 3, 2), begin=[0, 1, 0], end=[WHOLE, 2, WHOLE], step=[1, 1, 1]),
            call(real(4), begin=[2], end=[2], step=[1]),
            call(real(), begin=[], end=[], step=[]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "slice_scatter",
        ref.slice_scatter,
        (
            call(real(3, 6), shape=[5, 6], begin=[1, 0], end=[4, WHOLE], step=[1, 1]),
            call(real(3, 3), shape=[5, 6], begin=[0, 5], end=[WHOLE, -1], step=[2, -2]),
            call(real(0), shape=[4], begin=[2], end=[2], step=[1]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "slice_assign",
        ref.slice_assign,
        (
            call(real(5, 6), real(3, 6), begin=[1, 0], end=[4, WHOLE], step=[1, 1]),
            call(real(5, 6), real(3, 3), begin=[0, 5], end=[WHOLE, -1], step=[2, -2]),
            call(real(4), real(0), begin=[2], end=[2], step=[1]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    # -------------------------------------------------------------------------------------------------- index
    Row(
        "take",
        lambda a, indices, axis=0: np.take(a, indices, axis),
        (
            call(real(5, 3), ids(4, low=-5, below=5), axis=0),
            call(real(5, 3), ids(2, 2, low=-3, below=3, dtype="int32"), axis=1),
            call(real(2, 3, 4), ids(below=3), axis=-2),
            call(real(5, 3), ids(0, below=5), axis=0),
            call(real(9), ids(40, below=9), axis=0),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "take_grad",
        ref.take_grad,
        (
            call(ids(4, low=-5, below=5), real(4, 3), shape=[5, 3], axis=0),
            call(ids(2, 2, below=3, dtype="int32"), real(5, 2, 2), shape=[5, 3], axis=1),
            call(ids(0, below=5), real(0, 3), shape=[5, 3], axis=0),
        ),
        loose=4,
        second_order=True,
    ),
    Row(
        "pick",
        ref.pick,
        (
            call(real(4, 5), ids(4, low=-5, below=5), axis=-1),
            call(real(4, 5), ids(1, 5, below=4, dtype="int32"), axis=0, keepdims=True),
            call(real(2, 3, 4), ids(2, 4, below=3), axis=1),
            call(real(0, 3), ids(0, below=3), axis=1),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "pick_grad",
        ref.pick_grad,
        (
            call(ids(4, low=-5, below=5), real(4), shape=[4, 5], axis=-1),
            call(ids(5, below=4), real(1, 5), shape=[4, 5], axis=0, keepdims=True),
            call(ids(2, 4, below=3), real(2, 4), shape=[2, 3, 4], axis=1),
        ),
        second_order=True,
    ),
    Row(
        "one_hot",
        ref.one_hot,
        tuple(
            call(ids(*shape, low=-1, below=6, dtype=kind), depth=5, dtype=to)
            for shape, kind, to in (
                ((4,), "int64", "float32"),
                ((2, 3), "int32", "int64"),
                ((), "int64", "bool"),
            )
        ),
        dtypes=("float32",),
        result=lambda dtype: "attribute",
    ),
    Row(
        "embedding",
        lambda weight, indices: weight[indices],
        (
            call(real(6, 3), ids(4, below=6)),
            call(real(6, 3), ids(2, 5, below=6, dtype="int32")),
            call(real(6, 1), ids(below=6)),
            call(real(6, 33), ids(0, below=6)),
        ),
        exact=True,
        second_order=True,
    ),
    Row(
        "embedding_grad",
        ref.embedding_grad,
        (
            call(ids(9, below=6), real(9, 3), rows=6),
            call(ids(2, 5, below=3, dtype="int32"), real(2, 5, 17), rows=6),
            call(ids(0, below=6), real(0, 3), rows=6),
        ),
        loose=4,
        second_order=True,
    ),
    # ------------------------------------------------------------------------------------------------- sparse
    Row(
        "unique_rows",
        ref.unique_rows,
        (
            call(ids(9, low=-1, below=5), real(9, 3)),
            call(ids(1, below=5), real(1, 20)),
            call(ids(0, below=5), real(0, 3)),
            call(ids(6, low=-1, below=0), real(6, 3)),
            call(ids(400, low=-1, below=50), real(400, 2)),
        ),
        dtypes=("float32", "float64", "bfloat16", "float16"),
        result=(always("int64"), same),
        loose=20,
    ),
    Row(
        "take_rows",
        ref.take_rows,
        (
            call(real(6, 3), ids(4, low=-1, below=6)),
            call(real(6, 2, 3), ids(4, low=-1, below=6, dtype="int32")),
            call(real(6), ids(3, low=-1, below=6)),
            call(real(6, 3), ids(0, below=6)),
        ),
        exact=True,
        second_order=True,
    ),
    Row(
        "scatter_rows",
        ref.scatter_rows,
        (
            call(real(6, 3), unique_ids(4, 6, unused=1), real(4, 3)),
            call(real(6, 2, 3), unique_ids(2, 6, unused=0), real(2, 2, 3)),
            call(real(6, 3), unique_ids(0, 6, unused=0), real(0, 3)),
        ),
        exact=True,
        second_order=True,
    ),
    Row(
        "row_sparse_to_dense",
        ref.row_sparse_to_dense,
        (
            call(ids(9, low=-1, below=6), real(9, 3), rows=6),
            call(ids(3, below=6, dtype="int32"), real(3, 2, 3), rows=6),
            call(ids(0, below=6), real(0, 3), rows=6),
        ),
        loose=4,
        second_order=True,
    ),
    # ----------------------------------------------------------------------------------------------- matrices
    Row(
        "matmul",
        ref.matmul,
        (
            call(real(3, 4), real(4, 5)),
            call(real(4, 3), real(4, 5), transpose_a=True),
            call(real(3, 4), real(5, 4), transpose_b=True),
            call(real(4, 3), real(5, 4), transpose_a=True, transpose_b=True),
            call(real(2, 3, 4), real(4, 5)),
            call(real(3, 4), real(2, 4, 5)),
            call(real(2, 1, 3, 4), real(3, 4, 5)),
            call(real(2, 4, 3), real(2, 5, 4), transpose_a=True, transpose_b=True),
            call(real(0, 4), real(4, 5)),
            call(real(3, 0), real(0, 5)),
            call(real(1, 65), real(65, 1)),
        ),
        dtypes=("int32", "int64", "uint8", *FLOATS),
        exact=True,
        loose=20,
        second_order=True,
    ),
    Row(
        "fully_connected",
        ref.fully_connected,
        (
            call(real(3, 4), real(5, 4), real(5)),
            call(real(3, 4), real(5, 4)),
            call(real(3, 4), real(5, 4), real(5), activation="relu"),
            call(real(0, 4), real(5, 4), real(5)),
            call(real(1, 70), real(1, 70), real(1)),
        ),
        loose=20,
        second_order=True,
    ),
    # ----------------------------------------------------------------------------------------------- networks
    softmax_like("softmax", special.softmax),
    softmax_like("log_softmax", special.log_softmax),
    softmax_backward_like("softmax_backward", ref.softmax_backward, positive=True),
    softmax_backward_like("log_softmax_backward", ref.log_softmax_backward, positive=False),
    Row(
        "softmax_cross_entropy",
        ref.softmax_cross_entropy,
        (
            call(real(4, 7), ids(4, below=7)),
            call(real(5, 2), ids(5, below=2, dtype="int32")),
            call(real(0, 3), ids(0, below=3)),
        ),
        result=compute,
        loose=4,
        second_order=True,
    ),
    Row(
        "softmax_cross_entropy_backward",
        ref.softmax_cross_entropy_backward,
        (call(statistics(4), real(4, 7), ids(4, below=7)), call(statistics(0), real(0, 3), ids(0, below=3))),
        loose=4,
        second_order=True,
    ),
    Row(
        "layer_norm",
        ref.layer_norm,
        (
            call(real(4, 8), real(8), real(8)),
            call(real(2, 3, 17), real(17), real(17), eps=0.1),
            call(real(0, 5), real(5), real(5)),
            call(real(9), statistics(9), statistics(9)),
        ),
        result=(same, compute, compute),
        loose=8,
        differentiated=(0,),
    ),
    Row(
        "layer_norm_backward",
        ref.layer_norm_backward,
        (
            call(real(4, 8), real(4, 8), real(8), statistics(4), statistics(4)),
            call(real(2, 3, 17), real(2, 3, 17), real(17), statistics(2, 3), statistics(2, 3)),
        ),
        loose=40,
    ),
    Row(
        "batch_norm",
        ref.batch_norm,
        (
            call(real(6, 4), real(4), real(4)),
            call(real(6, 4, 3, 2), real(4), real(4), axis=1, eps=0.1),
            call(real(5, 3, 4), real(4), real(4), axis=-1),
            call(real(6, 4), statistics(4), statistics(4), axis=1),
        ),
        result=(same, compute, compute),
        loose=8,
        differentiated=(0,),
    ),
    Row(
        "batch_norm_backward",
        ref.batch_norm_backward,
        (
            call(real(6, 4), real(6, 4), real(4), statistics(4), statistics(4)),
            call(real(2, 4, 3), real(2, 4, 3), real(4), statistics(4), statistics(4), axis=1, eps=0.1),
        ),
        loose=40,
    ),
    Row("stop_gradient", lambda x: x, (call(real(3, 4)), call(real(0))), dtypes=ALL, exact=True),
    # ------------------------------------------------------------------------------------------------- random
    Row(
        "dropout",
        ref.dropout,
        tuple(
            call(real(*shape), KEY, p=p, offset=o)
            for shape in ((3, 50), (), (0, 2), (700,))
            for p, o in ((0.3, 0), (0.0, 1), (1.0, 2))
        ),
        second_order=True,
        loose=2,
    ),
    Row(
        "random_uniform",
        ref.uniform,
        tuple(
            call(KEY, shape=shape, low=low, high=high, dtype=to, offset=offset)
            for shape, low, high, to, offset in (
                ([3, 50], 0.0, 1.0, "float32", 0),
                ([], -1.0, 3.0, "float32", 1),
                ([1000], -1.0, 3.0, "float64", 5),
                ([65], 2.0, 4.0, "bfloat16", 0),
                ([0, 3], 0.0, 1.0, "float16", 0),
            )
        ),
        dtypes=("float32",),
        result=lambda dtype: "attribute",
        loose=2,
    ),
    Row(
        "random_bernoulli",
        ref.bernoulli,
        tuple(
            call(KEY, shape=[3, 99], p=p, dtype=to, offset=1)
            for p, to in ((0.3, "float32"), (0.0, "bool"), (1.0, "int32"), (0.5, "bfloat16"))
        ),
        dtypes=("float32",),
        result=lambda dtype: "attribute",
    ),
    Row(
        "random_normal",
        ref.normal,
        tuple(
            call(KEY, shape=shape, loc=loc, scale=scale, dtype=to, offset=offset)
            for shape, loc, scale, to, offset in (
                ([3, 50], 0.0, 1.0, "float32", 0),
                ([], -1.0, 3.0, "float32", 1),
                ([1000], -1.0, 3.0, "float64", 5),
                ([65], 2.0, 4.0, "bfloat16", 0),
                ([0, 3], 0.0, 1.0, "float16", 0),
            )
        ),
        dtypes=("float32",),
        result=lambda dtype: "attribute",
        precision="float16",  # drawn in float32; here also compared in bfloat16
        loose=8,
    ),
]

BY_OP = {row.op: row for row in ROWS}


# -------------------------------------------------------------------------------------------------- drawing


def draw(variant: Variant, dtype: str, seed: int = 0) -> list[Values]:
    """The NumPy inputs of one variant; those under test rounded to the dtype (bfloat16 as float32)."""
    random = np.random.default_rng(seed)
    values = [(spec.draw(random, dtype), spec.typed) for spec in variant.inputs]
    return [round_to(array, dtype) if typed else array for array, typed in values]


def round_to(values: Values, dtype: str) -> Values:
    if dtype != "bfloat16":
        return values.astype(dtype)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    floats = rounded.view(np.float32).reshape(values.shape)
    return np.where(np.isfinite(values), floats, values).astype(np.float32)


def combinations() -> Iterator[tuple[Row, str]]:
    for row in ROWS:
        for dtype in row.dtypes:
            yield row, dtype
