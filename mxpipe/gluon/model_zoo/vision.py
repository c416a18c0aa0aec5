"""Networks for images: residual networks (He, Zhang, Ren and Sun, "Deep Residual Learning", 2015).

All take images (batch, 3, height, width) and give logits (batch, classes). The stride of a bottleneck is on
its first convolution, as in the paper.

Example:
    >>> import mxpipe as mx
    >>> net = mx.gluon.model_zoo.vision.get_model("resnet18_v1", classes=10, thumbnail=True)
    >>> net.initialize(mx.init.Xavier())
    >>> net(mx.np.ones((2, 3, 32, 32))).shape
    (2, 10)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mxpipe import npx
from mxpipe._native import Array
from mxpipe.errors import SpecificationError
from mxpipe.gluon import nn
from mxpipe.gluon.hybrid import HybridBlock

from .registry import get_model, register

__all__ = [
    "BasicBlockV1",
    "BottleneckV1",
    "ResNetV1",
    "get_model",
    "get_resnet",
    "resnet18_v1",
    "resnet34_v1",
    "resnet50_v1",
    "resnet101_v1",
    "resnet152_v1",
]


def _downsample(channels: int, stride: int, in_channels: int) -> nn.HybridSequential:
    """What brings the shortcut to the shape of the body's result."""
    shortcut = nn.HybridSequential()
    shortcut.add(
        nn.Conv2D(channels, 1, strides=stride, use_bias=False, in_channels=in_channels),
        nn.BatchNorm(in_channels=channels),
    )
    return shortcut


