"""Normalisation: over the batch, over the features of a sample, and over groups of channels."""

from __future__ import annotations

from typing import Any, Literal, overload

from mxpipe import _native
from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError
from mxpipe.np._common import ArrayLike, as_array, cast, normalize_axis, public
from mxpipe.np._common import reshape as reshape_array
from mxpipe.np._elementwise import add, multiply, subtract
from mxpipe.np._shape import moveaxis


@public
def layer_norm(x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, axis: int = -1, eps: float = 1e-5) -> Array:
    """(x - mean) / sqrt(variance + eps) * gamma + beta along one axis of each sample.

    Args:
        x: Array of a floating dtype.
        gamma: Scale (d,), d being the size of the axis.
        beta: Shift (d,).
        axis: The axis.
        eps: Added to the variance.

    Returns:
        Array of x's shape and dtype; the statistics are computed in float32 at least.

    Raises:
        OperatorError: The shapes do not fit.

    Example:
        >>> npx.layer_norm(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2), eps=0.0)
        array([[-1.,  1.]])
    """
    x = as_array(x)
    if axis in (-1, x.ndim - 1):
        return invoke("layer_norm", (x, gamma, beta), {"eps": eps})[0]
    axis = normalize_axis("layer_norm", axis, x.ndim)
    return moveaxis(layer_norm(moveaxis(x, axis, -1), gamma, beta, -1, eps), -1, axis)


@overload
def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    running_mean: Array,
    running_var: Array,
    eps: float = ...,
    momentum: float = ...,
    fix_gamma: bool = ...,
    use_global_stats: bool = ...,
    output_mean_var: Literal[False] = ...,
    axis: int = ...,
) -> Array: ...
@overload
def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    running_mean: Array,
    running_var: Array,
    eps: float = ...,
    momentum: float = ...,
    fix_gamma: bool = ...,
    use_global_stats: bool = ...,
    *,
    output_mean_var: Literal[True],
    axis: int = ...,
) -> tuple[Array, Array, Array]: ...
@public
def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    running_mean: Array,
    running_var: Array,
    eps: float = 1e-5,
    momentum: float = 0.9,
    fix_gamma: bool = False,
    use_global_stats: bool = False,
    output_mean_var: bool = False,
    axis: int = 1,
) -> Any:
    """(x - mean) / sqrt(variance + eps) * gamma + beta for each channel.

    In training the statistics are those of the batch, and the running ones move towards them:
    running * momentum + batch * (1 - momentum). Otherwise the running ones are used.

    Args:
        x: Array of a floating dtype.
        gamma: Scale (channels,).
        beta: Shift (channels,).
        running_mean: Running mean (channels,); training writes to it.
        running_var: Running biased variance (channels,); training writes to it.
        eps: Added to the variance.
        momentum: How much of the running statistics stays.
        fix_gamma: Take gamma as 1.
        use_global_stats: Use the running statistics in training too.
        output_mean_var: Return the mean and variance that were used as well, and leave it to the caller to
            move the running ones.
        axis: Axis of the channels.

    Returns:
        Array of x's shape and dtype; with `output_mean_var` a tuple of it, the mean and the variance.

    Raises:
        OperatorError: The shapes do not fit.

    Example:
        >>> x, zeros, ones = np.array([[1.0], [3.0]]), np.zeros(1), np.ones(1)
        >>> npx.batch_norm(x, ones, zeros, zeros, ones, eps=0.0)
        array([[1.],
               [3.]])
    """
    x, gamma = as_array(x), as_array(gamma)
    if fix_gamma:
        gamma = invoke("full", (), {"shape": gamma.shape, "value": 1.0, "dtype": gamma.dtype})
    if use_global_stats or not _native.is_training():
        result = _normalize(x, gamma, as_array(beta), running_mean, running_var, eps, axis)
        return (result, running_mean, running_var) if output_mean_var else result
    result, mean, variance = invoke("batch_norm", (x, gamma, beta), {"axis": axis, "eps": eps})
    if output_mean_var:
        return result, mean, variance
    recording = _native.set_recording(False)
    try:
        for running, batch in ((running_mean, mean), (running_var, variance)):
            fresh = add(multiply(running, momentum), multiply(batch, 1.0 - momentum))
            _native.assign(running, cast(fresh, running.dtype))
    finally:
        _native.set_recording(recording)
    return result


def _normalize(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, eps: float, axis: int
) -> Array:
    axis = normalize_axis("batch_norm", axis, x.ndim)
    channels = x.shape[axis]
    for name, statistic in (
        ("gamma", gamma),
        ("beta", beta),
        ("running_mean", mean),
        ("running_var", variance),
    ):
        if statistic.shape != (channels,):
            raise OperatorError(
                f"[batch_norm] {name} must have shape ({channels},); "
                f"got {statistic.shape} for x of shape {x.shape}."
            )
    scale = multiply(gamma, invoke("rsqrt", (add(variance, eps),), {}))
    shift = subtract(beta, multiply(mean, scale))
    along = [1] * (x.ndim - axis)
    along[0] = channels
    return cast(add(multiply(x, reshape_array(scale, along)), reshape_array(shift, along)), x.dtype)


