"""Wait for a training job in the triggerer, with its progress in the task's log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from mxpipe.errors import JobNotFoundError
from mxpipe.jobs import LocalLauncher
from mxpipe_airflow.progress import progress_line

TIMED_OUT = "TIMED_OUT"


class MxpipeJobTrigger(BaseTrigger):
    """Polls a job until it is no longer active, then fires once.

    The event is ``{"job_id": ..., "state": ...}``: a :class:`~mxpipe.jobs.JobState`, or ``TIMED_OUT`` when
    the deadline has passed and the job has been cancelled. Everything else is read again from the run
    directory.

    Args:
        root: Root directory of the launcher.
        job_id: The job.
        poll_interval: Seconds between two looks.
        progress_interval: Least seconds between two lines of progress.
        deadline: Seconds since the epoch after which the job is cancelled; None waits for ever.
    """

    def __init__(
        self,
        root: str,
        job_id: str,
        poll_interval: float = 2.0,
        progress_interval: float = 10.0,
        deadline: float | None = None,
    ) -> None:
        super().__init__()
        self.root = root
        self.job_id = job_id
        self.poll_interval = poll_interval
        self.progress_interval = progress_interval
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Import path and arguments, as Airflow stores them."""
        names = ("root", "job_id", "poll_interval", "progress_interval", "deadline")
        return "mxpipe_airflow.triggers.job.MxpipeJobTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, logging progress; fire once."""
        launcher = LocalLauncher(self.root)
        last_line, last_time = "", 0.0
        while True:
            status = await asyncio.to_thread(launcher.poll, self.job_id)
            line, now = progress_line(status), time.monotonic()
            done = not status.state.is_active
            if line != last_line and (done or now - last_time >= self.progress_interval):
                self.log.info("%s", line)
                last_line, last_time = line, now
            if done:
                yield TriggerEvent({"job_id": self.job_id, "state": status.state.value})
                return
            if self.deadline is not None and time.time() >= self.deadline:
                self.log.error("Job %s has run out of time; cancelling it", self.job_id)
                await asyncio.to_thread(launcher.cancel, self.job_id)
                yield TriggerEvent({"job_id": self.job_id, "state": TIMED_OUT})
                return
            await asyncio.sleep(self.poll_interval)

    async def on_kill(self) -> None:
        """Cancel the job and wait for its end: a user has cleared, failed or marked the task.

        Never done in ``cleanup()``, which also runs when the triggerer restarts.
        """
        try:
            status = await asyncio.to_thread(LocalLauncher(self.root).cancel, self.job_id, 15.0)
        except JobNotFoundError:
            return
        self.log.info("Job %s was ended with its task: %s", self.job_id, status.state.value)
