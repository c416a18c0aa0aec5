"""Random arrays. Every call takes one tick of the counter that `mx.random.seed` starts, eager or compiled.

The generator is counter-based (Philox): the numbers are a function of seed, counter and position only, and so
the same on any number of threads.
"""

from __future__ import annotations

from typing import Any

from mxpipe import _native
from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError

from ._common import ArrayLike, DType, ShapeLike, as_array, as_shape, cast, public
from ._creation import require_cpu
from ._elementwise import floor

__all__ = [
    "bernoulli",
    "exponential",
    "normal",
    "permutation",
    "rand",
    "randint",
    "randn",
    "seed",
    "shuffle",
    "uniform",
]


def seed(value: int) -> None:
    """Start the random numbers anew; the same as `mx.random.seed`.

    Args:
        value: An integer from 0 to 2**64 - 1.

    Example:
        >>> np.random.seed(7)
    """
    _native.set_seed(value)


def _size(size: ShapeLike | None) -> tuple[int, ...]:
    return () if size is None else as_shape(size)


@public
def uniform(
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
    size: ShapeLike | None = None,
    dtype: DType | None = None,
    device: Any = None,
) -> Array:
    """Numbers evenly spread over [low, high).

    Args:
        low: Lower bound; a number, or an array that broadcasts to `size`.
        high: Upper bound; likewise.
        size: Shape of the result; None for that of the bounds.
        dtype: Floating dtype of the result; None for float32.
        device: None or `mx.cpu()`.

    Returns:
        Array.

    Raises:
        OperatorError: The dtype is not floating.

    Example:
        >>> np.random.uniform(size=(2, 3)).shape
        (2, 3)
    """
    require_cpu("uniform", device)
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        attributes = {"shape": _size(size), "low": float(low), "high": float(high), "dtype": dtype}
        return invoke("random_uniform", (), attributes)
    width = as_array(high) - as_array(low)
    shape = width.shape if size is None else as_shape(size)
    return invoke("random_uniform", (), {"shape": shape, "dtype": dtype}) * width + low


@public
def normal(
    loc: ArrayLike = 0.0,
    scale: ArrayLike = 1.0,
    size: ShapeLike | None = None,
    dtype: DType | None = None,
    device: Any = None,
) -> Array:
    """Numbers of a normal distribution.

    Args:
        loc: Mean; a number, or an array that broadcasts to `size`.
        scale: Standard deviation; likewise.
        size: Shape of the result; None for that of mean and deviation.
        dtype: Floating dtype of the result; None for float32.
        device: None or `mx.cpu()`.

    Returns:
        Array.

    Raises:
        OperatorError: The dtype is not floating, or the deviation is negative.

    Example:
        >>> np.random.normal(size=(2, 3)).shape
        (2, 3)
    """
    require_cpu("normal", device)
    if isinstance(loc, (int, float)) and isinstance(scale, (int, float)):
        attributes = {"shape": _size(size), "loc": float(loc), "scale": float(scale), "dtype": dtype}
        return invoke("random_normal", (), attributes)
    both = as_array(loc) + as_array(scale)
    shape = both.shape if size is None else as_shape(size)
    return invoke("random_normal", (), {"shape": shape, "dtype": dtype}) * scale + loc


@public
def bernoulli(
    prob: ArrayLike = 0.5, size: ShapeLike | None = None, dtype: DType | None = None, device: Any = None
) -> Array:
    """1 with a probability, else 0.

    Args:
        prob: Probability of 1; a number, or an array that broadcasts to `size`.
        size: Shape of the result; None for that of `prob`.
        dtype: Dtype of the result; None for float32.
        device: None or `mx.cpu()`.

    Returns:
        Array.

    Raises:
        OperatorError: A number outside [0, 1] is given.

    Example:
        >>> np.random.bernoulli(1.0, size=3)
        array([1., 1., 1.])
    """
    require_cpu("bernoulli", device)
    if isinstance(prob, (int, float)):
        return invoke("random_bernoulli", (), {"shape": _size(size), "p": float(prob), "dtype": dtype})
    prob = as_array(prob)
    shape = prob.shape if size is None else as_shape(size)
    return cast(invoke("random_uniform", (), {"shape": shape}) < prob, "float32" if dtype is None else dtype)


