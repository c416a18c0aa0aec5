"""What rows of cases.py are made of: how inputs are drawn, and makers of rows of a common kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    result: tuple[Callable[[str], str], ...] | None = None  # dtypes of the results, if not the row's


def call(
    *inputs: Spec,
    smooth: bool = True,
    result: tuple[Callable[[str], str], ...] | None = None,
    **attributes: Any,
) -> Variant:
    return Variant(inputs, attributes, smooth, result)


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
