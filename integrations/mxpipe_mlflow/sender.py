"""From the spool to MLflow: in order, in batches, each metric's step once."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe.errors import StorageError, TrackingError
from mxpipe_mlflow.client import KEY_TAG, make_client, quoted
from mxpipe_mlflow.spool import Record, Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 30.0
_PARAMETER_LENGTH = 6000  # MLflow's limit
_PARAMETERS_IN_A_BATCH = 100  # MLflow's limit
_METRICS_IN_A_BATCH = 1000  # MLflow's limit

# The server understood and refused: sending the same again cannot help.
_REFUSALS = frozenset(("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST", "INVALID_STATE"))


def find_run_id(client: MlflowClient, experiment: str, key: str) -> str | None:
    """The first run of an experiment that is tagged with a key."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    runs = client.search_runs(
        [found.experiment_id],
        filter_string=f"tags.`{KEY_TAG}` = {quoted(key)}",
        order_by=["attributes.start_time ASC"],
        max_results=1,
    )
    return str(runs[0].info.run_id) if runs else None


def create_run(
    client: MlflowClient,
    experiment: str,
    key: str,
    run_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    start_time: float | None = None,
) -> str:
    """Make a run that is tagged with a key, and its experiment when there is none.

    Returns:
        The run's id; that of an older one, if another process made one for the key at the same time.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.context.registry import resolve_tags

    found = client.get_experiment_by_name(experiment)
    if found is not None:
        experiment_id = found.experiment_id
    else:
        try:
            experiment_id = client.create_experiment(experiment, _artifact_location(client, experiment))
        except MlflowException:  # someone else made it meanwhile
            found = client.get_experiment_by_name(experiment)
            if found is None:
                raise
            experiment_id = found.experiment_id
    run = client.create_run(
        experiment_id,
        start_time=round((time.time() if start_time is None else start_time) * 1000),
        tags=resolve_tags({**(tags or {}), KEY_TAG: key}),
        run_name=run_name,
    )
    own = str(run.info.run_id)
    winner = find_run_id(client, experiment, key) or own
    if winner != own:  # someone else made one since the search: theirs is older, ours goes away
        client.delete_run(own)
    return winner


def _artifact_location(client: MlflowClient, experiment: str) -> str | None:
    """Beside the database for SQLite, whose own default is wherever the process happens to work."""
    scheme, _, path = client.tracking_uri.partition(":///")
    if scheme != "sqlite":
        return None  # the server knows
    folder = re.sub(r"[^\w.-]", "_", experiment)
    return Path(path).resolve().parent.joinpath("mlartifacts", folder).as_uri()


class Sender:
    """Sends one spool to one server; not safe to share between threads.

    Args:
        spool: The spool; the caller holds ``spool.sending()``.
        tracking_uri: Server or database; None means MLflow's own setting.
    """

    def __init__(self, spool: Spool, tracking_uri: str | None) -> None:
        self._spool = spool
        self._client = make_client(tracking_uri)
        self._run_id = spool.run_id
        self._last_steps: dict[str, int] | None = None

    def send_pending(self) -> int:
        """Send all that is pending.

        Returns:
            How many records were dealt with.

        Raises:
            TrackingError: The server cannot be reached or failed; what it took is noted, the rest stays.
        """
        done = 0
        while records := self._spool.pending():
            for batch in _batches(records):
                self._send_noting(batch)
                done += len(batch)
        return done

    def _send_noting(self, batch: Sequence[Record]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._send(batch)
        except MlflowException as error:
            if (
                error.error_code == "RESOURCE_DOES_NOT_EXIST"
            ):  # the run was deleted: tell all of it to a new one
                self._run_id, self._last_steps = None, None
                self._spool.mark_sent(0, None)
            if error.error_code not in _REFUSALS:
                raise TrackingError(f"[mlflow] the server must take the metrics; {error}") from error
            if len(batch) > 1:  # let the good ones through
                for record in batch:
                    self._send_noting([record])
                return
            logger.warning("MLflow refused a record for good, passed over: %s", error)
        except TrackingError:
            raise
        except Exception as error:  # transports and databases raise what they like
            raise TrackingError(f"[mlflow] the server must be reachable; {error}") from error
        self._spool.mark_sent(batch[-1].end, self._run_id)

    def _send(self, batch: Sequence[Record]) -> None:
        first = batch[0]
        if first.kind == "start":
            self._start(first.fields)
        elif first.kind == "end":
            if first.fields["status"] is None:  # whoever opened the run ends it
                return
            self._client.set_terminated(
                self._known_run(), first.fields["status"], end_time=round(first.fields["time"] * 1000)
            )
        elif metrics := self._new_metrics(batch):
            self._client.log_batch(self._known_run(), metrics=metrics)
            self._advance(metrics)

    def _start(self, fields: Mapping[str, Any]) -> None:
        from mlflow.entities import Param, RunTag

        run_id = self._run_id = self._open_run(fields)
        self._client.log_batch(run_id, tags=[RunTag("mxpipe.attempt", str(fields["attempt"]))])
        if inputs := fields.get("inputs"):
            from mxpipe_mlflow.dataset import dataset_inputs

            self._client.log_inputs(run_id, dataset_inputs(inputs))  # the same again changes nothing
        parameters = [Param(name, value[:_PARAMETER_LENGTH]) for name, value in fields["parameters"].items()]
        for begin in range(0, len(parameters), _PARAMETERS_IN_A_BATCH):
            self._client.log_batch(run_id, params=parameters[begin : begin + _PARAMETERS_IN_A_BATCH])

    def _open_run(self, fields: Mapping[str, Any]) -> str:
        """The run that the record names, the key's own opened again, or a new one."""
        given: str | None = fields.get("run_id")
        run_id = given or find_run_id(self._client, fields["experiment"], fields["key"])
        if run_id != self._run_id:
            self._last_steps = None
        if run_id is None:
            self._last_steps = {}
            return create_run(
                self._client,
                fields["experiment"],
                fields["key"],
                run_name=fields["run_name"],
                tags=fields["tags"],
                start_time=fields["time"],
            )
        if not given:
            self._client.update_run(run_id, status="RUNNING")
        return run_id

    def _known_run(self) -> str:
        if self._run_id is None:
            raise TrackingError("[mlflow] the run must exist; it was deleted while metrics were sent.")
        return self._run_id

    def _new_metrics(self, batch: Sequence[Record]) -> list[Metric]:
        from mlflow.entities import Metric

        last_steps = self._read_last_steps()
        metrics = []
        for record in batch:
            step, timestamp = int(record.fields["step"]), round(record.fields["time"] * 1000)
            for name, value in record.fields["values"].items():
                if step > last_steps.get(name, -1):
                    metrics.append(Metric(name, float(value), timestamp, step))
        # A batch may itself hold a step twice: when a training was resumed before the first attempt was sent.
        return list({(metric.key, metric.step): metric for metric in reversed(metrics)}.values())[::-1]

    def _read_last_steps(self) -> dict[str, int]:
        if self._last_steps is None:
            run_id = self._known_run()
            names = self._client.get_run(run_id).data.metrics
            self._last_steps = {
                name: max(metric.step for metric in self._client.get_metric_history(run_id, name))
                for name in names
            }
        return self._last_steps

    def _advance(self, metrics: Sequence[Metric]) -> None:
        last_steps = self._read_last_steps()
        for metric in metrics:
            last_steps[metric.key] = max(metric.step, last_steps.get(metric.key, -1))