@public
def exponential(scale: float = 1.0, size: ShapeLike | None = None, dtype: DType | None = None) -> Array:
    """Numbers of an exponential distribution.

    Args:
        scale: Mean.
        size: Shape of the result; None for one number.
        dtype: Floating dtype of the result; None for float32.

    Returns:
        Array.

    Raises:
        OperatorError: The dtype is not floating.

    Example:
        >>> np.random.exponential(size=(2, 3)).shape
        (2, 3)
    """
    draws = invoke("random_uniform", (), {"shape": _size(size), "dtype": dtype})
    return invoke("log1p", (-draws,), {}) * -scale


@public
def randint(
    low: int, high: int | None = None, size: ShapeLike | None = None, dtype: DType | None = None
) -> Array:
    """Integers from low to before high, each as likely as the others (to within 2**-24).

    Args:
        low: Smallest integer; the end, if `high` is not given, and then 0 is the smallest.
        high: End, which is not reached.
        size: Shape of the result; None for one number.
        dtype: Integer dtype of the result; None for int64.

    Returns:
        Array.

    Raises:
        OperatorError: There is no integer to choose, or there are more than 2**24.

    Example:
        >>> np.random.randint(1, 2, size=3)
        array([1, 1, 1], dtype=int64)
    """
    if high is None:
        low, high = 0, low
    if not 0 < high - low <= 2**24:
        raise OperatorError(
            f"[randint] there must be 1 to 2**24 integers from low to high; got {low} and {high}."
        )
    # float64 holds the product of 24 random bits and 24 bits of range exactly: no result reaches `high`.
    draws = invoke("random_uniform", (), {"shape": _size(size), "dtype": "float64"})
    return cast(cast(floor(draws * (high - low)), "int64") + low, dtype)


def permutation(x: int | ArrayLike) -> Array:
    """The rows of an array, or the integers below a number, in random order.

    Args:
        x: A number, or an array of at least one axis.

    Returns:
        Array; int64 (x,) for a number.

    Raises:
        GraphError: Called while a function is traced: the order is drawn at once.

    Example:
        >>> sorted(np.random.permutation(3).tolist())
        [0, 1, 2]
    """
    import numpy

    rows = x if isinstance(x, int) else as_array(x).shape[0]
    keys = invoke("random_uniform", (), {"shape": (2,), "dtype": "float64"}).asnumpy()
    generator = numpy.random.Generator(numpy.random.Philox(key=[int(key * 2**24) for key in keys]))
    order = _native.array(generator.permutation(rows))
    return order if isinstance(x, int) else invoke("take", (as_array(x), order), {"axis": 0})


def shuffle(x: Array) -> None:
    """Bring the rows of an array into random order, in place.

    Args:
        x: Array of at least one axis.

    Raises:
        GraphError: Called while a function is traced.

    Example:
        >>> x = np.arange(3)
        >>> np.random.shuffle(x)
        >>> sorted(x.tolist())
        [0, 1, 2]
    """
    _native.assign(x, permutation(x))


def rand(*size: int) -> Array:
    """Numbers evenly spread over [0, 1).

    Args:
        size: Shape of the result.

    Returns:
        float32 array.

    Example:
        >>> np.random.rand(2, 3).shape
        (2, 3)
    """
    return uniform(size=size)


def randn(*size: int) -> Array:
    """Numbers of the standard normal distribution.

    Args:
        size: Shape of the result.

    Returns:
        float32 array.

    Example:
        >>> np.random.randn(2, 3).shape
        (2, 3)
    """
    return normal(size=size)
