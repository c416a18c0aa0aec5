"""A training job's progress as one line of a task's log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mxpipe.progress import format_duration

if TYPE_CHECKING:
    from mxpipe.train.status import JobStatus


def progress_line(status: JobStatus) -> str:
    """Percent, steps, speed, time left and the latest metrics.

    Example:
        >>> from mxpipe.train.status import JobState, JobStatus
        >>> progress_line(JobStatus(JobState.RUNNING, "k", step=50, total_steps=200, rows_per_second=125000.0,
        ...                         eta_seconds=75.0, metrics={"loss": 0.4312}))
        'RUNNING  25%  step 50/200  125,000 rows/s  1:15 left  loss 0.4312'
    """
    parts = [status.state.value]
    if status.total_steps:
        parts.append(f"{100 * status.step // status.total_steps}%")
        parts.append(f"step {status.step}/{status.total_steps}")
    elif status.step:
        parts.append(f"step {status.step}")
    if status.rows_per_second:
        parts.append(f"{status.rows_per_second:,.0f} rows/s")
    if status.eta_seconds is not None and status.state.is_active:
        parts.append(f"{format_duration(status.eta_seconds)} left")
    parts.extend(f"{name} {value:.4g}" for name, value in status.metrics.items())
    return "  ".join(parts)


class ProgressLog:
    """Writes a job's progress into a log: at most a line an interval, none twice, and always the last one.

    Args:
        log: A logger.
        interval: Least seconds between two lines.

    Example:
        >>> from mxpipe.train.status import JobState, JobStatus
        >>> class Lines:
        ...     def info(self, text, *values):
        ...         print(text % values)
        >>> progress = ProgressLog(Lines(), interval=60.0)
        >>> for step, state in ((1, "RUNNING"), (2, "RUNNING"), (4, "SUCCEEDED")):
        ...     progress.show(JobStatus(JobState(state), "k", step=step, total_steps=4))
        RUNNING  25%  step 1/4
        SUCCEEDED  100%  step 4/4
    """

    def __init__(self, log: Any, interval: float) -> None:
        self._log = log
        self._interval = interval
        self._line = ""
        self._next = 0.0

    def show(self, status: JobStatus) -> None:
        """Write a line if it says something new and it is time for it."""
        line, now = progress_line(status), time.monotonic()
        if line != self._line and (now >= self._next or not status.state.is_active):
            self._log.info("%s", line)
            self._line, self._next = line, now + self._interval