def _batches(records: Sequence[Record]) -> list[list[Record]]:
    """Runs of metric records within MLflow's limit of a call; every other record alone."""
    batches: list[list[Record]] = []
    size = 0
    for record in records:
        values = len(record.fields["values"]) if record.kind == "metrics" else 0
        joins = (
            batches and values and batches[-1][0].kind == "metrics" and size + values <= _METRICS_IN_A_BATCH
        )
        if joins:
            batches[-1].append(record)
            size += values
        else:
            batches.append([record])
            size = values
    return batches


class BackgroundSender:
    """A thread that sends a spool while it grows, and tries again for as long as the server is away.

    MLflow is imported there too, so that training does not wait for it.

    Args:
        spool: The spool.
        tracking_uri: Server or database.
        interval_seconds: Records gather for that long before they are sent.
    """

    def __init__(self, spool: Spool, tracking_uri: str | None, interval_seconds: float = 2.0) -> None:
        self._spool = spool
        self._tracking_uri = tracking_uri
        self._interval = interval_seconds
        self._finish = threading.Event()
        self._give_up_at = math.inf
        self._sent_all = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-sender", daemon=True)
        self._thread.start()

    def finish(self, timeout: float) -> bool:
        """Send what is left, for at most so many seconds; whether all was sent."""
        self._give_up_at = time.monotonic() + timeout
        self._finish.set()
        self._ended.wait(timeout)
        return self._sent_all.is_set()

    def _run(self) -> None:
        try:
            with ExitStack() as held:
                self._send_until_finished(held)
        except Exception:
            logger.exception("the MLflow sender ended; its records stay on disk")
        finally:
            self._ended.set()

    def _send_until_finished(self, held: ExitStack) -> None:
        sender, pause = None, self._interval
        while True:
            finishing = self._finish.wait(pause)
            try:
                if sender is None:
                    held.enter_context(self._spool.sending())
                    sender = Sender(self._spool, self._tracking_uri)
                sender.send_pending()
            except (TrackingError, StorageError) as error:
                # A disk that is full now, as a server that is away, may be there again before the end.
                if time.monotonic() > self._give_up_at or (finishing and isinstance(error, StorageError)):
                    return
                pause = min(max(1.0, 2 * pause), _LONGEST_PAUSE_SECONDS)
                logger.warning("MLflow cannot be told, trying again in %.0f s: %s", pause, error)
                if finishing:  # only the time that `finish` waits is left: the pause above is over at once
                    time.sleep(0.5)
            else:
                pause = self._interval
                if finishing:
                    self._sent_all.set()
                    return
