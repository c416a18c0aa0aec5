"""Pooling over 1, 2 or 3 spatial axes: fixed windows, one window over everything, or a number of windows."""

from __future__ import annotations

from collections.abc import Sequence

from mxpipe import npx
from mxpipe._native import Array
from mxpipe.gluon.hybrid import HybridBlock

from .conv_layers import as_sizes, check_layout

__all__ = [
    "AdaptiveAvgPool1D",
    "AdaptiveAvgPool2D",
    "AdaptiveAvgPool3D",
    "AdaptiveMaxPool1D",
    "AdaptiveMaxPool2D",
    "AdaptiveMaxPool3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
]

_Sizes = int | Sequence[int]


class _Pooling(HybridBlock):
    """Windows of a fixed size."""

    def __init__(
        self,
        spatial: int,
        pool_type: str,
        pool_size: _Sizes,
        strides: _Sizes | None,
        padding: _Sizes,
        layout: str,
        ceil_mode: bool,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self._pool_type = pool_type
        self._layout = check_layout(name, layout, spatial)
        self._size = as_sizes(name, "pool_size", pool_size, spatial)
        self._strides = self._size if strides is None else as_sizes(name, "strides", strides, spatial)
        self._padding = as_sizes(name, "padding", padding, spatial)
        self._ceil_mode = ceil_mode
        self._count_include_pad = count_include_pad

    def forward(self, x: Array) -> Array:
        """(batch, channels, *spatial) to (batch, channels, *windows), in the layer's layout."""
        return npx.pooling(
            x,
            kernel=self._size,
            stride=self._strides,
            pad=self._padding,
            pool_type=self._pool_type,
            pooling_convention="full" if self._ceil_mode else "valid",
            count_include_pad=self._count_include_pad,
            layout=self._layout,
        )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(size={self._size}, stride={self._strides}, padding={self._padding}, "
            f"ceil_mode={self._ceil_mode}, layout={self._layout})"
        )


class _GlobalPooling(HybridBlock):
    """One window over all spatial axes."""

    def __init__(self, spatial: int, pool_type: str, layout: str) -> None:
        super().__init__()
        self._pool_type = pool_type
        self._layout = check_layout(type(self).__name__, layout, spatial)

    def forward(self, x: Array) -> Array:
        """(batch, channels, *spatial) to (batch, channels, 1, ...), in the layer's layout."""
        return npx.pooling(x, pool_type=self._pool_type, global_pool=True, layout=self._layout)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(layout={self._layout})"


class _AdaptivePooling(HybridBlock):
    """A given number of windows."""

    def __init__(self, spatial: int, pool_type: str, output_size: _Sizes, layout: str) -> None:
        super().__init__()
        name = type(self).__name__
        self._pool_type = pool_type
        self._layout = check_layout(name, layout, spatial)
        self._output_size = as_sizes(name, "output_size", output_size, spatial)

    def forward(self, x: Array) -> Array:
        """(batch, channels, *spatial) to (batch, channels, *output_size), in the layer's layout."""
        return npx.adaptive_pooling(x, self._output_size, self._pool_type, self._layout)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(output_size={self._output_size}, layout={self._layout})"


class MaxPool1D(_Pooling):
    """The largest number of each window of each channel, over one axis.

    Args:
        pool_size: Spatial sizes of a window: one number, or one for each axis.
        strides: Step of the window; None for pool_size.
        padding: Elements added at both ends of each spatial axis, fewer than pool_size.
        layout: NCW or NWC.
        ceil_mode: Let the last window reach beyond the padding.

    Example:
        >>> import mxpipe as mx
        >>> MaxPool1D()(mx.np.ones((2, 3, 6))).shape
        (2, 3, 3)
    """

    def __init__(
        self,
        pool_size: _Sizes = 2,
        strides: _Sizes | None = None,
        padding: _Sizes = 0,
        layout: str = "NCW",
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(1, "max", pool_size, strides, padding, layout, ceil_mode)


class MaxPool2D(_Pooling):
    """The largest number of each window of each channel, over two axes.

    Args:
        pool_size: Spatial sizes of a window: one number, or one for each axis.
        strides: Step of the window; None for pool_size.
        padding: Elements added at both ends of each spatial axis, fewer than pool_size.
        layout: NCHW or NHWC.
        ceil_mode: Let the last window reach beyond the padding.

    Example:
        >>> import mxpipe as mx
        >>> MaxPool2D()(mx.np.ones((2, 3, 6, 6))).shape
        (2, 3, 3, 3)
    """

    def __init__(
        self,
        pool_size: _Sizes = (2, 2),
        strides: _Sizes | None = None,
        padding: _Sizes = 0,
        layout: str = "NCHW",
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(2, "max", pool_size, strides, padding, layout, ceil_mode)


class MaxPool3D(_Pooling):
    """The largest number of each window of each channel, over three axes.

    Args:
        pool_size: Spatial sizes of a window: one number, or one for each axis.
        strides: Step of the window; None for pool_size.
        padding: Elements added at both ends of each spatial axis, fewer than pool_size.
        layout: NCDHW or NDHWC.
        ceil_mode: Let the last window reach beyond the padding.

    Example:
        >>> import mxpipe as mx
        >>> MaxPool3D()(mx.np.ones((2, 3, 6, 6, 6))).shape
        (2, 3, 3, 3, 3)
    """

    def __init__(
        self,
        pool_size: _Sizes = (2, 2, 2),
        strides: _Sizes | None = None,
        padding: _Sizes = 0,
        layout: str = "NCDHW",
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(3, "max", pool_size, strides, padding, layout, ceil_mode)


class AvgPool1D(_Pooling):
    """The mean of each window of each channel, over one axis.

    Args:
        pool_size: Spatial sizes of a window: one number, or one for each axis.
        strides: Step of the window; None for pool_size.
        padding: Elements added at both ends of each spatial axis, fewer than pool_size.
        layout: NCW or NWC.
        ceil_mode: Let the last window reach beyond the padding.
        count_include_pad: Count the padding as elements of value 0.

    Example:
        >>> import mxpipe as mx
        >>> AvgPool1D()(mx.np.ones((2, 3, 6))).shape
        (2, 3, 3)
    """

    def __init__(
        self,
        pool_size: _Sizes = 2,
        strides: _Sizes | None = None,
        padding: _Sizes = 0,
        layout: str = "NCW",
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(1, "avg", pool_size, strides, padding, layout, ceil_mode, count_include_pad)


class AvgPool2D(_Pooling):
    """The mean of each window of each channel, over two axes.

    Args:
        pool_size: Spatial sizes of a window: one number, or one for each axis.
        strides: Step of the window; None for pool_size.
        padding: Elements added at both ends of each spatial axis, fewer than pool_size.
        layout: NCHW or NHWC.
        ceil_mode: Let the last window reach beyond the padding.
        count_include_pad: Count the padding as elements of value 0.

    Example:
        >>> import mxpipe as mx
        >>> AvgPool2D()(mx.np.ones((2, 3, 6, 6))).shape
        (2, 3, 3, 3)
    """

    def __init__(
        self,
        pool_size: _Sizes = (2, 2),
        strides: _Sizes | None = None,
        padding: _Sizes = 0,
        layout: str = "NCHW",
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(2, "avg", pool_size, strides, padding, layout, ceil_mode, count_include_pad)


class AvgPool3D(_Pooling):
    """The mean of each window of each channel, over three axes.

    Args:
        pool_size: Spatial sizes of a window: one number, or one for each axis.
        strides: Step of the window; None for pool_size.
        padding: Elements added at both ends of each spatial axis, fewer than pool_size.
        layout: NCDHW or NDHWC.
        ceil_mode: Let the last window reach beyond the padding.
        count_include_pad: Count the padding as elements of value 0.

    Example:
        >>> import mxpipe as mx
        >>> AvgPool3D()(mx.np.ones((2, 3, 6, 6, 6))).shape
        (2, 3, 3, 3, 3)
    """

    def __init__(
        self,
        pool_size: _Sizes = (2, 2, 2),
        strides: _Sizes | None = None,
        padding: _Sizes = 0,
        layout: str = "NCDHW",
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(3, "avg", pool_size, strides, padding, layout, ceil_mode, count_include_pad)


class GlobalMaxPool1D(_GlobalPooling):
    """The largest number of each channel, over one axis that stays as 1.

    Args:
        layout: NCW or NWC.
    """

    def __init__(self, layout: str = "NCW") -> None:
        super().__init__(1, "max", layout)


class GlobalMaxPool2D(_GlobalPooling):
    """The largest number of each channel, over two axes that stay as 1.

    Args:
        layout: NCHW or NHWC.
    """

    def __init__(self, layout: str = "NCHW") -> None:
        super().__init__(2, "max", layout)


class GlobalMaxPool3D(_GlobalPooling):
    """The largest number of each channel, over three axes that stay as 1.

    Args:
        layout: NCDHW or NDHWC.
    """

    def __init__(self, layout: str = "NCDHW") -> None:
        super().__init__(3, "max", layout)


class GlobalAvgPool1D(_GlobalPooling):
    """The mean of each channel, over one axis that stays as 1.

    Args:
        layout: NCW or NWC.
    """

    def __init__(self, layout: str = "NCW") -> None:
        super().__init__(1, "avg", layout)


class GlobalAvgPool2D(_GlobalPooling):
    """The mean of each channel, over two axes that stay as 1.

    Args:
        layout: NCHW or NHWC.
    """

    def __init__(self, layout: str = "NCHW") -> None:
        super().__init__(2, "avg", layout)


class GlobalAvgPool3D(_GlobalPooling):
    """The mean of each channel, over three axes that stay as 1.

    Args:
        layout: NCDHW or NDHWC.
    """

    def __init__(self, layout: str = "NCDHW") -> None:
        super().__init__(3, "avg", layout)


class AdaptiveMaxPool1D(_AdaptivePooling):
    """The largest number of each of `output_size` windows that cover one axis evenly.

    Args:
        output_size: Number of windows: one number, or one for each axis.
        layout: NCW or NWC.
    """

    def __init__(self, output_size: _Sizes = 1, layout: str = "NCW") -> None:
        super().__init__(1, "max", output_size, layout)


class AdaptiveMaxPool2D(_AdaptivePooling):
    """The largest number of each of `output_size` windows that cover two axes evenly.

    Args:
        output_size: Number of windows: one number, or one for each axis.
        layout: NCHW or NHWC.
    """

    def __init__(self, output_size: _Sizes = 1, layout: str = "NCHW") -> None:
        super().__init__(2, "max", output_size, layout)


class AdaptiveMaxPool3D(_AdaptivePooling):
    """The largest number of each of `output_size` windows that cover three axes evenly.

    Args:
        output_size: Number of windows: one number, or one for each axis.
        layout: NCDHW or NDHWC.
    """

    def __init__(self, output_size: _Sizes = 1, layout: str = "NCDHW") -> None:
        super().__init__(3, "max", output_size, layout)


class AdaptiveAvgPool1D(_AdaptivePooling):
    """The mean of each of `output_size` windows that cover one axis evenly.

    Args:
        output_size: Number of windows: one number, or one for each axis.
        layout: NCW or NWC.
    """

    def __init__(self, output_size: _Sizes = 1, layout: str = "NCW") -> None:
        super().__init__(1, "avg", output_size, layout)


class AdaptiveAvgPool2D(_AdaptivePooling):
    """The mean of each of `output_size` windows that cover two axes evenly.

    Args:
        output_size: Number of windows: one number, or one for each axis.
        layout: NCHW or NHWC.
    """

    def __init__(self, output_size: _Sizes = 1, layout: str = "NCHW") -> None:
        super().__init__(2, "avg", output_size, layout)


class AdaptiveAvgPool3D(_AdaptivePooling):
    """The mean of each of `output_size` windows that cover three axes evenly.

    Args:
        output_size: Number of windows: one number, or one for each axis.
        layout: NCDHW or NDHWC.
    """

    def __init__(self, output_size: _Sizes = 1, layout: str = "NCDHW") -> None:
        super().__init__(3, "avg", output_size, layout)
