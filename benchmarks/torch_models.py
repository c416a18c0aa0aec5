"""The benchmark models as a PyTorch user would write them, by the names of benchmarks/models.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn

from benchmarks.models import (
    ENCODER,
    FORECASTER,
    MLP,
    RECOMMENDER,
    RESNETS,
    Block,
    Convolution,
    residual_blocks,
)


def dense_layers(prefix: str, widths: tuple[int, ...], relu_last: bool = False) -> nn.Sequential:
    """Linear layers prefix0, prefix1 ... with relu between."""
    net = nn.Sequential()
    for index in range(len(widths) - 1):
        net.add_module(f"{prefix}{index}", nn.Linear(widths[index], widths[index + 1]))
        if relu_last or index < len(widths) - 2:
            net.add_module(f"relu{index}", nn.ReLU())
    return net


class Convolved(nn.Module):
    """A convolution with the batch norm behind it."""

    def __init__(self, one: Convolution, padding: int | None = None) -> None:
        super().__init__()
        padding = one.kernel // 2 if padding is None else padding
        self.name, self.norm_name = one.name, one.norm
        self.conv = nn.Conv2d(one.inputs, one.outputs, one.kernel, one.stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(one.outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised, without activation."""
        return self.norm(self.conv(x))

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take the values under this convolution's names."""
        self.conv.weight.data = weights[f"{self.name}.weight"]
        for kind in ("weight", "bias", "running_mean", "running_var"):
            getattr(self.norm, kind).data = weights[f"{self.norm_name}.{kind}"]


class Residual(nn.Module):
    """A residual block, v1."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.path = nn.ModuleList([Convolved(one) for one in block.convolutions])
        self.shortcut = Convolved(block.shortcut) if block.shortcut else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """relu(path(x) + shortcut(x))."""
        y = x
        for index, one in enumerate(self.path):
            y = one(y)
            if index < len(self.path) - 1:
                y = functional.relu(y)
        return functional.relu(y + (self.shortcut(x) if self.shortcut else x))


class ResNet(nn.Module):
    """RESNETS[name]."""

    def __init__(self, name: str) -> None:
        super().__init__()
        sizes = RESNETS[name]
        kernel, stride, padding = sizes.stem
        self.stem = Convolved(Convolution("stem.conv0", 3, 64, kernel, stride), padding)
        self.pool = nn.MaxPool2d(3, 2, 1) if sizes.pool else nn.Identity()
        self.blocks = nn.Sequential(*[Residual(block) for block in residual_blocks(sizes)])
        self.fc = nn.Linear(sizes.features, sizes.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images (n, 3, height, width)."""
        x = self.blocks(self.pool(functional.relu(self.stem(x))))
        return self.fc(x.mean((2, 3)))

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take the workload's values."""
        for module in self.modules():
            if isinstance(module, Convolved):
                module.load(weights)
        load_dense(self.fc, weights, "fc")


def load_dense(layer: nn.Linear, weights: dict[str, torch.Tensor], name: str) -> None:
    """Take name.weight and name.bias."""
    layer.weight.data, layer.bias.data = weights[f"{name}.weight"], weights[f"{name}.bias"]


def load_norm(layer: nn.LayerNorm, weights: dict[str, torch.Tensor], name: str) -> None:
    """Take name.gamma and name.beta."""
    layer.weight.data, layer.bias.data = weights[f"{name}.gamma"], weights[f"{name}.beta"]


class Layer(nn.Module):
    """Attention and feed-forward, each added to its input and normalised."""

    def __init__(self) -> None:
        super().__init__()
        hidden, ffn = ENCODER.hidden, ENCODER.ffn
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
        self.ln1, self.ln2 = nn.LayerNorm(hidden, ENCODER.eps), nn.LayerNorm(hidden, ENCODER.eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, length, hidden) to the same."""
        batch, length, hidden = x.shape
        heads = self.qkv(x).view(batch, length, 3, ENCODER.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*heads)
        x = self.ln1(x + self.out(attended.transpose(1, 2).reshape(batch, length, hidden)))
        return self.ln2(x + self.down(functional.gelu(self.up(x))))

    def load(self, weights: dict[str, torch.Tensor], name: str) -> None:
        """Take the values of layer `name`."""
        for part in ("qkv", "out", "up", "down"):
            load_dense(getattr(self, part), weights, f"{name}.{part}")
        for part in ("ln1", "ln2"):
            load_norm(getattr(self, part), weights, f"{name}.{part}")


class Encoder(nn.Module):
    """ENCODER."""

    def __init__(self) -> None:
        super().__init__()
        hidden = ENCODER.hidden
        self.tokens = nn.Embedding(ENCODER.vocabulary, hidden)
        self.positions = nn.Parameter(torch.empty(ENCODER.length, hidden))
        self.norm = nn.LayerNorm(hidden, ENCODER.eps)
        self.layers = nn.Sequential(*[Layer() for _ in range(ENCODER.layers)])
        self.pool, self.classifier = nn.Linear(hidden, hidden), nn.Linear(hidden, ENCODER.classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits of token ids (n, length)."""
        x = self.layers(self.norm(self.tokens(ids) + self.positions))
        return self.classifier(torch.tanh(self.pool(x[:, 0])))

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take the workload's values."""
        self.tokens.weight.data, self.positions.data = weights["tok"], weights["pos"]
        load_norm(self.norm, weights, "ln")
        for index, layer in enumerate(self.layers):
            layer.load(weights, f"l{index}")
        load_dense(self.pool, weights, "pool")
        load_dense(self.classifier, weights, "cls")


