"""Keeping the best epoch: a small state machine that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mxpipe.train.spec import EarlyStoppingSection


@dataclass
class BestEpoch:
    """Remembers which epoch was best so far.

    Example:
        >>> best = BestEpoch(EarlyStoppingSection(metric="loss", patience=1))
        >>> [best.update(epoch, {"validation_loss": loss}) for epoch, loss in ((1, 0.5), (2, 0.4), (3, 0.45))]
        [True, True, False]
        >>> best.epoch, best.should_stop(3)
        (2, True)
    """

    policy: EarlyStoppingSection
    epoch: int = 0
    value: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def update(self, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Take an epoch's metrics; returns whether it is the best so far, which NaN never is."""
        value = metrics[f"validation_{self.policy.metric}"]
        if self.value is None:
            better = value == value
        else:
            gain = self.value - value if self.policy.mode == "min" else value - self.value
            better = gain > self.policy.minimum_change
        if better:
            self.epoch, self.value, self.metrics = epoch, value, dict(metrics)
        return better

    def should_stop(self, epoch: int) -> bool:
        """Whether no epoch was better for as long as the policy's patience."""
        return self.policy.patience is not None and epoch - self.epoch >= self.policy.patience

    def to_json(self) -> dict[str, Any]:
        """The state, for a checkpoint."""
        return {"epoch": self.epoch, "value": self.value, "metrics": self.metrics}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state back."""
        self.epoch, self.value, self.metrics = state["epoch"], state["value"], dict(state["metrics"])
