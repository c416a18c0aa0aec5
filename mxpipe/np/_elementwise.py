"""Elementwise functions: those of the registry, and what composes from them."""

from __future__ import annotations

import math

from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError

from ._common import ArrayLike, as_array, cast_floating, is_floating, public
from ._derived import binary, unary

negative = unary("negative")
abs = absolute = unary("abs")
sign = unary("sign")
square = unary("square")
reciprocal = unary("reciprocal")
sqrt = unary("sqrt")
exp = unary("exp")
expm1 = unary("expm1")
log = unary("log")
log1p = unary("log1p")
sin = unary("sin")
cos = unary("cos")
tanh = unary("tanh")
floor = unary("floor")
ceil = unary("ceil")
rint = unary("round", "rint")
isnan = unary("is_nan", "isnan")
logical_not = unary("logical_not")

add = binary("add")
subtract = binary("subtract")
multiply = binary("multiply")
divide = true_divide = binary("divide")
power = binary("power")
maximum = binary("maximum")
minimum = binary("minimum")
mod = remainder = binary("mod")
floor_divide = binary("floor_divide")
equal = binary("equal")
not_equal = binary("not_equal")
less = binary("less")
less_equal = binary("less_equal")
greater = binary("greater")
greater_equal = binary("greater_equal")
logical_and = binary("logical_and")
logical_or = binary("logical_or")


