"""Follow a training in MLflow: one run for a key, whatever happens to the training or to the server.

What enters: the callback's moments of :func:`mxpipe.train.fit`. What leaves: a run with parameters, the
snapshots as its inputs, metrics and a final status. The training's thread only appends to a file
(:mod:`mxpipe_mlflow.spool`); a thread of its own sends.

A resumed training goes on in the same run, found by its tag ``mxpipe.key``. It ends FINISHED, FAILED, or
KILLED when it was cancelled or interrupted; a training that was killed hard leaves its run RUNNING until it
is resumed or :func:`end_run` closes it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe.errors import MxpipeError, SpecificationError
from mxpipe.redaction import holds_credentials
from mxpipe.train.callbacks import RunContext
from mxpipe.train.status import JobState, JobStatus
from mxpipe_mlflow.client import make_client, tracking_errors
from mxpipe_mlflow.lineage import inputs_of
from mxpipe_mlflow.sender import BackgroundSender, Sender, create_run, find_run_id
from mxpipe_mlflow.spool import Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

_STATUS = {
    JobState.SUCCEEDED: "FINISHED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "KILLED",
    JobState.INTERRUPTED: "KILLED",
}


class MlflowCallback:
    """Logs a training to MLflow; an outage neither stops nor slows it.

    Args:
        tracking_uri: Server or database; None means MLflow's own setting.
        experiment: Experiment of the run; made when there is none.
        run_name: Name of a new run; the key by default.
        tags: Tags of a new run.
        key: The key that finds the run again; the training's own by default.
        flush_seconds: How long the end of a training waits for the server before it leaves the rest on disk.
        log_datasets: Whether the snapshots become inputs of the run, with digest and schema.
        run_id: A run that someone else opened and will end, to log to instead of the key's own.

    Example:
        >>> from mxpipe.train import fit
        >>> fit(spec, "runs/one", callbacks=[MlflowCallback(experiment="flights")])  # doctest: +SKIP
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment: str = "Default",
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        key: str | None = None,
        flush_seconds: float = 30.0,
        log_datasets: bool = True,
        run_id: str | None = None,
    ) -> None:
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._run_name = run_name
        self._tags = dict(tags or {})
        self._key = key
        self._flush_seconds = flush_seconds
        self._log_datasets = log_datasets
        self._given_run_id = run_id
        self._spool: Spool | None = None
        self._sender: BackgroundSender | None = None

    @property
    def run_id(self) -> str | None:
        """The MLflow run, once the server has named it."""
        return self._spool.run_id if self._spool is not None else None

    def on_start(self, context: RunContext, step: int) -> None:
        """Open or reopen the run."""
        key = self._key or context.key
        self._spool = Spool(context.run_directory)
        self._spool.append(
            "start",
            key=key,
            experiment=self._experiment,
            run_name=self._run_name or key[:40],
            tags=self._tags,
            attempt=context.attempt,
            step=step,
            parameters=flatten(context.spec.to_json()),
            inputs=self._inputs(context),
            run_id=self._given_run_id,
            tracking_uri=_kept(self._tracking_uri),
        )
        self._sender = BackgroundSender(self._spool, self._tracking_uri)

    def _inputs(self, context: RunContext) -> dict[str, Any]:
        if not self._log_datasets:
            return {}
        try:
            return inputs_of(context.spec)
        except MxpipeError as error:
            logger.warning("the run has no datasets: %s", error)
            return {}

    def on_step(self, context: RunContext, step: int, metrics: Mapping[str, float]) -> None:
        """Queue a line of progress."""
        self._append(step, metrics)

    def on_epoch(self, context: RunContext, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """Queue an epoch's metrics."""
        self._append(step, {**metrics, "epoch": epoch})

    def on_end(self, context: RunContext, status: JobStatus) -> None:
        """Close the run, and send what is left for as long as ``flush_seconds`` allows."""
        if self._spool is None or self._sender is None:
            return
        ended = None if self._given_run_id else _STATUS.get(status.state, "FAILED")
        self._spool.append("end", status=ended, error=status.error)
        if not self._sender.finish(self._flush_seconds):
            logger.warning(
                "MLflow is away; what it has not got stays in %s: mxpipe_mlflow.tracking.replay sends it",
                context.run_directory,
            )
        self._spool.close()

    def _append(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._spool is not None and metrics:
            self._spool.append("metrics", step=step, values=dict(metrics))


def _kept(tracking_uri: str | None) -> str | None:
    """An address that whoever settles the run later may read in a file: none that holds a password."""
    return None if tracking_uri is None or holds_credentials(tracking_uri) else tracking_uri


def is_settled(run_directory: str | Path) -> bool:
    """Whether MLflow knows how a training ended: see :func:`mxpipe_mlflow.settlement.is_settled`.

    Example:
        >>> is_settled("/no/such/run")
        True
    """
    from mxpipe_mlflow import settlement

    return settlement.is_settled(run_directory)


def settle(run_directory: str | Path, state: JobState) -> bool:
    """Tell MLflow how a training ended; ``mxpipe jobs reap`` asks each callback's module for this.

    Raises:
        TrackingError: The server is away; what it has not got stays on disk.

    Example:
        >>> settle("/no/such/run", JobState.CANCELLED)
        False
    """
    from mxpipe_mlflow import settlement

    return settlement.settle(run_directory, state)


def from_config(configuration: Mapping[str, Any]) -> MlflowCallback:
    """Make the callback from JSON, in the process of a detached job (entry point group ``mxpipe.callbacks``).

    Args:
        configuration: The constructor's arguments by name.

    Raises:
        SpecificationError: An argument is not known.
    """
    # A dead server is the sender's business: MLflow's own retries would hold each call for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        return MlflowCallback(**configuration)
    except TypeError as error:
        raise SpecificationError(
            f"[callback mlflow] its configuration must be known arguments; {error}."
        ) from None


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested JSON as MLflow's flat parameters; null is left out.

    Example:
        >>> flatten({"model": {"builder": "mlp", "arguments": {"layers": [64, 32]}}, "seed": 7})
        {'model.builder': 'mlp', 'model.arguments.layers': '[64, 32]', 'seed': '7'}
    """
    if isinstance(value, Mapping):
        flat: dict[str, str] = {}
        for name, item in value.items():
            flat |= flatten(item, f"{prefix}.{name}" if prefix else str(name))
        return flat
    if value is None:
        return {}
    return {prefix: value if isinstance(value, str) else json.dumps(value)}


def find_run(experiment: str, key: str, *, tracking_uri: str | None = None) -> str | None:
    """The id of the run that a key has in an experiment, or None.

    Raises:
        TrackingError: The server cannot be reached.
    """
    client = make_client(tracking_uri)
    with tracking_errors(f"searching {experiment} for key {key}"):
        return find_run_id(client, experiment, key)


def find_or_create_run(client: MlflowClient, experiment: str, key: str) -> str:
    """The id of the run that a key has in an experiment; made when there is none."""
    return find_run_id(client, experiment, key) or create_run(client, experiment, key, run_name=key[:40])


def end_run(experiment: str, key: str, status: str = "KILLED", *, tracking_uri: str | None = None) -> bool:
    """Close the run of a job that could not do it itself.

    Args:
        experiment: The run's experiment.
        key: Its key.
        status: ``KILLED`` or ``FAILED``.
        tracking_uri: Server or database; None means MLflow's own setting.

    Returns:
        Whether a run was still open.

    Raises:
        TrackingError: The server cannot be reached.
    """
    client = make_client(tracking_uri)
    with tracking_errors(f"closing the run of key {key}"):
        run_id = find_run_id(client, experiment, key)
        if run_id is None or client.get_run(run_id).info.status not in ("RUNNING", "SCHEDULED"):
            return False
        client.set_terminated(run_id, status)
        return True


def replay(run_directory: str | Path, *, tracking_uri: str | None = None) -> int:
    """Send what an outage left in a run directory.

    Returns:
        How many records were sent; 0 when nothing was left.

    Raises:
        TrackingError: The server is still away, or the training itself is sending.
    """
    spool = Spool(run_directory)
    with spool.sending():
        return Sender(spool, tracking_uri).send_pending()