class _Residual(HybridBlock):
    """relu(body(x) + shortcut(x))."""

    def __init__(self, body: nn.HybridSequential, downsample: nn.HybridSequential | None) -> None:
        super().__init__()
        self.body = body
        self.downsample = downsample

    def forward(self, x: Array) -> Array:
        """(batch, in_channels, height, width) to (batch, channels, height / stride, width / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return npx.relu(self.body(x) + shortcut)


class BasicBlockV1(_Residual):
    """Two 3x3 convolutions; of ResNet 18 and 34.

    Args:
        channels: Number of channels of the result.
        stride: Of the first convolution.
        downsample: Whether the shortcut is a convolution; needed where the shape changes.
        in_channels: Number of channels of the input; 0 takes it from the first input.
    """

    def __init__(self, channels: int, stride: int, downsample: bool = False, in_channels: int = 0) -> None:
        body = nn.HybridSequential()
        body.add(
            nn.Conv2D(channels, 3, strides=stride, padding=1, use_bias=False, in_channels=in_channels),
            nn.BatchNorm(in_channels=channels),
            nn.Activation("relu"),
            nn.Conv2D(channels, 3, padding=1, use_bias=False, in_channels=channels),
            nn.BatchNorm(in_channels=channels),
        )
        super().__init__(body, _downsample(channels, stride, in_channels) if downsample else None)


class BottleneckV1(_Residual):
    """A 1x1, a 3x3 and a 1x1 convolution, the inner ones with a quarter of the channels; of ResNet 50 and up.

    Args:
        channels: Number of channels of the result.
        stride: Of the first convolution.
        downsample: Whether the shortcut is a convolution; needed where the shape changes.
        in_channels: Number of channels of the input; 0 takes it from the first input.
    """

    def __init__(self, channels: int, stride: int, downsample: bool = False, in_channels: int = 0) -> None:
        inner = channels // 4
        body = nn.HybridSequential()
        body.add(
            nn.Conv2D(inner, 1, strides=stride, use_bias=False, in_channels=in_channels),
            nn.BatchNorm(in_channels=inner),
            nn.Activation("relu"),
            nn.Conv2D(inner, 3, padding=1, use_bias=False, in_channels=inner),
            nn.BatchNorm(in_channels=inner),
            nn.Activation("relu"),
            nn.Conv2D(channels, 1, use_bias=False, in_channels=inner),
            nn.BatchNorm(in_channels=channels),
        )
        super().__init__(body, _downsample(channels, stride, in_channels) if downsample else None)


_Block = Callable[..., _Residual]

_RESNETS: dict[int, tuple[_Block, list[int], list[int]]] = {
    18: (BasicBlockV1, [2, 2, 2, 2], [64, 64, 128, 256, 512]),
    34: (BasicBlockV1, [3, 4, 6, 3], [64, 64, 128, 256, 512]),
    50: (BottleneckV1, [3, 4, 6, 3], [64, 256, 512, 1024, 2048]),
    101: (BottleneckV1, [3, 4, 23, 3], [64, 256, 512, 1024, 2048]),
    152: (BottleneckV1, [3, 8, 36, 3], [64, 256, 512, 1024, 2048]),
}


class ResNetV1(HybridBlock):
    """A residual network: `features`, whose last block is the global mean, and the dense layer `output`.

    Args:
        block: `BasicBlockV1` or `BottleneckV1`.
        layers: Number of blocks in each stage.
        channels: Number of channels of the stem, then of each stage.
        classes: Number of logits.
        thumbnail: For small images (32x32): the stem is one 3x3 convolution instead of a 7x7 convolution with
            stride 2, normalization, relu and max pooling.
    """

    def __init__(
        self,
        block: _Block,
        layers: Sequence[int],
        channels: Sequence[int],
        classes: int = 1000,
        thumbnail: bool = False,
    ) -> None:
        super().__init__()
        if len(layers) != len(channels) - 1:
            raise SpecificationError(
                f"[ResNetV1] channels must be those of the stem and of each of {len(layers)} stages; "
                f"got {len(channels)}."
            )
        self.features = nn.HybridSequential()
        if thumbnail:
            self.features.add(nn.Conv2D(channels[0], 3, padding=1, use_bias=False, in_channels=3))
        else:
            self.features.add(
                nn.Conv2D(channels[0], 7, strides=2, padding=3, use_bias=False, in_channels=3),
                nn.BatchNorm(in_channels=channels[0]),
                nn.Activation("relu"),
                nn.MaxPool2D(3, 2, 1),
            )
        for index, count in enumerate(layers):
            stride = 1 if index == 0 else 2
            self.features.add(_stage(block, count, channels[index + 1], stride, channels[index]))
        self.features.add(nn.GlobalAvgPool2D())
        self.output = nn.Dense(classes, in_units=channels[-1])

    def forward(self, x: Array) -> Array:
        """Images (batch, 3, height, width) to logits (batch, classes)."""
        logits: Array = self.output(self.features(x))
        return logits


def _stage(block: _Block, count: int, channels: int, stride: int, in_channels: int) -> nn.HybridSequential:
    stage = nn.HybridSequential()
    stage.add(block(channels, stride, stride != 1 or channels != in_channels, in_channels=in_channels))
    for _ in range(count - 1):
        stage.add(block(channels, 1, in_channels=channels))
    return stage


def get_resnet(version: int, num_layers: int, classes: int = 1000, thumbnail: bool = False) -> ResNetV1:
    """A residual network by its depth.

    Args:
        version: 1.
        num_layers: 18, 34, 50, 101 or 152.
        classes: Number of logits.
        thumbnail: For small images; see `ResNetV1`.

    Raises:
        SpecificationError: There is no such network.
    """
    if version != 1 or num_layers not in _RESNETS:
        raise SpecificationError(
            f"[get_resnet] version must be 1 and num_layers one of {', '.join(map(str, _RESNETS))}; "
            f"got {version} and {num_layers}."
        )
    return ResNetV1(*_RESNETS[num_layers], classes=classes, thumbnail=thumbnail)


@register
def resnet18_v1(classes: int = 1000, thumbnail: bool = False) -> ResNetV1:
    """ResNet-18: 11.7 million parameters; arguments as in `ResNetV1`."""
    return get_resnet(1, 18, classes, thumbnail)


@register
def resnet34_v1(classes: int = 1000, thumbnail: bool = False) -> ResNetV1:
    """ResNet-34: 21.8 million parameters; arguments as in `ResNetV1`."""
    return get_resnet(1, 34, classes, thumbnail)


@register
def resnet50_v1(classes: int = 1000, thumbnail: bool = False) -> ResNetV1:
    """ResNet-50: 25.6 million parameters; arguments as in `ResNetV1`."""
    return get_resnet(1, 50, classes, thumbnail)


@register
def resnet101_v1(classes: int = 1000, thumbnail: bool = False) -> ResNetV1:
    """ResNet-101: 44.5 million parameters; arguments as in `ResNetV1`."""
    return get_resnet(1, 101, classes, thumbnail)


@register
def resnet152_v1(classes: int = 1000, thumbnail: bool = False) -> ResNetV1:
    """ResNet-152: 60.2 million parameters; arguments as in `ResNetV1`."""
    return get_resnet(1, 152, classes, thumbnail)
