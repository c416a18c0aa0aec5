"""Tells the outside how a training goes: status.json, events.jsonl, the progress line and the callbacks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from mxpipe.errors import is_retryable
from mxpipe.progress import ProgressReporter, Rate, format_duration
from mxpipe.redaction import redact
from mxpipe.train.callbacks import Callback, CallbackList, RunContext
from mxpipe.train.events import EventWriter
from mxpipe.train.run_directory import RunDirectory
from mxpipe.train.status import JobState, JobStatus

_STATUS_SECONDS = 0.5
_LINES_PER_RUN = 400  # the loss curve keeps a readable size however long the run is


class Reporter:
    """The one writer of a run's status and events."""

    def __init__(
        self, run: RunDirectory, context: RunContext, callbacks: Iterable[Callback], step: int
    ) -> None:
        """Say that the training begins, or goes on from `step`.

        Raises:
            StorageError: The disk is full.
        """
        self._run, self._context = run, context
        self._rate = Rate(step, context.total_steps)
        self._line_steps = max(1, context.total_steps // _LINES_PER_RUN)
        self._next_status = 0.0
        self._events = EventWriter(run.events_path)
        self._callbacks = CallbackList(callbacks, context, self._events)
        self._progress = ProgressReporter(context.total_steps, "training")
        now = time.time()
        self.status = run.read_status().replace(
            state=JobState.RUNNING,
            pid=os.getpid(),
            start_time=now,
            heartbeat=now,
            step=step,
            total_steps=context.total_steps,
            attempt=context.attempt,
            rows_per_second=None,
            eta_seconds=None,
            error=None,
        )
        run.write_status(self.status)
        self._events.write("start", step=step, attempt=context.attempt, total_steps=context.total_steps)
        self._callbacks.call("on_start", step)

    def is_line_step(self, step: int) -> bool:
        """Whether the loss up to this step is written as one line: a function of the step alone."""
        return step % self._line_steps == 0 or step == self._context.total_steps

    def step(self, step: int, epoch: int, rows: int) -> None:
        """A step is done. Costs a clock reading, and a small file twice a second."""
        self._rate.update(step, rows)
        if time.monotonic() >= self._next_status:
            self._write_status(step=step, epoch=epoch)

    def line(self, step: int, loss: float, learning_rate: float) -> None:
        """Write one line of the loss curve."""
        metrics = {"loss": loss, "learning_rate": learning_rate}
        rate = self._rate.rows_per_second
        if rate is not None:
            metrics["rows_per_second"] = rate
        self.status = self.status.replace(metrics=self.status.metrics | {"loss": loss})
        self._events.write("step", step=step, **metrics)
        self._callbacks.call("on_step", step, metrics)
        self._progress.update(step, self._text(loss))

    def _text(self, loss: float) -> str:
        rate = self._rate.rows_per_second
        shown = "" if rate is None else f", {rate:,.0f} rows/s, ETA {format_duration(self._rate.eta_seconds)}"
        return f"loss {loss:.4f}{shown}"

    def epoch(self, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """An epoch ended."""
        self._events.write("epoch", epoch=epoch, step=step, metrics=dict(metrics))
        self.status = self.status.replace(metrics=self.status.metrics | dict(metrics))
        self._write_status(step=step, epoch=epoch)
        self._callbacks.call("on_epoch", epoch, step, metrics)

    def checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint is on the disk."""
        self._events.write("checkpoint", step=step, path=path.name)
        self._callbacks.call("on_checkpoint", step, path)

    def end(self, state: JobState, step: int, metrics: Mapping[str, float]) -> JobStatus:
        """The training ended without an error of its own."""
        self._progress.close()
        self.status = self.status.replace(
            state=state,
            metrics=dict(metrics) or self.status.metrics,
            eta_seconds=0.0 if state is JobState.SUCCEEDED else None,
        )
        self._write_status(step=step, durable=True)
        self._events.write("end", state=state.value, step=step, metrics=dict(metrics))
        self._callbacks.call("on_end", self.status)
        return self.status

    def fail(self, error: BaseException) -> None:
        """The training ended with an error; the caller records it in the status."""
        self._progress.close()
        status = failed_status(self.status, error)
        self._events.write("end", state=status.state.value, step=status.step, error=status.error)
        self._callbacks.call("on_end", status)

    def close(self) -> None:
        """Close the files."""
        self._events.close()

    def _write_status(self, durable: bool = False, **changes: int) -> None:
        self._next_status = time.monotonic() + _STATUS_SECONDS
        if self.status.state is JobState.RUNNING:
            changes |= {"eta_seconds": self._rate.eta_seconds}  # type: ignore[dict-item]
        self.status = self.status.replace(
            heartbeat=time.time(), rows_per_second=self._rate.rows_per_second, **changes
        )
        self._run.write_status(self.status, durable=durable)


def failed_status(status: JobStatus, error: BaseException) -> JobStatus:
    """The status of a run that this error ended."""
    return status.replace(
        state=JobState.FAILED,
        error={
            "type": type(error).__name__,
            "message": redact(str(error)),
            "retryable": is_retryable(error),
        },
        heartbeat=time.time(),
        eta_seconds=None,
    )
