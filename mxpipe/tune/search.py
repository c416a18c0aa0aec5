"""`tune`: a whole search on this machine, trial by trial, however often it is started."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from mxpipe.errors import JobCancelledError, JobError, JobFailedError
from mxpipe.jobs.launcher import Launcher
from mxpipe.jobs.local import LocalLauncher
from mxpipe.train.spec import TrainSpec
from mxpipe.train.status import JobState
from mxpipe.tune.launcher import TrialLauncher
from mxpipe.tune.study import Study, Trial, TrialState

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 3


def tune(
    spec: TrainSpec,
    space: Mapping[str, Mapping[str, Any]],
    directory: str | os.PathLike[str],
    *,
    trials: int,
    launcher: Launcher | None = None,
    builders: Collection[str] = (),
    callbacks: Mapping[str, Mapping[str, Any]] = {},
    poll_interval: float = 0.1,
    on_trial: Callable[[Study, Trial], None] = lambda study, trial: None,
    **search: Any,
) -> Study:
    """Search for better parameters of a training, one trial after the other.

    Whatever ends this process, calling it again with the same arguments goes on: finished trials are not
    trained again, and the job of the trial in progress is found at work, resumed, or taken as it ended. More
    `trials` continue a search that is over.

    Args:
        spec: The training.
        space: Dimensions by path, see :mod:`mxpipe.tune.space`.
        directory: Directory of the study; the jobs' run directories are in `runs` below it.
        trials: How many.
        launcher: What runs the jobs; processes of this machine by default.
        builders: As for the launcher's `submit`.
        callbacks: As for the launcher's `submit`; they follow every trial.
        poll_interval: Seconds between two looks at a job.
        on_trial: Called after each trial.
        search: Further arguments of :meth:`Study.create`: metric, direction, sampler, seed, pruner, ...

    Returns:
        The study; `best()` is its best trial.

    Raises:
        SpecificationError: The space does not fit the specification, or the directory holds another search.
        JobFailedError: A trial failed for a reason that a retry may mend: call again.
        JobCancelledError: Someone cancelled a trial's job: call again to resume it.
        MissingExtraError: Optuna is not installed.

    Example:
        >>> from mxpipe.tune import log_uniform, tune
        >>> space = {"optimizer.learning_rate": log_uniform(1e-4, 1e-1)}
        >>> study = tune(spec, space, "studies/late", trials=20, pruner="median")  # doctest: +SKIP
        >>> study.best().parameters  # doctest: +SKIP
        {'optimizer.learning_rate': 0.0123}
    """
    study = Study.create(directory, spec, space, **search)
    inner = launcher if launcher is not None else LocalLauncher(Path(directory) / "runs")
    for number in range(trials):
        trial = study.suggest(number)
        if trial.state is not TrialState.PENDING:
            continue
        watched = TrialLauncher.over(inner, study, number)
        trial = _train(study, number, watched, builders, callbacks, poll_interval)
        best = study.best()
        shown = f"; best {best.value:.6g} of trial {best.number}" if best is not None else ""
        _LOG.info("trial %d/%d %s, %s %s%s", number, trials, trial.state, study.metric, trial.value, shown)
        on_trial(study, trial)
    return study


def _train(
    study: Study,
    number: int,
    launcher: TrialLauncher,
    builders: Collection[str],
    callbacks: Mapping[str, Mapping[str, Any]],
    poll_interval: float,
) -> Trial:
    """Train one trial to an end that can be told."""
    for _ in range(_ATTEMPTS):
        handle = launcher.submit(
            study.trial_spec(number), study.key(number), builders=builders, callbacks=callbacks
        )
        status = launcher.wait(handle.id, interval=poll_interval)
        trial = study.settle(number, status, launcher.run_directory(handle.id))
        if trial.state is not TrialState.PENDING:
            return trial
        if status.state is not JobState.INTERRUPTED:
            break
    where = f"[trial {number}] its job {handle.id}"
    if status.state is JobState.CANCELLED:
        raise JobCancelledError(f"{where} was cancelled at step {status.step}; call again to resume it.")
    if status.state is JobState.FAILED and status.error is not None:
        raise JobFailedError(f"{where} failed; {status.error['type']}: {status.error['message']}")
    raise JobError(f"{where} was ended from outside {_ATTEMPTS} times, at step {status.step}.")
