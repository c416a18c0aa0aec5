"""A training job's progress as one line of a task's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
