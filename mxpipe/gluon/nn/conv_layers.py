"""Convolutions and transposed convolutions over 1, 2 or 3 spatial axes.

Data is (batch, channels, *spatial), or (batch, *spatial, channels) in a channels-last `layout`; weights have
one shape in every layout, so that parameters can be moved between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxpipe import initializer, npx
from mxpipe._native import Array
from mxpipe.errors import BlockError
from mxpipe.gluon.hybrid import HybridBlock
from mxpipe.gluon.parameter import Parameter

from .activations import Activation

__all__ = [
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
]

_Init = str | initializer.Initializer | None
_Sizes = int | Sequence[int]

LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


def as_sizes(layer: str, name: str, values: _Sizes, spatial: int) -> tuple[int, ...]:
    """One number for each spatial axis."""
    sizes = (values,) * spatial if isinstance(values, int) else tuple(int(value) for value in values)
    if len(sizes) != spatial:
        raise BlockError(f"[{layer}] {name} must be a number or {spatial} of them; got {values}.")
    return sizes


def check_layout(layer: str, layout: str, spatial: int) -> str:
    """Give back a layout that has the right number of axes."""
    if layout not in LAYOUTS[spatial]:
        known = " or ".join(LAYOUTS[spatial])
        raise BlockError(f"[{layer}] layout must be {known}; got {layout!r}.")
    return layout


class _Convolution(HybridBlock):
    """What all convolutions share: parameters, shapes found at the first call, and the activation."""

    def __init__(
        self,
        spatial: int,
        channels: int,
        kernel_size: _Sizes,
        strides: _Sizes,
        padding: _Sizes,
        dilation: _Sizes,
        groups: int,
        layout: str,
        activation: str | None,
        use_bias: bool,
        weight_initializer: _Init,
        bias_initializer: _Init,
        in_channels: int,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if channels < 1 or groups < 1 or channels % groups or in_channels % groups:
            raise BlockError(
                f"[{name}] channels and in_channels must be multiples of groups; "
                f"got {channels}, {in_channels} and {groups}."
            )
        self._channels, self._groups = channels, groups
        self._layout = check_layout(name, layout, spatial)
        self._kernel = as_sizes(name, "kernel_size", kernel_size, spatial)
        self._strides = as_sizes(name, "strides", strides, spatial)
        self._padding = as_sizes(name, "padding", padding, spatial)
        self._dilation = as_sizes(name, "dilation", dilation, spatial)
        self.weight = Parameter(
            shape=self._weight_shape(in_channels), init=weight_initializer, allow_deferred_init=True
        )
        self.bias = (
            Parameter(shape=(channels,), init=bias_initializer, allow_deferred_init=True)
            if use_bias
            else None
        )
        self.act = Activation(activation) if activation is not None else None

    def _weight_shape(self, in_channels: int) -> tuple[int, ...]:
        return (self._channels, in_channels // self._groups, *self._kernel)

    def _windows(self) -> dict[str, Any]:
        return {
            "stride": self._strides,
            "pad": self._padding,
            "dilate": self._dilation,
            "num_group": self._groups,
            "layout": self._layout,
        }

    def infer_shape(self, x: Array, *args: Any) -> None:
        """Take the number of channels from x."""
        if x.ndim != len(self._layout):
            raise BlockError(
                f"[{type(self).__name__}] x must have the axes of {self._layout}; got shape {x.shape}."
            )
        in_channels = x.shape[self._layout.index("C")]
        if in_channels % self._groups:
            raise BlockError(
                f"[{type(self).__name__}] the channels must be a multiple of groups={self._groups}; "
                f"got {in_channels}."
            )
        self.weight.shape = self._weight_shape(in_channels)

    def forward(self, x: Array) -> Array:
        """(batch, in_channels, *spatial) to (batch, channels, *windows), in the layer's layout."""
        bias = self.bias.data() if self.bias is not None else None
        result = npx.convolution(x, self.weight.data(), bias, **self._windows())
        return result if self.act is None else self.act(result)

    def __repr__(self) -> str:
        shape = self.weight.shape or ()
        return (
            f"{type(self).__name__}({(shape[1] if len(shape) > 1 else 0) * self._groups or None} -> "
            f"{self._channels}, kernel_size={self._kernel}, stride={self._strides}, "
            f"padding={self._padding}, groups={self._groups}, layout={self._layout}, {self.act or 'linear'})"
        )


