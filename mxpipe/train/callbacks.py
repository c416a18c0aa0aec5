"""What may follow a training: objects with any of five methods, called from the training's own thread.

A callback cannot end or change a training: what it raises is written to `events.jsonl` as `callback_error`
and to the log, and the training goes on. Long work belongs in the callback's own queue. A resumed training
starts with a new `on_start` whose `step` is where it goes on; steps after it may have been reported before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mxpipe.train.events import EventWriter
from mxpipe.train.spec import TrainSpec
from mxpipe.train.status import JobStatus

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunContext:
    """Which training a callback follows.

    Attributes:
        spec: What is trained.
        key: The job's idempotency key.
        run_directory: Where its files are.
        attempt: 1 for the first start, one more for each resumption.
        total_steps: Optimizer steps planned.
    """

    spec: TrainSpec
    key: str
    run_directory: Path
    attempt: int
    total_steps: int


class Callback(Protocol):
    """The five moments. Inherit from it and override some; each of them does nothing by itself."""

    def on_start(self, context: RunContext, step: int) -> None:
        """Training begins, or goes on from `step`."""

    def on_step(self, context: RunContext, step: int, metrics: Mapping[str, float]) -> None:
        """A line of progress: `loss` since the line before, `learning_rate`, `rows_per_second`."""

    def on_epoch(self, context: RunContext, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """An epoch ended; `metrics` holds `train_loss` and the `validation_...` values."""

    def on_checkpoint(self, context: RunContext, step: int, path: Path) -> None:
        """A checkpoint of `step` is on the disk."""

    def on_end(self, context: RunContext, status: JobStatus) -> None:
        """Training ended, one way or another."""


class CallbackList:
    """Calls all callbacks, and keeps what they raise from the training."""

    def __init__(self, callbacks: Iterable[Callback], context: RunContext, events: EventWriter) -> None:
        self._callbacks, self._context, self._events = tuple(callbacks), context, events

    def call(self, moment: str, *arguments: Any) -> None:
        """Call the method of this name on each callback that has it."""
        for callback in self._callbacks:
            method = getattr(callback, moment, None)
            if method is None:
                continue
            try:
                method(self._context, *arguments)
            except Exception as error:  # whatever a guest raises must not end the training
                name = type(callback).__name__
                _LOG.exception("the callback %s failed in %s; training goes on", name, moment)
                self._events.write(
                    "callback_error", callback=name, moment=moment, error=f"{type(error).__name__}: {error}"
                )
