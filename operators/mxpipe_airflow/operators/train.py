"""Training as a durable job: it outlives its worker, a retry finds it again, a kill ends it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowFailException, TaskDeferralError, TaskDeferralTimeout
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from mxpipe.errors import JobCancelledError, JobError, JobNotFoundError
from mxpipe_airflow.errors import job_error
from mxpipe_airflow.keys import digest_code, digest_json, run_key
from mxpipe_airflow.lineage import Data, Lineage
from mxpipe_airflow.links.mxpipe import MlflowRunLink, mlflow_run_url
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator
from mxpipe_airflow.progress import ProgressLog
from mxpipe_airflow.settling import settle_run
from mxpipe_airflow.triggers.job import GONE, TIMED_OUT, MxpipeJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mxpipe.jobs import JobHandle, JobState, JobStatus, Launcher
    from mxpipe.train import TrainSpec

INTENT = "mxpipe_job"
# Airflow ends a worker 5 s after its first signal; the job must be gone by then.
KILL_PATIENCE_SECONDS = 3.5
LOG_LINES = 30


class MxpipeTrainOperator(MxpipeOperator):
    """Train a model in a detached job under the key K of its inputs, and wait for it.

    Persists what it intends, submits, then defers (or polls, where ``deferrable`` is false). Whatever is
    killed when, at most one job trains:

    * a retry finds the job at work, or resumes it from its newest checkpoint, or takes its finished model;
    * clearing the task ends its job and starts afresh, under a key of its own; a model that was already
      finished
      for the same inputs is taken as it is, since the same inputs give the same bytes;
    * marking the task failed, or ending its worker, cancels the job and waits until no process is left.

    Args:
        spec: A :class:`mxpipe.train.TrainSpec` as JSON. Templated; strings inside may be XComs of earlier
            stages.
        partition: Names the piece of time trained for, e.g. ``2013-01``. Templated.
        data_digest: Digest of all data that the specification refers to; by default one over its snapshots.
            Templated.
        code_paths: Source files and folders that shape the training: part of K.
        builders: Model builders outside the model zoo that the job may import (``package.module:function``).
        callbacks: What follows the training, by name of the entry point group ``mxpipe.callbacks``, with its
            configuration. Templated.
        deferrable: Wait in the triggerer; Airflow's ``operators.default_deferrable`` by default.
        timeout: The job is cancelled after this time.
        poll_interval: Seconds between two looks at the job.
        progress_interval: Least seconds between two lines of progress in the task's log.

    Returns:
        ``key, job_id, run_id`` (MLflow's, where it is followed), ``model_uri, model_digest, steps, attempt,
        seconds, metrics, rows_per_second, events, data`` (the snapshots that were read).

    Raises:
        AirflowFailException: The specification or the data are at fault, or time has run out.
        JobFailedError: The job ended for another reason; a retry resumes it.

    Example:
        >>> features = {"numeric": ["distance"], "label": "late"}
        >>> train = MxpipeTrainOperator(
        ...     task_id="train",
        ...     spec={
        ...         "model": {"builder": "logistic_regression"},
        ...         "data": {"train": "{{ ti.xcom_pull('split')['train_uri'] }}", "features": features},
        ...         "epochs": 5,
        ...     },
        ...     partition="2013-01",
        ...     callbacks={"mlflow": {"experiment": "flights"}},
        ...     deferrable=True,
        ...     retries=3,
        ... )
    """

    template_fields: Sequence[str] = (
        "conn_id",
        "spec",
        "partition",
        "data_digest",
        "code_paths",
        "callbacks",
    )
    template_fields_renderers: Mapping[str, str] = {"spec": "json"}
    ui_color = "#cfe5d8"
    operator_extra_links = (MlflowRunLink(),)

    def __init__(
        self,
        *,
        spec: dict[str, Any],
        partition: str,
        data_digest: str | None = None,
        code_paths: Sequence[str] = (),
        builders: Sequence[str] = (),
        callbacks: Mapping[str, Mapping[str, Any]] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: timedelta = timedelta(hours=12),
        poll_interval: float = 2.0,
        progress_interval: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self.partition = partition
        self.data_digest = data_digest
        self.code_paths = code_paths
        self.builders = builders
        self.callbacks = callbacks
        self.deferrable = deferrable
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.progress_interval = progress_interval
        self._launcher: Launcher | None = None
        self._job_id: str | None = None
        self._submitting = False
        self._killed = False

    def run_stage(self, context: Context) -> Manifest:
        """Submit the job, or find it again, and wait for it."""
        from mxpipe.jobs import job_id_of
        from mxpipe.train import TrainSpec

        launcher = self.hook.get_conn()
        given = dict(self.spec)
        if given.get("threads") is None:
            given["threads"] = self.hook.settings.threads
        spec = TrainSpec.from_json(given)
        key = self.key(self.dag_id, spec)
        intent = self._intend(context, launcher, key, digest_json([key, spec.digest()]))
        self._launcher, self._job_id = launcher, job_id_of(intent["job_key"])
        _tell_map_index(context)
        handle = self._submit(launcher, spec, intent["job_key"], key)
        context["task_state_store"].set(INTENT, {**intent, "job_id": handle.id}, retention=NEVER_EXPIRE)
        self.log.info("Job %s in %s, key %s", handle.id, handle.run_directory, key)

        status = launcher.poll(handle.id)
        deadline = time.time() + self.timeout.total_seconds()
        if not status.state.is_active:
            return self._result(launcher, handle.id, status)
        if not self.deferrable:
            return self._result(launcher, handle.id, self._follow(launcher, handle.id, deadline))
        settings = self.hook.settings
        self.defer(
            trigger=MxpipeJobTrigger(
                str(launcher.root),
                handle.id,
                self.poll_interval,
                self.progress_interval,
                deadline,
                settings.launcher,
                settings.launcher_arguments,
                self._mlflow_of_trigger(),
            ),
            method_name="execute_complete",
            # The trigger keeps the time; Airflow's own timeout is only there for a triggerer that is gone.
            timeout=self.timeout + timedelta(minutes=5),
        )
        raise AssertionError("defer() does not return")

    def key(self, dag_id: str, spec: TrainSpec) -> str:
        """K of this training: where its data lie is not part of it, what they hold is."""
        plain = spec.to_json()
        plain["data"] = {**plain["data"], "train": None, "validation": None}
        plain["checkpoint"] = None
        data_digest = self.data_digest or _snapshots_digest(spec)
        return run_key(
            dag_id, self.partition, data_digest, digest_json([plain, digest_code(self.code_paths)])
        )

    def _intend(self, context: Context, launcher: Launcher, key: str, job_key: str) -> dict[str, Any]:
        """Write down which job this task is about to start, before it starts; the same one on every retry.

        K says what is learned; the job's key also says from where and how often it writes a checkpoint.
        """
        store, instance = context["task_state_store"], context["ti"]
        # Clearing a task raises one of the two; a retry raises neither.
        generation = f"{context['dag_run'].clear_number}.{instance.max_tries}"
        known: Any = store.get(INTENT)
        base = job_key
        if known and (known["generation"], known["base"]) == (generation, job_key):
            self.log.info("Attempt %s goes on with the job of the attempt before", instance.try_number)
            return dict(known)
        if known or instance.try_number > 1:  # cleared, or its inputs have changed
            if known and known.get("job_id"):
                state = self._end(launcher, known["job_id"])
                self.log.info("The job before, %s, is %s", known["job_id"], state or "gone")
            if not self._is_finished(launcher, job_key):
                job_key = digest_json([job_key, context["dag_run"].run_id, generation])
        intent = {"key": key, "base": base, "job_key": job_key, "generation": generation}
        store.set(INTENT, intent, retention=NEVER_EXPIRE)
        return intent

    def _end(self, launcher: Launcher, job_id: str) -> JobState | None:
        """End a job. It must not log: in a signal handler the interrupted line may hold the logger's lock."""
        try:
            state = launcher.cancel(job_id, KILL_PATIENCE_SECONDS).state
        except JobNotFoundError:
            return None
        if self._is_tracked:
            settle_run(launcher.run_directory(job_id).path, state, self._tracking_uri, wait=False)
        return state

    @staticmethod
    def _is_finished(launcher: Launcher, job_key: str) -> bool:
        from mxpipe.jobs import JobState, job_id_of

        try:
            return launcher.poll(job_id_of(job_key)).state is JobState.SUCCEEDED
        except JobNotFoundError:
            return False

    def _submit(self, launcher: Launcher, spec: TrainSpec, job_key: str, key: str) -> JobHandle:
        callbacks = dict(self.callbacks or {})
        if "mlflow" in callbacks:  # whichever job works for K, its run in MLflow is one and the same
            callbacks["mlflow"] = {"tracking_uri": self._tracking_uri, "key": key, **callbacks["mlflow"]}
        self._submitting = True
        try:
            return launcher.submit(spec, job_key, builders=self.builders, callbacks=callbacks)
        finally:
            self._submitting = False
            if self._killed:
                self.on_kill()

    @property
    def _is_tracked(self) -> bool:
        return "mlflow" in (self.callbacks or {})

    @property
    def _tracking_uri(self) -> str | None:
        configuration = (self.callbacks or {}).get("mlflow", {})
        return configuration.get("tracking_uri") or self.hook.settings.tracking_uri

    def _mlflow_of_trigger(self) -> dict[str, str | None] | None:
        """How the trigger finds MLflow: an address, which may hold a password, is not stored with it."""
        if not self._is_tracked:
            return None
        given = (self.callbacks or {})["mlflow"].get("tracking_uri")
        return {"tracking_uri": given} if given else {"conn_id": self.conn_id}

    def on_kill(self) -> None:
        """End the job and wait until none of its processes is left. Called from a signal handler."""
        self._killed = True
        if self._launcher is None or self._job_id is None or self._submitting:
            return  # nothing is running yet, or _submit will come back here as soon as it can
        self._end(self._launcher, self._job_id)

    def _follow(self, launcher: Launcher, job_id: str, deadline: float) -> JobStatus:
        progress = ProgressLog(self.log, self.progress_interval)
        while (status := launcher.poll(job_id)).state.is_active:
            progress.show(status)
            if time.time() >= deadline:
                launcher.cancel(job_id)
                self._fail_on_time(launcher, job_id)
            time.sleep(self.poll_interval)
        progress.show(status)
        return status

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Manifest:
        """Go on after the trigger fired, on a fresh instance: the event and the files say everything."""
        return self.completing(context, lambda: self._complete(event))

    def _complete(self, event: Mapping[str, Any]) -> Manifest:
        launcher, job_id = self.hook.get_conn(), event["job_id"]
        if event["state"] == GONE:
            raise JobNotFoundError(f"[job {job_id}] must have its files; they are gone: a retry trains anew.")
        if event["state"] == TIMED_OUT:
            self._fail_on_time(launcher, job_id)
        return self._result(launcher, job_id, launcher.poll(job_id))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral; one that failed or outlived Airflow's own timeout must not leave a job."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout) as error:
            known: Any = context["task_state_store"].get(INTENT)
            instance = context["ti"]
            is_last = instance.try_number > instance.max_tries
            if known and known.get("job_id") and (isinstance(error, TaskDeferralTimeout) or is_last):
                state = self._end(self.hook.get_conn(), known["job_id"])
                self.log.error("The job %s is %s", known["job_id"], state or "gone")
            raise  # else the retry finds the job at work

    def lineage(self, manifest: Manifest) -> Lineage:
        """The snapshots, and the model in its run directory."""
        read = [Data(uri) for uri in manifest["data"].values() if uri]
        return Lineage(read, [Data(manifest["model_uri"], manifest["model_digest"])])

    def _fail_on_time(self, launcher: Launcher, job_id: str) -> None:
        self._settle(launcher.run_directory(job_id).path, launcher.poll(job_id).state)
        raise AirflowFailException(
            f"[job {job_id}] it must end within {self.timeout}; it was cancelled, with a checkpoint."
        )

    def _settle(self, run_directory: Path, state: JobState) -> str | None:
        """See that the run in MLflow says how the job ended; returns the run's id, where there is one."""
        if not self._is_tracked:
            return None
        from mxpipe_mlflow.spool import Spool

        settle_run(run_directory, state, self._tracking_uri)
        return Spool(run_directory).run_id

    def _result(self, launcher: Launcher, job_id: str, status: JobStatus) -> Manifest:
        from mxpipe.jobs import JobState
        from mxpipe.model import load_model

        run = launcher.run_directory(job_id)
        run_id = self._settle(run.path, status.state)
        self.publish({MlflowRunLink: mlflow_run_url(self.hook.settings.mlflow_pages, run_id)})
        if status.state is not JobState.SUCCEEDED:
            text, _ = launcher.logs(job_id)
            self.log.error("The end of the job's log:\n%s", "\n".join(text.splitlines()[-LOG_LINES:]))
        if status.state is JobState.CANCELLED:
            raise JobCancelledError(
                f"[job {job_id}] it was cancelled at step {status.step}; a retry resumes it."
            )
        if status.state is JobState.INTERRUPTED:
            raise JobError(f"[job {job_id}] its process was ended at step {status.step}; a retry resumes it.")
        if status.state is not JobState.SUCCEEDED:
            raise job_error(job_id, status.error)
        spec, _ = run.read_spec()
        started, ended = status.start_time or 0.0, status.heartbeat or 0.0
        return {
            "key": self.key(self.dag_id, spec),
            "job_id": job_id,
            "run_id": run_id,
            "model_uri": str(run.model_path),
            "model_digest": load_model(run.model_path).digest,
            "events": str(run.events_path),
            "data": {"train": spec.data.train, "validation": spec.data.validation},
            "steps": status.step,
            "attempt": status.attempt,
            "seconds": round(max(0.0, ended - started), 3),
            "rows_per_second": status.rows_per_second,
            "metrics": status.metrics,
        }


def _snapshots_digest(spec: TrainSpec) -> str:
    """One digest over the snapshots that a training reads."""
    from mxpipe.data import Snapshot

    uris = (spec.data.train, spec.data.validation)
    return digest_json([Snapshot.open(uri).digest if uri else None for uri in uris])


def _tell_map_index(context: Context) -> None:
    """Let a job that this task starts know its index: what else names a try, Airflow tells itself."""
    from mxpipe_mlflow.context import MAP_INDEX_VARIABLE

    index = context["ti"].map_index
    if index is None or index < 0:
        os.environ.pop(MAP_INDEX_VARIABLE, None)
    else:
        os.environ[MAP_INDEX_VARIABLE] = str(index)
