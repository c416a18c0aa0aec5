"""What layers compute."""

from __future__ import annotations

from collections.abc import Sequence

from mxpipe import _native
from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError
from mxpipe.np._common import ArrayLike, DType, ShapeLike, as_array, as_shape, cast, normalize_axis, public
from mxpipe.np._common import reshape as reshape_array
from mxpipe.np._elementwise import abs, multiply, square, where
from mxpipe.np._indexing import as_indices


@public
def fully_connected(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    num_hidden: int | None = None,
    no_bias: bool = False,
    flatten: bool = True,
) -> Array:
    """A dense layer: x times the transposed weight, plus the bias.

    Args:
        x: Array (n, ...) with `flatten`, else (..., k).
        weight: Array (m, k), k being the numbers of a sample with `flatten`.
        bias: Array (m,), or None.
        num_hidden: m, if it is to be checked.
        no_bias: Leave the bias out although it is given.
        flatten: Take all axes but the first as one.

    Returns:
        Array (n, m) with `flatten`, else (..., m).

    Raises:
        OperatorError: The shapes do not fit, or the dtypes differ.

    Example:
        >>> npx.fully_connected(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([0.5]))
        array([[11.5]])
    """
    x, weight = as_array(x), as_array(weight)
    if num_hidden is not None and weight.shape[:1] != (num_hidden,):
        raise OperatorError(
            f"[fully_connected] weight must have num_hidden={num_hidden} rows; got shape {weight.shape}."
        )
    inputs = (
        x if x.ndim == 2 else _as_rows(x, flatten),
        weight,
        *(() if bias is None or no_bias else (bias,)),
    )
    result = invoke("fully_connected", inputs, {})
    if x.ndim == 2 or flatten:
        return result
    shape = [*x.shape[:-1], weight.shape[0]]
    if x.size:
        shape[0] = -1  # the batch, whatever its size; of a vector, the result itself
    return reshape_array(result, shape)


def _as_rows(x: Array, flatten: bool) -> Array:
    if x.ndim == 0 or (x.ndim == 1 and flatten):
        raise OperatorError(f"[fully_connected] x must have at least 2 axes; got shape {x.shape}.")
    return reshape_array(x, (-2, -1) if flatten else (-1, x.shape[-1]))


@public
def batch_flatten(x: ArrayLike) -> Array:
    """All axes but the first as one.

    Args:
        x: Array (n, ...).

    Returns:
        Array (n, k). It shares x's memory.

    Raises:
        OperatorError: x has no axis.

    Example:
        >>> npx.batch_flatten(np.ones((2, 3, 4))).shape
        (2, 12)
    """
    return reshape_array(as_array(x), (-2, -1))


@public
def reshape(a: ArrayLike, newshape: ShapeLike) -> Array:
    """The same numbers, in order, under another shape.

    Args:
        a: Array.
        newshape: Sizes; one may be -1, which takes what is left, and -2 copies the size of a at that place.

    Returns:
        Array of that shape. It shares a's memory.

    Raises:
        OperatorError: The number of elements would change.

    Example:
        >>> npx.reshape(np.ones((2, 3, 4)), (-2, -1)).shape
        (2, 12)
    """
    return reshape_array(as_array(a), as_shape(newshape))


@public
def dropout(data: ArrayLike, p: float = 0.5, mode: str = "training", axes: Sequence[int] = ()) -> Array:
    """Each number is 0 with probability p, else divided by 1 - p. Outside training the array itself.

    Args:
        data: Array of a floating dtype.
        p: Probability of 0, in [0, 1].
        mode: "training" drops within `autograd.record` or `train_mode` only, "always" always.
        axes: Axes along which numbers are dropped together.

    Returns:
        Array of data's shape and dtype.

    Raises:
        OperatorError: p lies outside [0, 1], or the dtype is not floating.

    Example:
        >>> npx.dropout(np.ones(3), 0.5)
        array([1., 1., 1.])
    """
    data = as_array(data)
    if mode not in ("training", "always"):
        raise OperatorError(f"[dropout] mode must be training or always; got {mode}.")
    if not 0 <= p <= 1:
        raise OperatorError(f"[dropout] p must lie in [0, 1]; got {p}.")
    if p == 0 or (mode == "training" and not _native.is_training()):
        return data
    if not axes:
        return invoke("dropout", (data,), {"p": p})
    together = {normalize_axis("dropout", axis, data.ndim) for axis in axes}
    shape = [1 if i in together else size for i, size in enumerate(data.shape)]
    ones = invoke("full", (), {"shape": shape, "value": 1.0, "dtype": data.dtype})
    return multiply(data, invoke("dropout", (ones,), {"p": p}))


@public
def embedding(
    data: ArrayLike,
    weight: ArrayLike,
    input_dim: int | None = None,
    output_dim: int | None = None,
    dtype: DType | None = None,
    sparse_grad: bool = False,
) -> Array:
    """The row of a table for each id.

    Args:
        data: Integer ids of any shape.
        weight: Table (rows, d).
        input_dim: The rows, if they are to be checked.
        output_dim: d, if it is to be checked.
        dtype: Dtype of the result; None for that of the table.
        sparse_grad: Make the table's gradient row-sparse: only the rows that were read.

    Returns:
        Array data.shape + (d,).

    Raises:
        OperatorError: An id lies outside [0, rows), the ids are no integers, or the table has another shape.

    Example:
        >>> npx.embedding(np.array([1, 0]), np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([[3., 4.],
               [1., 2.]])
    """
    ids, weight = as_indices("embedding", data), as_array(weight)
    for name, expected, axis in (("input_dim", input_dim, 0), ("output_dim", output_dim, 1)):
        if expected is not None and weight.shape[axis : axis + 1] != (expected,):
            raise OperatorError(f"[embedding] weight must fit {name}={expected}; got shape {weight.shape}.")
    return cast(invoke("embedding", (weight, ids), {"sparse_grad": sparse_grad}), dtype)


@public
def softmax_cross_entropy(data: ArrayLike, label: ArrayLike) -> Array:
    """-log(softmax(data))[i, label[i]] for each row i, in one pass.

    Args:
        data: Logits (n, classes) of a floating dtype.
        label: Integer classes (n,).

    Returns:
        Loss (n,), float32 (float64 for float64 logits).

    Raises:
        OperatorError: A label lies outside [0, classes), or the shapes do not fit.

    Example:
        >>> npx.softmax_cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))
        array([0.6931472])
    """
    return invoke("softmax_cross_entropy", (data, as_indices("softmax_cross_entropy", label)), {})[0]


@public
def smooth_l1(data: ArrayLike, scalar: float = 1.0) -> Array:
    """A square near 0, a straight line beyond: (s * x)**2 / 2 where |x| < 1 / s**2, else |x| - 0.5 / s**2.

    Args:
        data: Array of a floating dtype.
        scalar: s.

    Returns:
        Array of data's shape and dtype.

    Example:
        >>> npx.smooth_l1(np.array([0.5, 2.0]))
        array([0.125, 1.5  ])
    """
    size = abs(data)
    border = 1.0 / scalar**2
    return where(size < border, square(multiply(data, scalar)) * 0.5, size - 0.5 * border)


@public
def stop_gradient(x: ArrayLike) -> Array:
    """X itself, which gradients do not pass.

    Args:
        x: Array.

    Returns:
        Array that shares x's memory.

    Example:
        >>> npx.stop_gradient(np.ones(2))
        array([1., 1.])
    """
    return invoke("stop_gradient", (x,), {})


def waitall() -> None:
    """Wait until all arrays are computed. They are: calls return when their result is there.

    Example:
        >>> npx.waitall()
    """
