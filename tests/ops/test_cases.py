"""Runs the rows of cases.py: values, gradients, second order, compiled against eager, instruction sets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import BY_OP, ROWS, combinations
from rows import FLOATS, TOLERANCES, Row, Values, Variant, draw

import mxpipe as mx
from mxpipe import _native, autograd
from mxpipe.testing import check_vjp

SCHEMAS = {schema["name"]: schema for schema in _native.op_schemas()}
DIFFERENTIABLE = [row for row in ROWS if SCHEMAS[row.op]["differentiable"]]
CALLS = [pytest.param(row, dtype, id=f"{row.op}-{dtype}") for row, dtype in combinations()]


def by_op(rows: list[Row]) -> list[Any]:
    return [pytest.param(row, id=row.op) for row in rows]


# -------------------------------------------------------------------------------------------------- helpers


def to_arrays(variant: Variant, values: list[Values], dtype: str) -> list[mx.np.ndarray]:
    pairs = zip(variant.inputs, values, strict=True)
    return [mx.np.array(value, dtype=dtype if spec.typed else None) for spec, value in pairs]


def invoke(row: Row, variant: Variant, arrays: list[Any]) -> tuple[mx.np.ndarray, ...]:
    result = _native.invoke(row.op, arrays, variant.attributes)
    return result if isinstance(result, tuple) else (result,)


def expected(row: Row, variant: Variant, values: list[Values]) -> tuple[Values, ...]:
    def widen(value: Values) -> Values:
        wide = value.dtype.kind == "f" or (not row.exact and value.dtype.kind in "iub")
        return value.astype(np.float64) if wide else value

    typed = [
        spec.typed or value.dtype.kind == "f" for spec, value in zip(variant.inputs, values, strict=True)
    ]
    inputs = [widen(value) if t else value for value, t in zip(values, typed, strict=True)]
    with np.errstate(all="ignore"):
        result = row.reference(*inputs, **variant.attributes)
    return result if isinstance(result, tuple) else (np.asarray(result),)


def result_dtypes(row: Row, variant: Variant, dtype: str, count: int) -> list[str]:
    of_row = row.result if isinstance(row.result, tuple) else (row.result,) * count
    rules = variant.result or of_row
    return [variant.attributes["dtype"] if rule(dtype) == "attribute" else rule(dtype) for rule in rules]


def assert_close(row: Row, actual: mx.np.ndarray, desired: Values, dtype: str) -> None:
    assert str(actual.dtype) == dtype
    found = actual.asnumpy()
    assert found.shape == desired.shape
    with np.errstate(over="ignore", invalid="ignore"):
        desired = desired.astype(found.dtype)
    if dtype not in FLOATS:
        np.testing.assert_array_equal(found, desired)
        return
    rtol, atol = (row.loose * tolerance for tolerance in TOLERANCES[row.precision or dtype])
    np.testing.assert_allclose(found.astype(float), desired.astype(float), rtol=rtol, atol=atol)


# --------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(("row", "dtype"), CALLS)
def test_forward(row: Row, dtype: str) -> None:
    for seed, variant in enumerate(row.variants):
        values = draw(variant, dtype, seed)
        results = invoke(row, variant, to_arrays(variant, values, dtype))
        references = expected(row, variant, values)
        assert len(results) == len(references)
        dtypes = result_dtypes(row, variant, dtype, len(results))
        for result, reference, kind in zip(results, references, dtypes, strict=True):
            assert_close(row, result, reference, kind)


@pytest.mark.parametrize("row", by_op(ROWS))
def test_compiled_gives_the_same_bytes_as_eager(row: Row) -> None:
    for seed, variant in enumerate(row.variants):
        arrays = to_arrays(variant, draw(variant, row.dtypes[0], seed), row.dtypes[0])
        compiled = _native.trace(lambda *inputs, v=variant: invoke(row, v, list(inputs)), arrays)
        for eager, traced in zip(invoke(row, variant, arrays), compiled(*arrays), strict=True):
            assert eager.asnumpy().tobytes() == traced.asnumpy().tobytes()
            assert (eager.shape, eager.dtype) == (traced.shape, traced.dtype)


@pytest.mark.parametrize("row", by_op(ROWS))
def test_numpy_inputs_of_any_layout(row: Row) -> None:
    variant = row.variants[0]
    values = draw(variant, "float32")
    layouts: list[Callable[[Values], Values]] = [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,  # strided
        lambda x: np.flip(np.ascontiguousarray(np.flip(x))),  # negative strides
    ]
    for layout in layouts:
        for plain, other in zip(
            invoke(row, variant, values), invoke(row, variant, [layout(x) for x in values]), strict=True
        ):
            np.testing.assert_array_equal(plain.asnumpy(), other.asnumpy())


# ------------------------------------------------------------------------------------------------ gradients


def head(row: Row, results: tuple[mx.np.ndarray, ...]) -> tuple[mx.np.ndarray, ...]:
    return results if row.differentiated is None else tuple(results[i] for i in row.differentiated)


def is_smooth(variant: Variant, arrays: list[mx.np.ndarray]) -> bool:
    floats = [x for x in arrays if str(x.dtype) in FLOATS]
    return variant.smooth and bool(floats) and all(x.size for x in floats)


@pytest.mark.parametrize("row", by_op(DIFFERENTIABLE))
def test_gradient_along_a_random_direction(row: Row) -> None:
    for seed, variant in enumerate(row.variants):
        arrays = to_arrays(variant, draw(variant, "float64", seed), "float64")
        if is_smooth(variant, arrays):
            check_vjp(
                lambda *inputs, v=variant: head(row, invoke(row, v, list(inputs))),
                arrays,
                epsilon=1e-6,
                rtol=1e-6,
                atol=1e-7,
                seed=seed,
            )


@pytest.mark.parametrize("row", by_op([row for row in DIFFERENTIABLE if row.second_order]))
def test_gradient_of_the_gradient(row: Row) -> None:
    for seed, variant in enumerate(row.variants[:3]):
        arrays = to_arrays(variant, draw(variant, "float64", seed), "float64")
        if not is_smooth(variant, arrays):
            continue
        floats = [i for i, x in enumerate(arrays) if str(x.dtype) == "float64"]
        weights = [
            mx.np.array(np.random.default_rng(seed).normal(size=y.shape))
            for y in head(row, invoke(row, variant, arrays))
        ]

        def gradients(
            *inputs: Any, v: Variant = variant, floats: Any = floats, weights: Any = weights
        ) -> Any:
            points = list(inputs)
            for i in floats:
                if not points[i].takes_gradient:
                    points[i].attach_grad()
            with autograd.record():
                results = head(row, invoke(row, v, points))
                results = [y * w * y for y, w in zip(results, weights, strict=True)]
                total = sum(mx.np.sum(y) for y in results)
                return tuple(_native.grad([total], [points[i] for i in floats], create_graph=True))

        check_vjp(gradients, arrays, epsilon=1e-5, rtol=1e-5, atol=1e-6, seed=seed)


@pytest.mark.parametrize("row", by_op(DIFFERENTIABLE))
def test_gradients_have_the_dtype_and_shape_of_their_inputs(row: Row) -> None:
    for dtype in set(FLOATS) & set(row.dtypes):
        for seed, variant in enumerate(row.variants):
            arrays = to_arrays(variant, draw(variant, dtype, seed), dtype)
            points = [x for x in arrays if str(x.dtype) in FLOATS]
            for point in points:
                point.attach_grad()
            with autograd.record():
                results = [y for y in head(row, invoke(row, variant, arrays)) if str(y.dtype) in FLOATS]
            if not results:
                continue
            autograd.backward(results)
            for point in points:
                assert (point.grad.shape, point.grad.dtype) == (point.shape, point.dtype)


@pytest.mark.parametrize(
    "row",
    by_op(
        [
            row
            for row in ROWS
            if SCHEMAS[row.op]["zero_gradient"] and any(s.typed for s in row.variants[0].inputs)
        ]
    ),
)
def test_steps_and_positions_have_a_gradient_of_zero(row: Row) -> None:
    variant = row.variants[0]
    arrays = to_arrays(variant, draw(variant, "float32"), "float32")
    floats = [x for x in arrays if str(x.dtype) == "float32"]
    for x in floats:
        x.attach_grad()
    with autograd.record():
        loss = sum(
            (mx.np.sum(x * x) for x in floats), mx.np.sum(invoke(row, variant, arrays)[0].astype("float32"))
        )
    loss.backward()
    for x in floats:
        np.testing.assert_array_equal(x.grad.asnumpy(), 2 * x.asnumpy())


@pytest.mark.parametrize(
    "row",
    by_op(
        [
            row
            for row in ROWS
            if not SCHEMAS[row.op]["differentiable"] and not SCHEMAS[row.op]["zero_gradient"]
        ]
    ),
)
def test_ops_without_a_gradient_say_so(row: Row) -> None:
    variant = row.variants[0]
    arrays = to_arrays(variant, draw(variant, "float32"), "float32")
    for x in arrays:
        if str(x.dtype) == "float32":
            x.attach_grad()
    with autograd.record():
        results = invoke(row, variant, arrays)
        loss = sum(mx.np.sum(y) for y in results if str(y.dtype) == "float32")
    with pytest.raises(mx.MxpipeError, match=rf"\[{row.op}\]"):
        loss.backward()


# --------------------------------------------------------------------------------------------- completeness


def test_every_op_has_a_row_and_a_kernel() -> None:
    kernels = set(_native.ops_with_kernels())
    runs = {name for name, s in SCHEMAS.items() if s["elementwise"] or s["view"] or name in kernels}
    assert sorted(SCHEMAS) == sorted(BY_OP), "each op must have one row in cases.py"
    assert sorted(SCHEMAS) == sorted(runs), "each op must have a kernel, a program or be a view"
    assert len(BY_OP) == len(ROWS)


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_every_instruction_set(isa: str) -> None:
    environment = {**os.environ, "MXPIPE_ISA": isa}
    probe = [sys.executable, "-c", "import mxpipe as mx; mx.np.exp(mx.np.ones(3))"]
    started = subprocess.run(probe, env=environment, capture_output=True, text=True, check=False)
    if "must name an instruction set" in started.stderr:
        pytest.skip(f"this processor has no {isa}")
    command = [sys.executable, __file__]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]


def main() -> None:
    """Check all values without pytest: what `test_every_instruction_set` runs."""
    for row, dtype in combinations():
        try:
            test_forward(row, dtype)
        except AssertionError as error:
            raise AssertionError(f"{row.op} {dtype}") from error


if __name__ == "__main__":
    main()
