"""Convolution, transposed convolution and pooling, by MXNet's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxpipe._native import Array, invoke
from mxpipe.errors import OperatorError
from mxpipe.np._common import ArrayLike, as_array, public
from mxpipe.np._common import reshape as reshape_array
from mxpipe.np._elementwise import abs, add, power, square

Sizes = int | Sequence[int] | None

_LAYOUTS = {3: ("NCW", "NWC"), 4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}


def _layout(op: str, data: Array, layout: str | None) -> str:
    """The layout of data; channels first where None."""
    known = _LAYOUTS.get(data.ndim)
    if known is None:
        raise OperatorError(f"[{op}] data must have 1 to 3 spatial axes; got shape {data.shape}.")
    if layout is None:
        return known[0]
    if layout not in known:
        raise OperatorError(f"[{op}] layout must be {known[0]} or {known[1]}; got {layout!r}.")
    return layout


def _each(op: str, name: str, values: Sizes, spatial: int, otherwise: int) -> list[int]:
    """One number for each spatial axis."""
    if values is None or (not isinstance(values, int) and len(values) == 0):
        return [otherwise] * spatial
    if isinstance(values, int):
        return [values] * spatial
    if len(values) != spatial:
        raise OperatorError(f"[{op}] {name} must hold {spatial} numbers; got {tuple(values)}.")
    return [int(value) for value in values]


def _spatial_shape(data: Array, layout: str) -> tuple[int, ...]:
    return data.shape[1:-1] if layout[-1] == "C" else data.shape[2:]


def _check_weight(op: str, weight: Array, kernel: Sizes, filters: int | None, axis: int) -> None:
    expected = None if kernel is None else tuple(_each(op, "kernel", kernel, weight.ndim - 2, 1))
    if expected is not None and weight.shape[2:] != expected:
        raise OperatorError(f"[{op}] weight must fit kernel={expected}; got shape {weight.shape}.")
    if filters is not None and weight.shape[axis] != filters:
        raise OperatorError(f"[{op}] weight must fit num_filter={filters}; got shape {weight.shape}.")


@public
def convolution(
    data: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    kernel: Sizes = None,
    stride: Sizes = None,
    dilate: Sizes = None,
    pad: Sizes = None,
    num_filter: int | None = None,
    num_group: int = 1,
    no_bias: bool = False,
    layout: str | None = None,
) -> Array:
    """The correlation of data with a kernel over its 1 to 3 spatial axes, plus the bias.

    Args:
        data: Array (n, channels, *spatial), or (n, *spatial, channels) in a channels-last layout.
        weight: Array (filters, channels / num_group, *kernel), in every layout.
        bias: Array (filters,), or None.
        kernel: The spatial sizes of weight, if they are to be checked.
        stride: Step of the window: one number, or one for each spatial axis. None for 1.
        dilate: Distance between the kernel's elements. None for 1.
        pad: Zeros added at both ends of each spatial axis. None for 0.
        num_filter: The filters, if they are to be checked.
        num_group: Channels and filters are split into this many groups; each group of filters sees its own.
        no_bias: Leave the bias out although it is given.
        layout: NCW, NCHW, NCDHW, NWC, NHWC or NDHWC; None for channels first.

    Returns:
        Array (n, filters, *windows) in the same layout; the number of windows on an axis is
        floor((size + 2 pad - dilate (kernel - 1) - 1) / stride) + 1.

    Raises:
        OperatorError: The shapes do not fit, or the dtypes differ.

    Example:
        >>> x, weight = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[1.0, 10.0]]])
        >>> npx.convolution(x, weight, np.array([0.5]))
        array([[[21.5, 32.5]]])
    """
    data, weight = as_array(data), as_array(weight)
    layout = _layout("convolution", data, layout)
    spatial = data.ndim - 2
    _check_weight("convolution", weight, kernel, num_filter, 0)
    attributes = {
        "stride": _each("convolution", "stride", stride, spatial, 1),
        "padding": _each("convolution", "pad", pad, spatial, 0),
        "dilation": _each("convolution", "dilate", dilate, spatial, 1),
        "groups": num_group,
        "layout": layout,
    }
    inputs = (data, weight, *(() if bias is None or no_bias else (bias,)))
    return invoke("convolution", inputs, attributes)


@public
def deconvolution(
    data: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    kernel: Sizes = None,
    stride: Sizes = None,
    dilate: Sizes = None,
    pad: Sizes = None,
    adj: Sizes = None,
    target_shape: Sizes = None,
    num_filter: int | None = None,
    num_group: int = 1,
    no_bias: bool = False,
    layout: str | None = None,
) -> Array:
    """The transposed convolution: what a convolution with this weight takes, given what it makes.

    Each number of data adds a copy of the kernel, scaled, to the result (Zeiler et al. 2010).

    Args:
        data: Array (n, channels, *spatial), or (n, *spatial, channels) in a channels-last layout.
        weight: Array (channels, filters / num_group, *kernel), in every layout.
        bias: Array (filters,), or None.
        kernel: The spatial sizes of weight, if they are to be checked.
        stride: Distance between the copies of neighbours. None for 1.
        dilate: Distance between the kernel's elements. None for 1.
        pad: Elements cut off at both ends of each spatial axis. None for 0.
        adj: Elements added at the end of each spatial axis, fewer than stride. None for 0.
        target_shape: Spatial sizes of the result, from which pad and adj follow. None to give those.
        num_filter: The filters, if they are to be checked.
        num_group: Channels and filters are split into this many groups.
        no_bias: Leave the bias out although it is given.
        layout: NCW, NCHW, NCDHW, NWC, NHWC or NDHWC; None for channels first.

    Returns:
        Array (n, filters, *sizes) in the same layout; the size of an axis is
        (size - 1) stride + dilate (kernel - 1) + 1 - 2 pad + adj.

    Raises:
        OperatorError: The shapes do not fit, or the dtypes differ.

    Example:
        >>> x, weight = np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0]]])
        >>> npx.deconvolution(x, weight)
        array([[[ 1., 12., 20.]]])
    """
    op = "deconvolution"
    data, weight = as_array(data), as_array(weight)
    layout = _layout(op, data, layout)
    spatial = data.ndim - 2
    if weight.ndim != data.ndim:
        raise OperatorError(f"[{op}] weight must have {data.ndim} axes; got shape {weight.shape}.")
    filters = weight.shape[1] * num_group
    if num_filter is not None and num_filter != filters:
        raise OperatorError(f"[{op}] weight must fit num_filter={num_filter}; got shape {weight.shape}.")
    _check_weight(op, weight, kernel, None, 1)
    strides = _each(op, "stride", stride, spatial, 1)
    dilation = _each(op, "dilate", dilate, spatial, 1)
    padding, extra = _each(op, "pad", pad, spatial, 0), _each(op, "adj", adj, spatial, 0)
    whole = [
        (size - 1) * s + d * (k - 1) + 1
        for size, k, s, d in zip(
            _spatial_shape(data, layout), weight.shape[2:], strides, dilation, strict=True
        )
    ]
    if target_shape is not None:
        wanted = _each(op, "target_shape", target_shape, spatial, 1)
        left_over = [size - target for size, target in zip(whole, wanted, strict=True)]
        padding = [max(0, (size + 1) // 2) for size in left_over]
        extra = [2 * p - size for p, size in zip(padding, left_over, strict=True)]
    if any(not 0 <= e < s for e, s in zip(extra, strides, strict=True)):
        raise OperatorError(f"[{op}] adj must be at least 0 and less than stride; got {extra}.")
    result = invoke(
        "convolution_backward_data",
        (data, weight),
        {
            "stride": strides,
            "padding": padding,
            "dilation": dilation,
            "groups": num_group,
            "layout": layout,
            "size": [n - 2 * p + e for n, p, e in zip(whole, padding, extra, strict=True)],
        },
    )
    if bias is None or no_bias:
        return result
    along = (filters,) if layout[-1] == "C" else (filters, *[1] * spatial)
    return add(result, reshape_array(as_array(bias), along))


@public
def pooling(
    data: ArrayLike,
    kernel: Sizes = None,
    stride: Sizes = None,
    pad: Sizes = None,
    pool_type: str = "max",
    pooling_convention: str = "valid",
    global_pool: bool = False,
    p_value: int = 2,
    count_include_pad: bool = True,
    layout: str | None = None,
) -> Array:
    """One number for each window of each channel: its largest, mean, sum, or norm.

    Args:
        data: Array (n, channels, *spatial), or (n, *spatial, channels) in a channels-last layout.
        kernel: Spatial sizes of a window: one number, or one for each axis. Not needed with `global_pool`.
        stride: Step of the window. None for 1.
        pad: Elements added at both ends of each spatial axis, fewer than kernel. None for 0.
        pool_type: max, avg, sum, or lp: (sum |x|^p)^(1/p).
        pooling_convention: valid: windows lie within the padded input; full: the last one may reach beyond.
        global_pool: One window over all spatial axes.
        p_value: p of lp: 1, 2 or 3.
        count_include_pad: The mean counts the padding as elements of value 0.
        layout: NCW, NCHW, NCDHW, NWC, NHWC or NDHWC; None for channels first.

    Returns:
        Array (n, channels, *windows) in the same layout.

    Raises:
        OperatorError: The shapes do not fit, or a name is unknown.

    Example:
        >>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
        >>> npx.pooling(x, kernel=2, stride=2), npx.pooling(x, kernel=2, stride=2, pool_type="avg")
        (array([[[3., 2.]]]), array([[[2., 1.]]]))
    """
    op = "pooling"
    data = as_array(data)
    layout = _layout(op, data, layout)
    spatial = data.ndim - 2
    if pooling_convention not in ("valid", "full"):
        raise OperatorError(f"[{op}] pooling_convention must be valid or full; got {pooling_convention!r}.")
    if kernel is None and not global_pool:
        raise OperatorError(f"[{op}] kernel must be given; got None.")
    attributes: dict[str, Any] = {"kernel": list(_spatial_shape(data, layout)), "layout": layout}
    if not global_pool:
        attributes |= {
            "kernel": _each(op, "kernel", kernel, spatial, 1),
            "stride": _each(op, "stride", stride, spatial, 1),
            "padding": _each(op, "pad", pad, spatial, 0),
            "ceil_mode": pooling_convention == "full",
        }
    if pool_type == "max":
        return invoke("max_pool", (data,), attributes)[0]
    if pool_type == "avg":
        return invoke("avg_pool", (data,), {**attributes, "count_include_pad": count_include_pad})
    if pool_type == "sum":
        return _window_sum(data, attributes)
    if pool_type == "lp":
        if p_value not in (1, 2, 3):
            raise OperatorError(f"[{op}] p_value must be 1, 2 or 3; got {p_value}.")
        powers = square(data) if p_value == 2 else power(abs(data), float(p_value))
        return power(_window_sum(powers, attributes), 1.0 / p_value)
    raise OperatorError(f"[{op}] pool_type must be max, avg, sum or lp; got {pool_type!r}.")


def _window_sum(data: Array, attributes: dict[str, Any]) -> Array:
    """The mean times the window's size, where no window is cut."""
    if attributes.get("ceil_mode"):
        raise OperatorError("[pooling] sum and lp must have pooling_convention=valid; got full.")
    volume = 1.0
    for size in attributes["kernel"]:
        volume *= size
    return invoke("avg_pool", (data,), {**attributes, "count_include_pad": True}) * volume