class Forecaster(nn.Module):
    """FORECASTER."""

    def __init__(self) -> None:
        super().__init__()
        sizes = FORECASTER
        self.lstm = nn.LSTM(sizes.features, sizes.hidden, sizes.layers, batch_first=True)
        self.head = nn.Linear(sizes.hidden, sizes.horizon)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The horizon after series (n, length, features)."""
        return self.head(self.lstm(x)[0][:, -1])

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take the workload's values."""
        for name, value in weights.items():
            if name.startswith("lstm."):
                getattr(self.lstm, name.removeprefix("lstm.")).data = value
        load_dense(self.head, weights, "head")


class Interaction(nn.Module):
    """The dense part of RECOMMENDER: bottom MLP, products of all pairs, top MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.bottom = dense_layers("bot", RECOMMENDER.bottom, relu_last=True)
        self.top = dense_layers("top", RECOMMENDER.top)
        vectors = RECOMMENDER.tables + 1
        self.rows, self.columns = torch.tril_indices(vectors, vectors, -1)

    def forward(self, dense: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """Logits (n, 1) of dense features and embeddings (n, tables, dim)."""
        bottom = self.bottom(dense)
        vectors = torch.cat([bottom[:, None], embedded], 1)
        products = torch.bmm(vectors, vectors.mT)[:, self.rows, self.columns]
        return self.top(torch.cat([bottom, products], 1))


class Recommender(nn.Module):
    """One table for all features, ids shifted: a single gather, a single sparse gradient."""

    def __init__(self, compiled: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(RECOMMENDER.tables * RECOMMENDER.rows, RECOMMENDER.dim, sparse=True)
        self.plain = Interaction()
        self.interaction = torch.compile(self.plain) if compiled else self.plain
        self.shift = torch.arange(RECOMMENDER.tables) * RECOMMENDER.rows

    def forward(self, dense: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Logits (n, 1)."""
        return self.interaction(dense, self.table(ids + self.shift))

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take the workload's values."""
        self.table.weight.data = weights["emb"].reshape(-1, RECOMMENDER.dim)
        load_mlp(self.plain.bottom, weights)
        load_mlp(self.plain.top, weights)


def load_mlp(net: nn.Sequential, weights: dict[str, torch.Tensor]) -> None:
    """Take the values of all linear layers, which are named as the weights are."""
    for name, layer in net.named_children():
        if isinstance(layer, nn.Linear):
            load_dense(layer, weights, name)


def build(workload: Any, compiled: bool) -> nn.Module:
    """The workload's network with its first weights; CNNs channels-last, which is faster."""
    weights = {name: torch.from_numpy(value) for name, value in workload.params().items()}
    if workload.model == "mlp":
        net: Any = dense_layers("fc", MLP)
        load_mlp(net, weights)
        return net
    if workload.model in RESNETS:
        net = ResNet(workload.model)
        net.load(weights)
        return net.to(memory_format=torch.channels_last)
    net = {"encoder": Encoder, "lstm": Forecaster}.get(workload.model, lambda: Recommender(compiled))()
    net.load(weights)
    return net


class WideAndDeep(nn.Module):
    """The flight network: a linear part and a small deep one over embeddings, as mxpipe builds it."""

    def __init__(self, numeric: int, cardinalities: list[int], arguments: dict[str, Any]) -> None:
        super().__init__()
        dim = arguments["embedding_dims"]
        offsets = np.concatenate([[0], np.cumsum(cardinalities)[:-1]])
        self.register_buffer("offsets", torch.from_numpy(offsets))
        self.wide_table = nn.Embedding(sum(cardinalities), 1)
        self.wide_numeric = nn.Linear(numeric, 1)
        self.table = nn.Embedding(sum(cardinalities), dim)
        self.embedding_dropout = nn.Dropout(arguments["embedding_dropout"])
        deep: list[nn.Module] = []
        width = numeric + dim * len(cardinalities)
        for units in arguments["hidden_units"]:
            deep += [
                nn.Linear(width, units),
                nn.LayerNorm(units),
                nn.ReLU(),
                nn.Dropout(arguments["dropout"]),
            ]
            width = units
        self.deep = nn.Sequential(*deep, nn.Linear(width, 1))

    def forward(self, numeric: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
        """Logits (n, 1)."""
        ids = categorical + self.offsets
        wide = self.wide_numeric(numeric) + self.wide_table(ids).sum(1)
        embedded = self.embedding_dropout(self.table(ids).flatten(1))
        return wide + self.deep(torch.cat([numeric, embedded], 1))