class _Transposed(_Convolution):
    """Adds `output_padding`; the weight is (in_channels, channels / groups, *kernel)."""

    def __init__(self, spatial: int, *args: Any, output_padding: _Sizes) -> None:
        super().__init__(spatial, *args)
        self._output_padding = as_sizes(type(self).__name__, "output_padding", output_padding, spatial)

    def _weight_shape(self, in_channels: int) -> tuple[int, ...]:
        return (in_channels, self._channels // self._groups, *self._kernel)

    def forward(self, x: Array) -> Array:
        """(batch, in_channels, *spatial) to (batch, channels, *larger), in the layer's layout."""
        bias = self.bias.data() if self.bias is not None else None
        result = npx.deconvolution(x, self.weight.data(), bias, adj=self._output_padding, **self._windows())
        return result if self.act is None else self.act(result)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({(self.weight.shape or (0,))[0] or None} -> {self._channels}, "
            f"kernel_size={self._kernel}, stride={self._strides}, padding={self._padding}, "
            f"output_padding={self._output_padding}, groups={self._groups}, layout={self._layout}, "
            f"{self.act or 'linear'})"
        )


class Conv1D(_Convolution):
    """Convolution over one axis: series.

    Args:
        channels: Number of channels of the result.
        kernel_size: Spatial sizes of the kernel: one number, or one for each axis.
        strides: Step of the window.
        padding: Zeros added at both ends of each spatial axis.
        dilation: Distance between the kernel's elements.
        groups: Channels are split into this many groups, each with kernels of its own.
        layout: NCW or NWC.
        activation: Name of an `Activation`; none where None.
        use_bias: Whether there is a bias.
        weight_initializer: For weight (channels, in_channels / groups, *kernel_size).
        bias_initializer: For bias (channels,).
        in_channels: Number of channels of the input; 0 takes it from the first input.

    Example:
        >>> import mxpipe as mx
        >>> layer = Conv1D(8, kernel_size=3, padding=1)
        >>> layer.initialize()
        >>> layer(mx.np.ones((2, 3, 6))).shape
        (2, 8, 6)
    """

    def __init__(
        self,
        channels: int,
        kernel_size: _Sizes,
        strides: _Sizes = 1,
        padding: _Sizes = 0,
        dilation: _Sizes = 1,
        groups: int = 1,
        layout: str = "NCW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: _Init = None,
        bias_initializer: _Init = "zeros",
        in_channels: int = 0,
    ) -> None:
        super().__init__(
            1,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            in_channels,
        )


class Conv2D(_Convolution):
    """Convolution over two axes: images.

    Args:
        channels: Number of channels of the result.
        kernel_size: Spatial sizes of the kernel: one number, or one for each axis.
        strides: Step of the window.
        padding: Zeros added at both ends of each spatial axis.
        dilation: Distance between the kernel's elements.
        groups: Channels are split into this many groups, each with kernels of its own.
        layout: NCHW or NHWC.
        activation: Name of an `Activation`; none where None.
        use_bias: Whether there is a bias.
        weight_initializer: For weight (channels, in_channels / groups, *kernel_size).
        bias_initializer: For bias (channels,).
        in_channels: Number of channels of the input; 0 takes it from the first input.

    Example:
        >>> import mxpipe as mx
        >>> layer = Conv2D(8, kernel_size=3, padding=1)
        >>> layer.initialize()
        >>> layer(mx.np.ones((2, 3, 6, 6))).shape
        (2, 8, 6, 6)
    """

    def __init__(
        self,
        channels: int,
        kernel_size: _Sizes,
        strides: _Sizes = (1, 1),
        padding: _Sizes = (0, 0),
        dilation: _Sizes = (1, 1),
        groups: int = 1,
        layout: str = "NCHW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: _Init = None,
        bias_initializer: _Init = "zeros",
        in_channels: int = 0,
    ) -> None:
        super().__init__(
            2,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            in_channels,
        )


class Conv3D(_Convolution):
    """Convolution over three axes: volumes and videos.

    Args:
        channels: Number of channels of the result.
        kernel_size: Spatial sizes of the kernel: one number, or one for each axis.
        strides: Step of the window.
        padding: Zeros added at both ends of each spatial axis.
        dilation: Distance between the kernel's elements.
        groups: Channels are split into this many groups, each with kernels of its own.
        layout: NCDHW or NDHWC.
        activation: Name of an `Activation`; none where None.
        use_bias: Whether there is a bias.
        weight_initializer: For weight (channels, in_channels / groups, *kernel_size).
        bias_initializer: For bias (channels,).
        in_channels: Number of channels of the input; 0 takes it from the first input.

    Example:
        >>> import mxpipe as mx
        >>> layer = Conv3D(8, kernel_size=3, padding=1)
        >>> layer.initialize()
        >>> layer(mx.np.ones((2, 3, 6, 6, 6))).shape
        (2, 8, 6, 6, 6)
    """

    def __init__(
        self,
        channels: int,
        kernel_size: _Sizes,
        strides: _Sizes = (1, 1, 1),
        padding: _Sizes = (0, 0, 0),
        dilation: _Sizes = (1, 1, 1),
        groups: int = 1,
        layout: str = "NCDHW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: _Init = None,
        bias_initializer: _Init = "zeros",
        in_channels: int = 0,
    ) -> None:
        super().__init__(
            3,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            in_channels,
        )


class Conv1DTranspose(_Transposed):
    """The transposed convolution over one axis: enlarges where `Conv1D` with these arguments shrinks.

    Args:
        channels: Number of channels of the result.
        kernel_size: Spatial sizes of the kernel: one number, or one for each axis.
        strides: Distance between the kernel's copies of neighbouring elements.
        padding: Elements cut off at both ends of each spatial axis.
        output_padding: Elements added at the end of each spatial axis, fewer than strides.
        dilation: Distance between the kernel's elements.
        groups: Channels are split into this many groups, each with kernels of its own.
        layout: NCW or NWC.
        activation: Name of an `Activation`; none where None.
        use_bias: Whether there is a bias.
        weight_initializer: For weight (in_channels, channels / groups, *kernel_size).
        bias_initializer: For bias (channels,).
        in_channels: Number of channels of the input; 0 takes it from the first input.

    Example:
        >>> import mxpipe as mx
        >>> layer = Conv1DTranspose(8, kernel_size=4, strides=2, padding=1)
        >>> layer.initialize()
        >>> layer(mx.np.ones((2, 3, 6))).shape
        (2, 8, 12)
    """

    def __init__(
        self,
        channels: int,
        kernel_size: _Sizes,
        strides: _Sizes = 1,
        padding: _Sizes = 0,
        output_padding: _Sizes = 0,
        dilation: _Sizes = 1,
        groups: int = 1,
        layout: str = "NCW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: _Init = None,
        bias_initializer: _Init = "zeros",
        in_channels: int = 0,
    ) -> None:
        super().__init__(
            1,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            in_channels,
            output_padding=output_padding,
        )


class Conv2DTranspose(_Transposed):
    """The transposed convolution over two axes: enlarges where `Conv2D` with these arguments shrinks.

    Args:
        channels: Number of channels of the result.
        kernel_size: Spatial sizes of the kernel: one number, or one for each axis.
        strides: Distance between the kernel's copies of neighbouring elements.
        padding: Elements cut off at both ends of each spatial axis.
        output_padding: Elements added at the end of each spatial axis, fewer than strides.
        dilation: Distance between the kernel's elements.
        groups: Channels are split into this many groups, each with kernels of its own.
        layout: NCHW or NHWC.
        activation: Name of an `Activation`; none where None.
        use_bias: Whether there is a bias.
        weight_initializer: For weight (in_channels, channels / groups, *kernel_size).
        bias_initializer: For bias (channels,).
        in_channels: Number of channels of the input; 0 takes it from the first input.

    Example:
        >>> import mxpipe as mx
        >>> layer = Conv2DTranspose(8, kernel_size=4, strides=2, padding=1)
        >>> layer.initialize()
        >>> layer(mx.np.ones((2, 3, 6, 6))).shape
        (2, 8, 12, 12)
    """

    def __init__(
        self,
        channels: int,
        kernel_size: _Sizes,
        strides: _Sizes = (1, 1),
        padding: _Sizes = (0, 0),
        output_padding: _Sizes = (0, 0),
        dilation: _Sizes = (1, 1),
        groups: int = 1,
        layout: str = "NCHW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: _Init = None,
        bias_initializer: _Init = "zeros",
        in_channels: int = 0,
    ) -> None:
        super().__init__(
            2,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            in_channels,
            output_padding=output_padding,
        )


class Conv3DTranspose(_Transposed):
    """The transposed convolution over three axes: enlarges where `Conv3D` with these arguments shrinks.

    Args:
        channels: Number of channels of the result.
        kernel_size: Spatial sizes of the kernel: one number, or one for each axis.
        strides: Distance between the kernel's copies of neighbouring elements.
        padding: Elements cut off at both ends of each spatial axis.
        output_padding: Elements added at the end of each spatial axis, fewer than strides.
        dilation: Distance between the kernel's elements.
        groups: Channels are split into this many groups, each with kernels of its own.
        layout: NCDHW or NDHWC.
        activation: Name of an `Activation`; none where None.
        use_bias: Whether there is a bias.
        weight_initializer: For weight (in_channels, channels / groups, *kernel_size).
        bias_initializer: For bias (channels,).
        in_channels: Number of channels of the input; 0 takes it from the first input.

    Example:
        >>> import mxpipe as mx
        >>> layer = Conv3DTranspose(8, kernel_size=4, strides=2, padding=1)
        >>> layer.initialize()
        >>> layer(mx.np.ones((2, 3, 6, 6, 6))).shape
        (2, 8, 12, 12, 12)
    """

    def __init__(
        self,
        channels: int,
        kernel_size: _Sizes,
        strides: _Sizes = (1, 1, 1),
        padding: _Sizes = (0, 0, 0),
        output_padding: _Sizes = (0, 0, 0),
        dilation: _Sizes = (1, 1, 1),
        groups: int = 1,
        layout: str = "NCDHW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: _Init = None,
        bias_initializer: _Init = "zeros",
        in_channels: int = 0,
    ) -> None:
        super().__init__(
            3,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            in_channels,
            output_padding=output_padding,
        )
