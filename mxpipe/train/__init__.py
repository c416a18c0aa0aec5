"""Training as a job: one entry, `fit`, that every adapter calls.

Enters: a :class:`TrainSpec` (JSON) and a run directory. Leaves: a model folder, a status and a history, the
    same bytes
whether the training ran through or was killed and resumed. Called by launchers' workers, by the command line,
and by programs.
"""

from __future__ import annotations

import logging

from mxpipe.train.callbacks import Callback, RunContext
from mxpipe.train.events import read_events, read_history
from mxpipe.train.fit import FitResult, fit
from mxpipe.train.run_directory import RunDirectory
from mxpipe.train.spec import TrainSpec
from mxpipe.train.status import JobState, JobStatus

__all__ = [
    "Callback",
    "FitResult",
    "JobState",
    "JobStatus",
    "RunContext",
    "RunDirectory",
    "TrainSpec",
    "fit",
    "read_events",
    "read_history",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())  # who wants the lines configures logging