@public
def adaptive_pooling(
    data: ArrayLike, output_size: Sizes = 1, pool_type: str = "avg", layout: str | None = None
) -> Array:
    """Pooling with as many windows as are asked for: window i of m lies between i n / m and (i + 1) n / m.

    Args:
        data: Array (n, channels, *spatial), or (n, *spatial, channels) in a channels-last layout.
        output_size: Number of windows: one number, or one for each spatial axis.
        pool_type: avg or max.
        layout: NCW, NCHW, NCDHW, NWC, NHWC or NDHWC; None for channels first.

    Returns:
        Array (n, channels, *output_size) in the same layout.

    Raises:
        OperatorError: A size is not positive, or a name is unknown.

    Example:
        >>> npx.adaptive_pooling(np.array([[[1.0, 3.0, 2.0, 0.0, 4.0]]]), 2)
        array([[[2., 2.]]])
    """
    data = as_array(data)
    layout = _layout("adaptive_pooling", data, layout)
    attributes = {
        "output_size": _each("adaptive_pooling", "output_size", output_size, data.ndim - 2, 1),
        "layout": layout,
    }
    if pool_type == "avg":
        return invoke("avg_pool", (data,), attributes)
    if pool_type == "max":
        return invoke("max_pool", (data,), attributes)[0]
    raise OperatorError(f"[adaptive_pooling] pool_type must be avg or max; got {pool_type!r}.")
