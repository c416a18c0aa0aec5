"""A launcher that watches the one trial whose job it looks at, and ends it when the pruner gives it up."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from mxpipe.jobs.launcher import JobHandle, Launcher, get_launcher, job_id_of, wait_by_polling
from mxpipe.train.run_directory import RunDirectory
from mxpipe.train.spec import TrainSpec
from mxpipe.train.status import JobStatus
from mxpipe.tune.study import Study


class TrialLauncher:
    """Another launcher, for the job of one trial of a study.

    Whoever polls the job, a worker or a trigger, thereby feeds the pruner with its epochs; a trial that is
    given up is cancelled and never resumed. All else is the other launcher's.

    Args:
        root: Directory above the run directories.
        study: The study's directory.
        trial: The trial's number.
        launcher: Name of the other launcher.
        arguments: What that takes beside the root.

    Example:
        >>> get_launcher("trial", root="runs", study="studies/late", trial=3)  # doctest: +SKIP
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        study: str | os.PathLike[str],
        trial: int,
        launcher: str = "local",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self._watch(get_launcher(launcher, root=root, **(arguments or {})), Study.open(study), trial)

    @classmethod
    def over(cls, launcher: Launcher, study: Study, trial: int) -> TrialLauncher:
        """The same, of objects that are there already."""
        made = cls.__new__(cls)
        made._watch(launcher, study, trial)
        return made

    def _watch(self, launcher: Launcher, study: Study, trial: int) -> None:
        self._launcher, self._study, self._trial = launcher, study, trial
        self._seen = -1
        self.root = launcher.root

    def submit(
        self,
        spec: TrainSpec,
        key: str,
        *,
        fresh: bool = False,
        builders: Collection[str] = (),
        callbacks: Mapping[str, Mapping[str, Any]] = {},
    ) -> JobHandle:
        """As the other launcher's, but a trial that was given up is not taken up again."""
        job_id = job_id_of(key)
        run = self.run_directory(job_id)
        if run.exists() and not fresh and self._study.suggest(self._trial).pruned_at is not None:
            self._launcher.cancel(job_id)
            return JobHandle(job_id, run.path)
        return self._launcher.submit(spec, key, fresh=fresh, builders=builders, callbacks=callbacks)

    def poll(self, job_id: str) -> JobStatus:
        """The job's status, after its new epochs have been shown to the pruner."""
        status = self._launcher.poll(job_id)
        if status.state.is_active and status.epoch != self._seen:
            self._seen = status.epoch
            if self._study.observe(self._trial, self.run_directory(job_id)):
                return self._launcher.cancel(job_id)
        return status

    def wait(self, job_id: str, timeout: float | None = None, interval: float = 0.1) -> JobStatus:
        """Poll until the job is no longer active."""
        return wait_by_polling(self.poll, job_id, timeout, interval)

    def cancel(self, job_id: str, timeout: float = 30.0) -> JobStatus:
        """As the other launcher's."""
        return self._launcher.cancel(job_id, timeout)

    def logs(self, job_id: str, offset: int = 0) -> tuple[str, int]:
        """As the other launcher's."""
        return self._launcher.logs(job_id, offset)

    def run_directory(self, job_id: str) -> RunDirectory:
        """As the other launcher's."""
        return self._launcher.run_directory(job_id)
