"""Helpers for tests of numerical code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from . import autograd, np
from ._native import Array

__all__ = ["assert_almost_equal", "check_numeric_gradient", "check_vjp", "default_tolerances"]

_TOLERANCES = {
    "bfloat16": (3e-2, 1e-2),
    "float16": (1e-2, 1e-3),
    "float32": (1e-4, 1e-5),
    "float64": (1e-9, 1e-11),
}


def _numpy(value: Any) -> numpy.ndarray[Any, Any]:
    return value.asnumpy() if isinstance(value, Array) else numpy.asarray(value)


def default_tolerances(*values: Any) -> tuple[float, float]:
    """Relative and absolute tolerance that suit the least precise of some arrays; zero for integers."""
    names = [_numpy(value).dtype.name for value in values]
    found = [_TOLERANCES[name] for name in names if name in _TOLERANCES]
    return max((rtol for rtol, _ in found), default=0.0), max((atol for _, atol in found), default=0.0)


def assert_almost_equal(
    actual: Any, desired: Any, rtol: float | None = None, atol: float | None = None, equal_nan: bool = False
) -> None:
    """Fail unless two arrays have the same shape and nearly the same elements.

    Args:
        actual: What was computed.
        desired: What it should be.
        rtol: Relative tolerance; that of the less precise type where None.
        atol: Absolute tolerance; likewise.
        equal_nan: Whether nan equals nan.
    """
    default_rtol, default_atol = default_tolerances(actual, desired)
    actual, desired = _numpy(actual), _numpy(desired)
    assert actual.shape == desired.shape, f"shapes differ: {actual.shape} and {desired.shape}"
    numpy.testing.assert_allclose(
        actual.astype(numpy.float64) if actual.dtype.kind == "f" else actual,
        desired.astype(numpy.float64) if desired.dtype.kind == "f" else desired,
        rtol=default_rtol if rtol is None else rtol,
        atol=default_atol if atol is None else atol,
        equal_nan=equal_nan,
    )


def check_vjp(
    function: Callable[..., Any],
    inputs: Sequence[Array],
    epsilon: float = 1e-3,
    rtol: float = 1e-3,
    atol: float = 1e-4,
    seed: int = 0,
) -> None:
    """Compare a gradient with a finite difference along one random direction.

    The directional derivative of <function(inputs), g> along d must be <gradient, d>: two evaluations check
    all elements of all inputs at once.

    Args:
        function: Takes the inputs, returns an array or a tuple of arrays.
        inputs: Where to check; floating ones are differentiated, and moved in float64 for the difference.
        epsilon: Length of the step.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        seed: Of the directions.

    Example:
        >>> import mxpipe as mx
        >>> check_vjp(lambda x, y: x * mx.np.exp(y), [mx.np.ones((3,)), mx.np.ones((3,))])
    """
    random = numpy.random.default_rng(seed)
    state = _random_state()
    points = [array.detach().copy() for array in inputs]
    chosen = [position for position, array in enumerate(points) if "float" in str(array.dtype)]
    for position in chosen:
        points[position].attach_grad()
    with autograd.record():
        outputs = _as_tuple(function(*points))
        heads = [output for output in outputs if "float" in str(output.dtype)]
    weights = [random.standard_normal(head.shape) for head in heads]
    autograd.backward(
        heads, [np.array(weight, dtype=head.dtype) for weight, head in zip(weights, heads, strict=True)]
    )
    directions = {position: random.standard_normal(points[position].shape) for position in chosen}

    def projected(step: float) -> float:
        _restore(state)
        moved = [
            np.array(array.asnumpy().astype(numpy.float64) + step * directions[position])
            if position in directions
            else array
            for position, array in enumerate(points)
        ]
        with autograd.train_mode():
            results = [value for value in _as_tuple(function(*moved)) if "float" in str(value.dtype)]
        return sum(
            float((value.asnumpy().astype(numpy.float64) * weight).sum())
            for value, weight in zip(results, weights, strict=True)
        )

    expected = (projected(epsilon) - projected(-epsilon)) / (2.0 * epsilon)
    actual = sum(
        float((_dense(points[position].grad).astype(numpy.float64) * directions[position]).sum())
        for position in chosen
    )
    numpy.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def check_numeric_gradient(
    function: Callable[..., Array],
    inputs: Sequence[Array],
    epsilon: float = 1e-3,
    rtol: float = 1e-3,
    atol: float = 1e-4,
) -> None:
    """Compare every element of the gradient of the sum of `function(*inputs)` with a finite difference.

    Slow, and exact about where a gradient is wrong; `check_vjp` answers whether.

    Args:
        function: Takes the inputs, returns an array.
        inputs: Floating arrays.
        epsilon: Length of the step.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
    """
    state = _random_state()
    points = [array.detach().copy() for array in inputs]
    for point in points:
        point.attach_grad()
    with autograd.record():
        result = function(*points)
    result.backward()
    values = [point.asnumpy().astype(numpy.float64) for point in points]

    def total() -> float:
        _restore(state)
        with autograd.train_mode():
            return float(
                function(*[np.array(value) for value in values]).asnumpy().astype(numpy.float64).sum()
            )

    for point, value in zip(points, values, strict=True):
        numeric = numpy.zeros_like(value)
        for index in numpy.ndindex(*value.shape):
            kept = value[index]
            value[index] = kept + epsilon
            above = total()
            value[index] = kept - epsilon
            numeric[index] = (above - total()) / (2.0 * epsilon)
            value[index] = kept
        numpy.testing.assert_allclose(point.grad.asnumpy(), numeric, rtol=rtol, atol=atol)


def _as_tuple(value: Any) -> tuple[Array, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _dense(gradient: Any) -> numpy.ndarray[Any, Any]:
    assert not isinstance(gradient, tuple), "a row-sparse gradient cannot be checked: use sparse_grad=False"
    return _numpy(gradient)


def _random_state() -> Any:
    from . import random

    return random.get_state()


def _restore(state: Any) -> None:
    from . import random

    random.set_state(state)