@public
def rms_norm(x: ArrayLike, gamma: ArrayLike, axis: int = -1, eps: float = 1e-6) -> Array:
    """X / sqrt(mean(x**2) + eps) * gamma along one axis of each sample (Zhang and Sennrich 2019).

    Args:
        x: Array of a floating dtype.
        gamma: Scale (d,), d being the size of the axis.
        axis: The axis.
        eps: Added to the mean square.

    Returns:
        Array of x's shape and dtype; the mean square is computed in float32 at least.

    Raises:
        OperatorError: The shapes do not fit.

    Example:
        >>> npx.rms_norm(np.array([[1.0, 7.0]]), np.ones(2), eps=0.0)
        array([[0.2, 1.4]])
    """
    x = as_array(x)
    if axis in (-1, x.ndim - 1):
        return invoke("rms_norm", (x, gamma), {"eps": eps})[0]
    axis = normalize_axis("rms_norm", axis, x.ndim)
    return moveaxis(rms_norm(moveaxis(x, axis, -1), gamma, -1, eps), -1, axis)


@public
def group_norm(
    data: ArrayLike, gamma: ArrayLike, beta: ArrayLike, num_groups: int = 1, eps: float = 1e-5
) -> Array:
    """(x - mean) / sqrt(variance + eps) over each group of channels of a sample (Wu and He 2018).

    Args:
        data: Array (n, channels, ...) of a floating dtype.
        gamma: Scale (channels,).
        beta: Shift (channels,).
        num_groups: Into how many groups the channels are cut.
        eps: Added to the variance.

    Returns:
        Array of data's shape and dtype; the statistics are computed in float32 at least.

    Raises:
        OperatorError: The shapes do not fit, or num_groups does not divide the channels.

    Example:
        >>> npx.group_norm(np.array([[1.0, 3.0, 5.0, 9.0]]), np.ones(4), np.zeros(4), 2, eps=0.0)
        array([[-1.,  1., -1.,  1.]])
    """
    data, gamma, beta = as_array(data), as_array(gamma), as_array(beta)
    if data.ndim < 2:
        raise OperatorError(f"[group_norm] data must have at least 2 axes; got shape {data.shape}.")
    channels = data.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise OperatorError(f"[group_norm] num_groups must divide {channels} channels; got {num_groups}.")
    for name, values in (("gamma", gamma), ("beta", beta)):
        if values.shape != (channels,):
            raise OperatorError(f"[group_norm] {name} must have shape ({channels},); got {values.shape}.")
    inner = 1
    for size in data.shape[2:]:
        inner *= size
    width = channels // num_groups * inner
    ones, zeros = (
        invoke("full", (), {"shape": (width,), "value": value, "dtype": gamma.dtype}) for value in (1.0, 0.0)
    )
    rows = reshape_array(data, (-2, num_groups, width))
    normal = invoke("layer_norm", (rows, ones, zeros), {"eps": eps})[0]
    normal = reshape_array(normal, (-1 if data.size else data.shape[0], *data.shape[1:]))  # any batch
    along = (channels, *(1 for _ in data.shape[2:]))
    result = add(multiply(normal, reshape_array(gamma, along)), reshape_array(beta, along))
    return cast(result, data.dtype)


@public
def instance_norm(
    data: ArrayLike, gamma: ArrayLike, beta: ArrayLike, axis: int = 1, eps: float = 1e-3
) -> Array:
    """(x - mean) / sqrt(variance + eps) over each channel of a sample (Ulyanov et al. 2016).

    Args:
        data: Array (n, channels, ...) of a floating dtype.
        gamma: Scale (channels,).
        beta: Shift (channels,).
        axis: Axis of the channels.
        eps: Added to the variance.

    Returns:
        Array of data's shape and dtype; the statistics are computed in float32 at least.

    Raises:
        OperatorError: The shapes do not fit.

    Example:
        >>> npx.instance_norm(np.array([[[1.0, 3.0], [5.0, 9.0]]]), np.ones(2), np.zeros(2), eps=0.0)
        array([[[-1.,  1.],
                [-1.,  1.]]])
    """
    data = as_array(data)
    axis = normalize_axis("instance_norm", axis, data.ndim)
    if axis != 1:
        return moveaxis(instance_norm(moveaxis(data, axis, 1), gamma, beta, 1, eps), 1, axis)
    return group_norm(data, gamma, beta, data.shape[1] if data.ndim > 1 and data.shape[1] else 1, eps)
