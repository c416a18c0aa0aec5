"""The pixels of a digit, what is expected of them, and how the classifier is trained. Plain data."""

from __future__ import annotations

from typing import Any

SIDE = 8
LABEL = "digit"
PIXELS = [f"pixel_{row}{column}" for row in range(SIDE) for column in range(SIDE)]
BATCH_ROWS = 450  # the images come in four batches of about so many

_PIXEL = {"type": "float32", "minimum": 0.0, "maximum": 16.0, "max_null_fraction": 0.0}

EXPECTATIONS: dict[str, Any] = {
    "minimum_rows": 400,
    "columns": {
        **dict.fromkeys(PIXELS, _PIXEL),
        LABEL: {"type": "int32", "minimum": 0, "maximum": 9, "max_null_fraction": 0.0},
    },
    # Each batch comes from other hands: drift is told, and judged by the holdout.
    "drift": {"columns": [*PIXELS, LABEL], "threshold": 0.25, "severity": "warning"},
}

POLICY: dict[str, Any] = {
    "metric": "log_loss",
    "minimum_rows": 80,
    "at_least": {"accuracy": 0.8},
    "when_undecided": "PROMOTE",
}

BUILDER = "images.network:build"


def training(train_uri: str, seed: int = 1, precision: str = "float32") -> dict[str, Any]:
    """How a candidate is trained: a TrainSpec as JSON.

    Args:
        train_uri: The training snapshot; a template will do.
        seed: Initial values, order of rows and augmentation follow from it.
        precision: float32 or bfloat16.
    """
    steps = 400
    return {
        "model": {"builder": BUILDER, "arguments": {"channels": 32, "largest_shift": 1}},
        "data": {
            "train": train_uri,
            "features": {"numeric": PIXELS, "label": LABEL},
            "batch_size": 64,
            "preprocessing": {"shared": [PIXELS]},
        },
        "loss": "softmax_cross_entropy",
        "optimizer": {"name": "adamw", "arguments": {"learning_rate": 0.003, "wd": 0.05}},
        "schedule": {"name": "cosine", "arguments": {"base_lr": 0.003, "warmup_steps": steps // 10}},
        "steps": steps,
        "seed": seed,
        "precision": precision,
        "checkpoint": {"every_steps": 100},
    }
