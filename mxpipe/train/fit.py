"""`fit`: from a specification and a run directory to a model, however often it is started."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mxpipe.errors import MxpipeError
from mxpipe.train.callbacks import Callback, RunContext
from mxpipe.train.heartbeat import Heartbeat
from mxpipe.train.reporting import Reporter, failed_status
from mxpipe.train.run_directory import Lease, RunDirectory
from mxpipe.train.spec import TrainSpec
from mxpipe.train.status import JobState, JobStatus
from mxpipe.train.stopping import StopRequest

_LOG = logging.getLogger(__name__)


class FitResult(NamedTuple):
    """How a training ended.

    Attributes:
        model_path: The model folder; it exists when the state is SUCCEEDED.
        metrics: Final values by name: `train_loss`, `validation_...`.
        steps: Optimizer steps done.
        status: The status that was written, with the state.
    """

    model_path: Path
    metrics: Mapping[str, float]
    steps: int
    status: JobStatus


def fit(
    spec: TrainSpec,
    run_directory: str | os.PathLike[str],
    key: str | None = None,
    callbacks: Collection[Callback] = (),
    builders: Collection[str] | Mapping[str, Callable[..., object]] = (),
) -> FitResult:
    """Train a model in a run directory: begin, resume, or return what is finished.

    Args:
        spec: What to train.
        run_directory: Directory of this one training; made when it is needed.
        key: Names the training; a directory belongs to one key. The specification's digest by default.
        callbacks: Objects that follow the training, see :class:`~mxpipe.train.Callback`.
        builders: The `package.module:function` texts that `spec.model.builder` may import, or functions by
            such a name. A text that stands in the specification alone is never imported.

    Returns:
        The result; its state is SUCCEEDED, or INTERRUPTED or CANCELLED after a SIGTERM, with a checkpoint
        written.

    Raises:
        SpecificationError: The specification does not fit the data, or the directory belongs to another one.
        LeaseHeldError: Another live process works in the directory.
        StorageError: The disk is full; the newest checkpoint stays valid.
        DataError: The snapshot is damaged or does not have the columns.

    Example:
        >>> result = fit(spec, "runs/flights-2013-01")  # doctest: +SKIP
        >>> result.status.state, result.metrics["validation_auc"]  # doctest: +SKIP
        (<JobState.SUCCEEDED: 'SUCCEEDED'>, 0.69)
    """
    run = RunDirectory(run_directory)
    with run.acquire_lease() as lease:
        return fit_in(run, lease, spec, key or spec.digest(), callbacks, builders)


def fit_in(
    run: RunDirectory,
    lease: Lease,
    spec: TrainSpec,
    key: str,
    callbacks: Collection[Callback] = (),
    builders: Collection[str] | Mapping[str, Callable[..., object]] = (),
) -> FitResult:
    """The same as :func:`fit`, for a caller that holds the lease already."""
    run.initialise(spec, key)
    status = run.read_status()
    if status.state is JobState.SUCCEEDED:
        return FitResult(run.model_path, status.metrics, status.step, status)
    run.cancel_path.unlink(missing_ok=True)
    run.keep_reserve()
    with Heartbeat(lease), recording_failure(run), _engine_settings(spec), StopRequest() as stop:
        return _train(run, spec, key, status.attempt + 1, callbacks, builders, stop)


@contextlib.contextmanager
def recording_failure(run: RunDirectory) -> Iterator[None]:
    """Write an error that passes by into the log, then into the status. The caller holds the lease."""
    try:
        yield
    except Exception as error:
        run.release_reserve()
        _LOG.error("%s: %s", type(error).__name__, error, exc_info=not isinstance(error, MxpipeError))
        with contextlib.suppress(Exception):  # a full disk must not hide the error itself
            run.write_status(failed_status(run.read_status(), error))
        raise


@contextlib.contextmanager
def _engine_settings(spec: TrainSpec) -> Iterator[None]:
    """Give the engine the specification's threads, and the caller its own threads and random numbers back."""
    import mxpipe as mx

    threads, random_state = mx.get_num_threads(), mx.random.get_state()
    try:
        if spec.threads is not None:
            mx.set_num_threads(spec.threads)
        yield
    finally:
        mx.set_num_threads(threads)
        mx.random.set_state(random_state)


def _train(
    run: RunDirectory,
    spec: TrainSpec,
    key: str,
    attempt: int,
    callbacks: Collection[Callback],
    builders: Collection[str] | Mapping[str, Callable[..., object]],
    stop: StopRequest,
) -> FitResult:
    from mxpipe.train.loop import TrainingLoop
    from mxpipe.train.session import Session

    session = Session(spec, builders)
    loop = TrainingLoop(spec, session, run)
    context = RunContext(spec, key, run.path, attempt, session.total_steps)
    reporter = Reporter(run, context, callbacks, loop.step)
    try:
        finished = loop.run(reporter, stop)
        if finished:
            loop.publish()
            state = JobState.SUCCEEDED
        else:
            state = JobState.CANCELLED if run.cancel_path.exists() else JobState.INTERRUPTED
        status = reporter.end(state, loop.step, loop.final_metrics if finished else loop.metrics)
    except Exception as error:
        run.release_reserve()
        with contextlib.suppress(Exception):
            reporter.fail(error)
        raise
    finally:
        reporter.close()
    run.release_reserve()
    if finished:
        loop.discard_checkpoints()
    return FitResult(run.model_path, status.metrics, status.step, status)
