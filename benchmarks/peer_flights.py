"""The flight model's step on its real rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mxpipe as mx


def train_flights(data: dict[str, np.ndarray], batch: int, arguments: dict[str, Any]) -> Callable[[int], Any]:
    """The flight model's step on its real rows."""
    net = mx.gluon.model_zoo.wide_and_deep(
        data["numeric"].shape[1], data["cardinalities"].tolist(), **arguments
    )
    net.initialize(mx.init.Xavier())
    trainer = mx.gluon.Trainer(net.collect_params(), "adamw", {"learning_rate": 0.002, "wd": 0.5})
    step = mx.gluon.TrainStep(net, mx.gluon.loss.SigmoidBinaryCrossEntropyLoss(), trainer)
    count = len(data["label"]) // batch
    parts = [
        tuple(
            mx.np.array(data[name][at * batch : (at + 1) * batch])
            for name in ("numeric", "categorical", "label")
        )
        for at in range(min(count, 16))
    ]
    return lambda index: step(*parts[index % len(parts)]).mean()
