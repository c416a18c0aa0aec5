"""Jobs: a training that runs by itself, in a run directory, started by a launcher.

Enters: a :class:`~mxpipe.train.TrainSpec` and the caller's idempotency key. Leaves: a job that survives its
    submitter,
can be asked, followed and cancelled from any process, and never runs twice. Called by orchestrators and the
command line. `LocalLauncher` is a process of this machine; adapters register launchers of their own.
"""

from __future__ import annotations

from typing import Any

from mxpipe.jobs.launcher import JobHandle, Launcher, get_launcher, job_id_of, register_launcher
from mxpipe.jobs.local import LocalLauncher
from mxpipe.train.status import JobState, JobStatus

__all__ = [
    "JobHandle",
    "JobState",
    "JobStatus",
    "Launcher",
    "LocalLauncher",
    "get_launcher",
    "job_id_of",
    "register_launcher",
]


def _trial_launcher(**arguments: Any) -> Launcher:
    from mxpipe.tune.launcher import TrialLauncher

    return TrialLauncher(**arguments)


register_launcher("local", LocalLauncher)
register_launcher("trial", _trial_launcher)
