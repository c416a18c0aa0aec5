"""The benchmark models by their sizes: names, shapes and initial values of their parameters, and their work.

Dense weights are (out, in), convolution weights (out, in, height, width) without bias. An LSTM's gates are in
the order input, forget, cell, output, with two biases. `Draw` says how a parameter begins.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

MLP = (64, 256, 256, 1)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A BERT-like encoder, layer norm after each sum, no mask, no dropout; classifies the first token."""

    layers: int = 4
    hidden: int = 768
    heads: int = 12
    ffn: int = 3072
    length: int = 128
    vocabulary: int = 30522
    classes: int = 2
    eps: float = 1e-5


@dataclasses.dataclass(frozen=True)
class Forecaster:
    """Stacked LSTM over a series; a dense head on the last state gives the horizon."""

    layers: int = 2
    hidden: int = 128
    length: int = 168
    features: int = 8
    horizon: int = 24


@dataclasses.dataclass(frozen=True)
class Recommender:
    """DLRM: embeddings and a bottom MLP, their pairwise dot products, a top MLP."""

    tables: int = 26
    rows: int = 100_000
    dim: int = 16
    dense: int = 13
    bottom: tuple[int, ...] = (13, 512, 256, 64, 16)

    @property
    def top(self) -> tuple[int, ...]:
        """Widths: what the bottom MLP gives and a product for each pair of the vectors, then the layers."""
        vectors = self.tables + 1
        return (self.dim + vectors * (vectors - 1) // 2, 512, 256, 1)


@dataclasses.dataclass(frozen=True)
class ResNet:
    """ResNet v1: the stride is on a block's first convolution."""

    stem: tuple[int, int, int]  # kernel, stride, padding
    pool: bool  # 3 x 3, stride 2, after the stem
    blocks: tuple[int, ...]  # a stage
    bottleneck: bool
    classes: int
    size: int  # of the images

    @property
    def features(self) -> int:
        """Channels after the last stage."""
        return 2048 if self.bottleneck else 512


ENCODER, FORECASTER, RECOMMENDER = Encoder(), Forecaster(), Recommender()
RESNETS = {
    "resnet50": ResNet((7, 2, 3), True, (3, 4, 6, 3), True, 1000, 224),
    "resnet18c": ResNet((3, 1, 1), False, (2, 2, 2, 2), False, 10, 32),
}


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution of a residual network, batch norm behind it; padding is kernel // 2 but in the stem."""

    name: str  # block.conv0
    inputs: int
    outputs: int
    kernel: int
    stride: int

    @property
    def norm(self) -> str:
        """Name of the batch norm behind it."""
        block, number = self.name.split(".conv")
        return f"{block}.bn{number}"


@dataclasses.dataclass(frozen=True)
class Block:
    """A residual block: its convolutions in order, and the one on the shortcut if there is one."""

    name: str
    convolutions: tuple[Convolution, ...]
    shortcut: Convolution | None


def residual_blocks(resnet: ResNet) -> Iterator[Block]:
    """Blocks in running order."""
    inputs = 64
    for stage, count in enumerate(resnet.blocks):
        width = 64 << stage
        outputs = 4 * width if resnet.bottleneck else width
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            name = f"s{stage}b{number}"
            kernels = (
                ((width, 1), (width, 3), (outputs, 1)) if resnet.bottleneck else ((width, 3), (width, 3))
            )
            convolutions, channels = [], inputs
            for index, (filters, kernel) in enumerate(kernels):
                step = stride if index == 0 else 1
                convolutions.append(Convolution(f"{name}.conv{index}", channels, filters, kernel, step))
                channels = filters
            changes = stride != 1 or inputs != outputs
            shortcut = Convolution(f"{name}.conv_down", inputs, outputs, 1, stride) if changes else None
            yield Block(name, tuple(convolutions), shortcut)
            inputs = outputs


@dataclasses.dataclass(frozen=True)
class Draw:
    """How a parameter begins: constant `low`, normal of deviation `high`, or uniform in [low, high)."""

    kind: str
    low: float = 0.0
    high: float = 0.0


Parameter = tuple[str, tuple[int, ...], Draw]


def constant(value: float) -> Draw:
    """All elements alike."""
    return Draw("constant", value)


def normal(deviation: float) -> Draw:
    """Around 0."""
    return Draw("normal", 0.0, deviation)


def uniform(bound: float) -> Draw:
    """Between -bound and bound."""
    return Draw("uniform", -bound, bound)


def dense(name: str, inputs: int, outputs: int) -> list[Parameter]:
    """Weight and bias, uniform within 1 / sqrt(inputs)."""
    draw = uniform(inputs**-0.5)
    return [(f"{name}.weight", (outputs, inputs), draw), (f"{name}.bias", (outputs,), draw)]


def mlp(prefix: str, widths: tuple[int, ...]) -> list[Parameter]:
    """Dense layers prefix0, prefix1 and so on."""
    pairs = enumerate(itertools.pairwise(widths))
    return [parameter for index, (a, b) in pairs for parameter in dense(f"{prefix}{index}", a, b)]


def _convolution(one: Convolution, gamma: float) -> list[Parameter]:
    channels = (one.outputs,)
    deviation = (2 / (one.outputs * one.kernel**2)) ** 0.5
    return [
        (f"{one.name}.weight", (one.outputs, one.inputs, one.kernel, one.kernel), normal(deviation)),
        (f"{one.norm}.weight", channels, constant(gamma)),
        (f"{one.norm}.bias", channels, constant(0.0)),
        (f"{one.norm}.running_mean", channels, normal(0.1)),
        (f"{one.norm}.running_var", channels, Draw("uniform", 0.5, 1.5)),
    ]


def resnet(name: str) -> list[Parameter]:
    """The last batch norm of a block begins with gamma 0.5, all others with 1."""
    net = RESNETS[name]
    parameters = _convolution(Convolution("stem.conv0", 3, 64, *net.stem[:2]), 1.0)
    for block in residual_blocks(net):
        last = block.convolutions[-1]
        for one in block.convolutions:
            parameters += _convolution(one, 0.5 if one is last else 1.0)
        if block.shortcut:
            parameters += _convolution(block.shortcut, 1.0)
    return parameters + dense("fc", net.features, net.classes)


def _layer_norm(name: str) -> list[Parameter]:
    width = (ENCODER.hidden,)
    return [(f"{name}.gamma", width, constant(1.0)), (f"{name}.beta", width, constant(0.0))]


def encoder() -> list[Parameter]:
    """Embeddings of tokens and positions, layers, pooling and classifier."""
    hidden, ffn = ENCODER.hidden, ENCODER.ffn
    parameters = [("tok", (ENCODER.vocabulary, hidden), normal(0.02))]
    parameters += [("pos", (ENCODER.length, hidden), normal(0.02)), *_layer_norm("ln")]
    for layer in range(ENCODER.layers):
        name = f"l{layer}"
        parameters += dense(f"{name}.qkv", hidden, 3 * hidden) + dense(f"{name}.out", hidden, hidden)
        parameters += _layer_norm(f"{name}.ln1")
        parameters += dense(f"{name}.up", hidden, ffn) + dense(f"{name}.down", ffn, hidden)
        parameters += _layer_norm(f"{name}.ln2")
    return parameters + dense("pool", hidden, hidden) + dense("cls", hidden, ENCODER.classes)


def forecaster() -> list[Parameter]:
    """All of the LSTM uniform within 1 / sqrt(hidden)."""
    hidden, parameters = FORECASTER.hidden, list[Parameter]()
    for layer in range(FORECASTER.layers):
        inputs = hidden if layer else FORECASTER.features
        shapes = {"weight_ih": (4 * hidden, inputs), "weight_hh": (4 * hidden, hidden)}
        for kind, shape in (shapes | {"bias_ih": (4 * hidden,), "bias_hh": (4 * hidden,)}).items():
            parameters.append((f"lstm.{kind}_l{layer}", shape, uniform(hidden**-0.5)))
    return parameters + dense("head", hidden, FORECASTER.horizon)


def recommender() -> list[Parameter]:
    """One array for all tables."""
    tables = (RECOMMENDER.tables, RECOMMENDER.rows, RECOMMENDER.dim)
    nets = mlp("bot", RECOMMENDER.bottom) + mlp("top", RECOMMENDER.top)
    return [("emb", tables, normal(0.1)), *nets]


PARAMETERS = {
    "mlp": lambda: mlp("fc", MLP),
    "encoder": encoder,
    "lstm": forecaster,
    "dlrm": recommender,
    "resnet50": lambda: resnet("resnet50"),
    "resnet18c": lambda: resnet("resnet18c"),
}


def _mlp_products(widths: tuple[int, ...]) -> int:
    return sum(a * b for a, b in itertools.pairwise(widths))


def _resnet_products(name: str) -> int:
    net = RESNETS[name]
    side = net.size // net.stem[1]
    products = 3 * 64 * net.stem[0] ** 2 * side**2
    side //= 2 if net.pool else 1
    for block in residual_blocks(net):
        side //= block.convolutions[0].stride
        every = [*block.convolutions, *([block.shortcut] if block.shortcut else [])]
        products += sum(one.inputs * one.outputs * one.kernel**2 * side**2 for one in every)
    return products + net.features * net.classes


def _encoder_products() -> int:
    hidden, length = ENCODER.hidden, ENCODER.length
    dense_part = 4 * hidden**2 + 2 * hidden * ENCODER.ffn
    return ENCODER.layers * length * (dense_part + 2 * length * hidden)


def _forecaster_products() -> int:
    return FORECASTER.length * 4 * FORECASTER.hidden * (FORECASTER.features + 3 * FORECASTER.hidden)


def _recommender_products() -> int:
    vectors = RECOMMENDER.tables + 1
    nets = _mlp_products(RECOMMENDER.bottom) + _mlp_products(RECOMMENDER.top)
    return nets + vectors**2 * RECOMMENDER.dim


MULTIPLY_ADDS = {  # of one sample's forward pass, in matrix products and convolutions
    "mlp": lambda: _mlp_products(MLP),
    "encoder": _encoder_products,
    "lstm": _forecaster_products,
    "dlrm": _recommender_products,
    "resnet50": lambda: _resnet_products("resnet50"),
    "resnet18c": lambda: _resnet_products("resnet18c"),
}
