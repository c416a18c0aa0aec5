"""Activation functions."""

from __future__ import annotations

from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError
from mxpipe.np._common import ArrayLike, as_array, normalize_axis, public, reshape
from mxpipe.np._creation import arange
from mxpipe.np._derived import unary
from mxpipe.np._elementwise import add, expm1, less, minimum, multiply, negative, tanh, where
from mxpipe.np._shape import expand_dims

sigmoid = unary("sigmoid", module="mxpipe.npx")
softplus = unary("softplus", module="mxpipe.npx")
relu = unary("relu", module="mxpipe.npx")
silu = unary("silu", module="mxpipe.npx")
erf = unary("erf", module="mxpipe.npx")
rsqrt = unary("rsqrt", module="mxpipe.npx")

softrelu = softplus


@public
def gelu(x: ArrayLike, approximate: bool = False) -> Array:
    """X times the probability that a standard normal number is below x.

    Args:
        x: Array; integers are taken as float32.
        approximate: Compute the probability through tanh instead of erf.

    Returns:
        Array of x's shape.

    Example:
        >>> npx.gelu(np.array([0.0, 2.0]))
        array([0.       , 1.9544997])
    """
    return invoke("gelu", (x,), {"approximate": approximate})


_SELU_SCALE, _SELU_SLOPE = 1.0507009873554805, 1.6732632423543772


@public
def leaky_relu(
    data: ArrayLike, gamma: ArrayLike | None = None, act_type: str = "leaky", slope: float = 0.25
) -> Array:
    """The number where it is positive, else something small.

    Args:
        data: Array; integers are taken as float32.
        gamma: For "prelu", the slopes; they broadcast against data.
        act_type: What negative numbers x become: "leaky" slope * x, "prelu" gamma * x, "elu"
            slope * (exp(x) - 1). "selu" (which scales positive numbers too) and "gelu" are those functions.
        slope: As above.

    Returns:
        Array of data's shape.

    Raises:
        OperatorError: There is no such type, or gamma is missing.

    Example:
        >>> npx.leaky_relu(np.array([-1.0, 2.0]), slope=0.1)
        array([-0.1,  2. ])
    """
    if act_type == "leaky":
        return invoke("leaky_relu", (data,), {"slope": slope})
    if act_type == "gelu":
        return gelu(data)
    if act_type == "prelu" and gamma is not None:
        return add(relu(data), multiply(minimum(data, 0), gamma))
    if act_type == "elu":
        return add(relu(data), multiply(expm1(minimum(data, 0)), slope))
    if act_type == "selu":
        return multiply(leaky_relu(data, act_type="elu", slope=_SELU_SLOPE), _SELU_SCALE)
    raise OperatorError(
        f"[leaky_relu] act_type must be leaky, prelu (with gamma), elu, selu or gelu; got {act_type}."
    )


@public
def mish(x: ArrayLike) -> Array:
    """X * tanh(softplus(x)).

    Args:
        x: Array; integers are taken as float32.

    Returns:
        Array of x's shape.

    Example:
        >>> npx.mish(np.array([0.0, 1.0]))
        array([0.        , 0.86509836])
    """
    return multiply(x, tanh(softplus(x)))


@public
def log_sigmoid(x: ArrayLike) -> Array:
    """The logarithm of sigmoid, without overflow.

    Args:
        x: Array; integers are taken as float32.

    Returns:
        Array of x's shape.

    Example:
        >>> npx.log_sigmoid(np.array([0.0, -100.0]))
        array([  -0.6931472, -100.       ])
    """
    return negative(softplus(negative(x)))


_ACTIVATIONS = {
    "relu": relu,
    "sigmoid": sigmoid,
    "log_sigmoid": log_sigmoid,
    "tanh": tanh,
    "softrelu": softplus,
    "softsign": lambda x: x / (1.0 + invoke("abs", (x,), {})),
    "silu": silu,
    "swish": silu,
    "mish": mish,
    "gelu": gelu,
    "erf": erf,
}