@public
def logical_xor(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """True where exactly one of x1 and x2 is true, that is, not 0.

    Args:
        x1: Array of any dtype.
        x2: Array whose shape broadcasts with that of x1.

    Returns:
        Array of bool.

    Raises:
        OperatorError: The shapes do not broadcast.

    Example:
        >>> np.logical_xor(np.array([0, 1]), True)
        array([ True, False], dtype=bool)
    """
    return not_equal(logical_not(x1), logical_not(x2))


@public
def log2(x: ArrayLike, /) -> Array:
    """Logarithm to base 2.

    Args:
        x: Array; integers are taken as float32.

    Returns:
        Array of x's shape.

    Example:
        >>> np.log2(np.array([1.0, 8.0]))
        array([0., 3.])
    """
    return multiply(log(x), 1.0 / math.log(2.0))


@public
def log10(x: ArrayLike, /) -> Array:
    """Logarithm to base 10.

    Args:
        x: Array; integers are taken as float32.

    Returns:
        Array of x's shape.

    Example:
        >>> np.round(np.log10(np.array([1.0, 100.0])))
        array([0., 2.])
    """
    return multiply(log(x), 1.0 / math.log(10.0))


@public
def tan(x: ArrayLike, /) -> Array:
    """Tangent of angles in radians.

    Args:
        x: Array; integers are taken as float32.

    Returns:
        Array of x's shape.

    Example:
        >>> np.tan(np.array([0.0, 1.0]))
        array([0.       , 1.5574077])
    """
    return divide(sin(x), cos(x))


@public
def sinh(x: ArrayLike, /) -> Array:
    """Hyperbolic sine.

    Args:
        x: Array; integers are taken as float32.

    Returns:
        Array of x's shape.

    Example:
        >>> np.sinh(np.array([0.0, 1.0]))
        array([0.       , 1.1752012])
    """
    grown = expm1(x)  # exact near 0, unlike exp(x) - exp(-x)
    return multiply(add(grown, divide(grown, add(grown, 1.0))), 0.5)


@public
def cosh(x: ArrayLike, /) -> Array:
    """Hyperbolic cosine.

    Args:
        x: Array; integers are taken as float32.

    Returns:
        Array of x's shape.

    Example:
        >>> np.cosh(np.array([0.0, 1.0]))
        array([1.       , 1.5430806])
    """
    return multiply(add(exp(x), exp(negative(x))), 0.5)


@public
def hypot(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """sqrt(x1 ** 2 + x2 ** 2).

    Args:
        x1: Array.
        x2: Array whose shape broadcasts with that of x1.

    Returns:
        Array of the broadcast shape, of a floating dtype.

    Raises:
        OperatorError: The shapes do not broadcast.

    Example:
        >>> np.hypot(np.array([3.0]), 4.0)
        array([5.])
    """
    return sqrt(add(square(x1), square(x2)))


@public
def round(x: ArrayLike, decimals: int = 0) -> Array:
    """The nearest number of so many decimals; halves go to the even neighbour.

    Args:
        x: Array.
        decimals: Digits to keep behind the point; negative ones round before the point. Integers are returned
            as they are unless decimals is negative.

    Returns:
        Array of x's shape and dtype.

    Example:
        >>> np.round(np.array([1.25, -2.5]))
        array([ 1., -2.])
        >>> np.round(np.array([1.26]), 1)
        array([1.3])
    """
    x = as_array(x)
    if decimals == 0 or (decimals > 0 and not is_floating(x)):
        return rint(x)
    if not is_floating(x):
        return round(x.astype("float64"), decimals).astype(x.dtype)
    scale = 10.0 ** abs_int(decimals)
    return rint(x * scale) / scale if decimals > 0 else rint(x / scale) * scale


around = round


def abs_int(number: int) -> int:
    """The absolute value of a Python integer; `abs` is an array function here."""
    return number if number >= 0 else -number


@public
def trunc(x: ArrayLike, /) -> Array:
    """The whole number nearest to each number on the way to 0. The gradient is 0.

    Args:
        x: Array of numbers.

    Returns:
        Array of x's shape and dtype.

    Example:
        >>> np.trunc(np.array([1.7, -1.7]))
        array([ 1., -1.])
    """
    return multiply(sign(x), floor(abs(x)))


fix = trunc


@public
def clip(x: ArrayLike, a_min: float | None = None, a_max: float | None = None) -> Array:
    """The numbers of x moved into [a_min, a_max]. Outside the gradient is 0.

    Args:
        x: Array of numbers. Integers clipped by a fraction become float32.
        a_min: Lower bound, a number; None for none.
        a_max: Upper bound, a number; None for none.

    Returns:
        Array of x's shape.

    Raises:
        OperatorError: x is bool, or a bound is no number.

    Example:
        >>> np.clip(np.array([-2.0, 0.5, 2.0]), -1.0, 1.0)
        array([-1. ,  0.5,  1. ])
    """
    for bound in (a_min, a_max):
        if bound is not None and not isinstance(bound, (int, float)):
            return _clip_by_arrays(x, a_min, a_max)
    if isinstance(a_min, float) or isinstance(a_max, float):
        x = cast_floating(as_array(x))
    low = -math.inf if a_min is None else float(a_min)
    high = math.inf if a_max is None else float(a_max)
    return invoke("clip", (x,), {"a_min": low, "a_max": high})


def _clip_by_arrays(x: ArrayLike, a_min: ArrayLike | None, a_max: ArrayLike | None) -> Array:
    raised = as_array(x) if a_min is None else maximum(x, a_min)
    return raised if a_max is None else minimum(raised, a_max)


@public
def where(condition: ArrayLike, x: ArrayLike, y: ArrayLike) -> Array:
    """X where the condition is true (not 0), else y.

    Args:
        condition: Array of any dtype.
        x: Array or number.
        y: Array or number. All three shapes must broadcast.

    Returns:
        Array of the broadcast shape, in the dtype to which x and y promote.

    Raises:
        OperatorError: The shapes do not broadcast.

    Example:
        >>> np.where(np.array([True, False]), np.array([1.0, 2.0]), 0.0)
        array([1., 0.])
    """
    condition = as_array(condition)
    if not isinstance(x, Array) and not isinstance(y, Array):
        condition = not_equal(condition, 0)  # so that no number takes its dtype from the condition
    return invoke("where", (condition, x, y), {})


@public
def isinf(x: ArrayLike, /) -> Array:
    """True where a number is infinite.

    Args:
        x: Array of numbers.

    Returns:
        Array of bool.

    Example:
        >>> np.isinf(np.array([1.0, np.inf, -np.inf]))
        array([False,  True,  True], dtype=bool)
    """
    return equal(abs(x), math.inf)


@public
def isfinite(x: ArrayLike, /) -> Array:
    """True where a number is neither infinite nor NaN.

    Args:
        x: Array of numbers.

    Returns:
        Array of bool.

    Example:
        >>> np.isfinite(np.array([1.0, np.inf, np.nan]))
        array([ True, False, False], dtype=bool)
    """
    return less(abs(x), math.inf)


@public
def nan_to_num(
    x: ArrayLike, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Array:
    """X with its NaN and infinite numbers replaced.

    Args:
        x: Array of floats.
        nan: What NaN becomes.
        posinf: What inf becomes; None for the largest number of x's dtype.
        neginf: What -inf becomes; None for the smallest number of x's dtype.

    Returns:
        Array of x's shape and dtype.

    Raises:
        OperatorError: x does not hold floats.

    Example:
        >>> np.nan_to_num(np.array([1.0, np.nan, np.inf]), posinf=9.0)
        array([1., 0., 9.])
    """
    x = as_array(x)
    if not is_floating(x):
        raise OperatorError(f"[nan_to_num] x must be of a floating dtype; got {x.dtype}.")
    largest = largest_number(x)
    result = where(isnan(x), nan, x)
    result = where(equal(x, math.inf), largest if posinf is None else posinf, result)
    return where(equal(x, -math.inf), -largest if neginf is None else neginf, result)


def largest_number(x: Array) -> float:
    """The largest finite number of x's floating dtype."""
    import numpy

    return 3.3895313892515355e38 if isinstance(x.dtype, str) else float(numpy.finfo(x.dtype).max)
