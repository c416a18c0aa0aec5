"""PyTorch eager as a peer: the same programs over the same weights, written as a PyTorch user would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn


def setup(threads: int) -> None:
    """Called once, first."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)


def _step(
    net: nn.Module, optimizer: torch.optim.Optimizer, batches: list[tuple[torch.Tensor, ...]]
) -> Callable[[int], Any]:
    loss_of = nn.BCEWithLogitsLoss()

    def step(index: int) -> torch.Tensor:
        *inputs, label = batches[index % len(batches)]
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(net(*inputs), label)
        loss.backward()
        optimizer.step()
        return loss

    return step


def train(workload: Any, dtype: str) -> Callable[[int], Any]:
    """One eager step over staged batches, with the fused Adam."""
    weights = workload.params()
    layers: list[nn.Module] = []
    count = sum(name.endswith(".weight") for name in weights)
    for index in range(count):
        outputs, inputs = weights[f"fc{index}.weight"].shape
        layer = nn.Linear(inputs, outputs)
        layer.weight.data = torch.from_numpy(weights[f"fc{index}.weight"])
        layer.bias.data = torch.from_numpy(weights[f"fc{index}.bias"])
        layers += [layer, nn.ReLU()] if index < count - 1 else [layer]
    net = nn.Sequential(*layers)
    given = workload.opt[1]
    optimizer = torch.optim.Adam(
        net.parameters(), given["lr"], (given["b1"], given["b2"]), given["eps"], fused=True
    )
    batches = [tuple(map(torch.from_numpy, workload.batch_data(index))) for index in range(workload.nbatch)]
    return _step(net, optimizer, batches)


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


def train_flights(data: dict[str, np.ndarray], batch: int, arguments: dict[str, Any]) -> Callable[[int], Any]:
    """The flight model's step on its real rows."""
    net = WideAndDeep(data["numeric"].shape[1], data["cardinalities"].tolist(), arguments)
    optimizer = torch.optim.AdamW(net.parameters(), 0.002, weight_decay=0.5, fused=True)
    count = len(data["label"]) // batch
    parts = []
    for at in range(min(count, 16)):
        rows = slice(at * batch, (at + 1) * batch)
        label = torch.from_numpy(data["label"][rows]).reshape(-1, 1)
        parts.append(
            (torch.from_numpy(data["numeric"][rows]), torch.from_numpy(data["categorical"][rows]), label)
        )
    return _step(net, optimizer, parts)
