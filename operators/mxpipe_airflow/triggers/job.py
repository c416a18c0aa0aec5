"""Wait for a training job in the triggerer, with its progress in the task's log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from mxpipe.errors import JobNotFoundError
from mxpipe_airflow.deferral import until_reported
from mxpipe_airflow.hooks.mxpipe import MxpipeHook
from mxpipe_airflow.progress import ProgressLog
from mxpipe_airflow.settling import settle_run

if TYPE_CHECKING:
    from mxpipe.jobs import JobStatus, Launcher

TIMED_OUT = "TIMED_OUT"
GONE = "GONE"
_FAILED_LOOKS = 5
# Airflow gives on_kill 30 s; a worker of a job needs a moment for its checkpoint.
_KILL_PATIENCE_SECONDS = 15.0


class MxpipeJobTrigger(BaseTrigger):
    """Polls a job until it is no longer active, then fires once.

    The event is ``{"job_id": ..., "state": ...}``: a :class:`~mxpipe.jobs.JobState`, ``TIMED_OUT`` when the
    deadline has passed and the job has been cancelled, or ``GONE`` when its files are no longer there.
    Everything else is read again from the run directory.

    Args:
        root: Root directory of the launcher.
        job_id: The job.
        poll_interval: Seconds between two looks.
        progress_interval: Least seconds between two lines of progress.
        deadline: Seconds since the epoch after which the job is cancelled; None waits for ever.
        launcher: Name of the launcher.
        launcher_arguments: What it takes beside the root.
        mlflow: ``tracking_uri`` of the job's run in MLflow, which a kill also closes, or the ``conn_id`` of
            the connection that has it; None without one.

    Example:
        >>> path, arguments = MxpipeJobTrigger("/data/jobs", "flights-2013-01", poll_interval=1.0).serialize()
        >>> path, arguments["launcher"]
        ('mxpipe_airflow.triggers.job.MxpipeJobTrigger', 'local')
    """

    def __init__(
        self,
        root: str,
        job_id: str,
        poll_interval: float = 2.0,
        progress_interval: float = 10.0,
        deadline: float | None = None,
        launcher: str = "local",
        launcher_arguments: Mapping[str, Any] | None = None,
        mlflow: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.root = root
        self.job_id = job_id
        self.poll_interval = poll_interval
        self.progress_interval = progress_interval
        self.deadline = deadline
        self.launcher = launcher
        self.launcher_arguments = dict(launcher_arguments or {})
        self.mlflow = mlflow

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Import path and arguments, as Airflow stores them."""
        names = (
            "root",
            "job_id",
            "poll_interval",
            "progress_interval",
            "deadline",
            "launcher",
            "launcher_arguments",
            "mlflow",
        )
        return "mxpipe_airflow.triggers.job.MxpipeJobTrigger", {name: getattr(self, name) for name in names}

    @cached_property
    def _jobs(self) -> Launcher:
        from mxpipe.jobs import get_launcher

        return get_launcher(self.launcher, root=self.root, **self.launcher_arguments)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, logging progress; fire once."""
        begun = time.monotonic()
        state = await self._wait()
        await until_reported(begun)
        yield TriggerEvent({"job_id": self.job_id, "state": state})

    async def _wait(self) -> str:
        progress = ProgressLog(self.log, self.progress_interval)
        while True:
            try:
                status = await self._look()
            except JobNotFoundError as error:
                self.log.error("%s", error)
                return GONE
            progress.show(status)
            if not status.state.is_active:
                return status.state.value
            if self.deadline is not None and time.time() >= self.deadline:
                self.log.error("Job %s has run out of time; cancelling it", self.job_id)
                await asyncio.to_thread(self._jobs.cancel, self.job_id)
                return TIMED_OUT
            await asyncio.sleep(self.poll_interval)

    async def _look(self) -> JobStatus:
        """The job's status; a disk or a scheduler that is away for a moment does not end the wait."""
        for _ in range(_FAILED_LOOKS - 1):
            try:
                return await asyncio.to_thread(self._jobs.poll, self.job_id)
            except OSError as error:
                self.log.warning("Job %s could not be looked at, trying again: %s", self.job_id, error)
                await asyncio.sleep(self.poll_interval)
        return await asyncio.to_thread(self._jobs.poll, self.job_id)

    @staticmethod
    async def _tracking_uri(mlflow: Mapping[str, Any]) -> str | None:
        uri: str | None = mlflow.get("tracking_uri")
        if uri is None and "conn_id" in mlflow:
            uri = (await MxpipeHook(mlflow["conn_id"]).aget_settings()).tracking_uri
        return uri

    async def on_kill(self) -> None:
        """Cancel the job and wait for its end: a user has cleared, failed or marked the task.

        Never done in ``cleanup()``, which also runs when the triggerer restarts.
        """
        try:
            status = await asyncio.to_thread(self._jobs.cancel, self.job_id, _KILL_PATIENCE_SECONDS)
        except JobNotFoundError:
            return
        self.log.info("Job %s was ended with its task: %s", self.job_id, status.state.value)
        if self.mlflow is not None:
            await asyncio.to_thread(
                settle_run,
                f"{self.root}/{self.job_id}",
                status.state,
                await self._tracking_uri(self.mlflow),
                wait=False,
            )