@public
def activation(data: ArrayLike, act_type: str = "relu") -> Array:
    """An activation function by its name.

    Args:
        data: Array.
        act_type: relu, sigmoid, log_sigmoid, tanh, softrelu, softsign, silu, swish, mish, gelu or erf.

    Returns:
        Array of data's shape.

    Raises:
        OperatorError: There is no such function.

    Example:
        >>> npx.activation(np.array([-1.0, 2.0]), act_type="relu")
        array([0., 2.])
    """
    if act_type not in _ACTIVATIONS:
        raise OperatorError(
            f"[activation] act_type must be one of {', '.join(_ACTIVATIONS)}; got {act_type}."
        )
    result: Array = _ACTIVATIONS[act_type](data)
    return result


@public
def softmax(
    data: ArrayLike, axis: int = -1, temperature: float = 1.0, length: ArrayLike | None = None
) -> Array:
    """exp(data / temperature) divided by its sum along an axis, without overflow.

    Args:
        data: Array of a floating dtype, of at least one axis.
        axis: Axis along which the results sum to 1.
        temperature: What the numbers are divided by first; above 1 evens the results out.
        length: How many numbers of each line count, integers of data's shape without the axis; the others
            give 0.

    Returns:
        Array of data's shape and dtype.

    Raises:
        OperatorError: There is no such axis, or data holds no floats.

    Example:
        >>> npx.softmax(np.array([0.0, 0.0]))
        array([0.5, 0.5])
    """
    if length is not None:
        return masked_softmax(data, _within(as_array(data), length, axis), axis, temperature)
    scaled = data if temperature == 1.0 else as_array(data) / temperature
    return invoke("softmax", (scaled,), {"axis": axis})


@public
def log_softmax(
    data: ArrayLike, axis: int = -1, temperature: float = 1.0, length: ArrayLike | None = None
) -> Array:
    """The logarithm of softmax, without overflow.

    Args:
        data: Array of a floating dtype, of at least one axis.
        axis: Axis along which softmax sums to 1.
        temperature: What the numbers are divided by first.
        length: How many numbers of each line count, integers of data's shape without the axis; the others
            give -infinity.

    Returns:
        Array of data's shape and dtype.

    Raises:
        OperatorError: There is no such axis, or data holds no floats.

    Example:
        >>> npx.log_softmax(np.array([0.0, 0.0]))
        array([-0.6931472, -0.6931472])
    """
    if length is not None:
        return masked_log_softmax(data, _within(as_array(data), length, axis), axis, temperature)
    scaled = data if temperature == 1.0 else as_array(data) / temperature
    return invoke("log_softmax", (scaled,), {"axis": axis})


@public
def masked_softmax(data: ArrayLike, mask: ArrayLike, axis: int = -1, temperature: float = 1.0) -> Array:
    """Softmax over the numbers that a mask keeps; the others, and lines without any, give 0.

    Args:
        data: Array of a floating dtype.
        mask: bool array whose shape broadcasts to that of data.
        axis: Axis along which the results sum to 1.
        temperature: What the numbers are divided by first.

    Returns:
        Array of data's shape and dtype.

    Raises:
        OperatorError: There is no such axis, or data holds no floats.

    Example:
        >>> npx.masked_softmax(np.array([0.0, 0.0, 5.0]), np.array([True, True, False]))
        array([0.5, 0.5, 0. ])
    """
    return where(mask, softmax(where(mask, data, -1e4), axis, temperature), 0.0)


@public
def masked_log_softmax(data: ArrayLike, mask: ArrayLike, axis: int = -1, temperature: float = 1.0) -> Array:
    """The logarithm of softmax over the numbers that a mask keeps; the others give -infinity.

    Args:
        data: Array of a floating dtype.
        mask: bool array whose shape broadcasts to that of data.
        axis: Axis along which softmax sums to 1.
        temperature: What the numbers are divided by first.

    Returns:
        Array of data's shape and dtype.

    Raises:
        OperatorError: There is no such axis, or data holds no floats.

    Example:
        >>> npx.masked_log_softmax(np.array([0.0, 0.0, 5.0]), np.array([True, True, False]))
        array([-0.6931472, -0.6931472,       -inf])
    """
    return where(mask, log_softmax(where(mask, data, -1e4), axis, temperature), float("-inf"))


def _within(data: Array, length: ArrayLike, axis: int) -> Array:
    """Whether each place along the axis comes before its line's length."""
    axis = normalize_axis("softmax", axis, data.ndim)
    along = [data.shape[axis] if i == axis else 1 for i in range(data.ndim)]
    places = reshape(arange(data.shape[axis], dtype="int64"), along)
    return less(places, expand_dims(as_array(length), axis))
