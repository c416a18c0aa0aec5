"""A search for hyper-parameters: one mapped task a trial, each a durable training of its own.

::

    trials = MxpipeTrialsOperator(task_id="trials", spec=..., space=..., trials=20, ...)
    trial = MxpipeTrialOperator.partial(task_id="trial", retries=3).expand(trial=trials.output)
    best = MxpipeBestTrialOperator(task_id="best", trials=trials.output)
    trial >> best

A trial's parameters are suggested when its task starts, under the study's lock, and written down before
anything trains: a retry trains the same. With the random sampler they follow from the seed and the trial's
number alone, so all trials may run at once. With "tpe" a trial learns from those that have ended before it
started: ``max_active_tis_per_dagrun`` of the trials says how many start knowing nothing of each other.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowFailException

from mxpipe.errors import MissingExtraError
from mxpipe_airflow.errors import failing_at_once
from mxpipe_airflow.hooks.mxpipe import MxpipeHook, MxpipeSettings
from mxpipe_airflow.keys import digest_code, digest_json
from mxpipe_airflow.lineage import Lineage
from mxpipe_airflow.links.mxpipe import MlflowRunLink, ReportLink, mlflow_run_url, report_url
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator, checked
from mxpipe_airflow.operators.train import MxpipeTrainOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mxpipe.jobs import JobStatus, Launcher
    from mxpipe.tune import Study, Trial

_PARENT = "mlflow.json"  # of a study: its run in MLflow


def study_folder(settings: MxpipeSettings, study_id: str) -> Path:
    """Where a study is kept.

    Example:
        >>> study_folder(MxpipeSettings(Path("/data")), "0a1b2c").name
        '0a1b2c'
    """
    return settings.root / "studies" / Path(study_id).name


def _parent_of(study: Study) -> dict[str, str] | None:
    """Experiment and id of the study's run in MLflow, where it has one."""
    try:
        known: dict[str, str] = json.loads((study.directory / _PARENT).read_bytes())
    except FileNotFoundError:
        return None
    return known


def _manifest_name(number: int) -> str:
    """Of a study: what a complete trial's task returned."""
    return f"trial-{number:04d}.json"


def _outcome(study: Study, trial: Trial) -> Manifest:
    return {
        "trial": trial.number,
        "study": study.directory.name,
        "state": trial.state.value,
        "value": trial.value,
        "parameters": trial.parameters,
    }


class MxpipeTrialsOperator(MxpipeOperator):
    """Begin a search, or find the same one again, and name its trials for ``expand``.

    The study is kept under the connection's root, in a place that follows from all that shapes the search: a
    DAG run that is repeated goes on with the trials that are already known.

    Args:
        spec: A :class:`mxpipe.train.TrainSpec` as JSON, of which each trial replaces some values. Templated.
        space: Dimension by path of the specification, see :mod:`mxpipe.tune.space`. Templated, as all that
            follows is.
        trials: How many.
        partition: Names the piece of time trained for. Templated.
        data_digest: Digest of all data that the specification refers to. Templated.
        metric: ``train_loss``, ``validation_loss`` or ``validation_NAME`` of the specification's metrics.
        direction: ``minimize`` or ``maximize``.
        sampler: ``random`` or ``tpe``.
        seed: All suggestions follow from it.
        startup: Trials that ``tpe`` draws at random first.
        pruner: ``median`` or ``halving``, or a dictionary with ``name`` and arguments of the pruner; None
            trains every trial to its end.
        code_paths: Source files and folders that shape the training.
        experiment: Experiment of a parent run in MLflow, below which the trials' runs stand; None leaves the
            search out of MLflow.
        run_name: Name of that run. Templated.

    Returns:
        A list of texts, one a trial: the study's id and the trial's number.

    Raises:
        AirflowFailException: The space or the search does not fit the specification.

    Example:
        >>> trials = MxpipeTrialsOperator(
        ...     task_id="trials",
        ...     spec={"model": {"builder": "mlp"}, "data": {"train": "/data/rows"}, "epochs": 5},
        ...     space={"optimizer.arguments.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}},
        ...     trials=20,
        ...     partition="2013-01",
        ...     data_digest="{{ ti.xcom_pull('split')['digest'] }}",
        ... )
    """

    template_fields: Sequence[str] = (
        *("conn_id", "spec", "space", "trials", "partition", "data_digest", "metric", "direction", "sampler"),
        *("seed", "startup", "pruner", "code_paths", "experiment", "run_name"),
    )
    template_fields_renderers: Mapping[str, str] = {"spec": "json"}
    ui_color = "#e3dcf0"
    operator_extra_links = (MlflowRunLink(),)

    def __init__(
        self,
        *,
        spec: dict[str, Any],
        space: Mapping[str, Mapping[str, Any]],
        trials: int,
        partition: str,
        data_digest: str,
        metric: str = "validation_loss",
        direction: str = "minimize",
        sampler: str = "tpe",
        seed: int = 0,
        startup: int = 10,
        pruner: str | Mapping[str, Any] | None = None,
        code_paths: Sequence[str] = (),
        experiment: str | None = None,
        run_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "multiple_outputs": False})  # a list, which `expand` can take
        self.spec = spec
        self.space = space
        self.trials = trials
        self.partition = partition
        self.data_digest = data_digest
        self.metric = metric
        self.direction = direction
        self.sampler = sampler
        self.seed = seed
        self.startup = startup
        self.pruner = pruner
        self.code_paths = code_paths
        self.experiment = experiment
        self.run_name = run_name

    def execute(self, context: Context) -> Any:
        """Begin the search; returns the names of its trials."""
        with failing_at_once():
            manifest = self.run_stage(context)
            names = [f"{manifest['study']}/{number}" for number in range(int(self.trials))]
            checked({"trials": names})
        return names

    def run_stage(self, context: Context) -> Manifest:
        """Set the study up, and its run in MLflow."""
        from mxpipe.train import TrainSpec
        from mxpipe.tune import Study

        given = dict(self.spec)
        if given.get("threads") is None:
            given["threads"] = self.hook.settings.threads
        spec = TrainSpec.from_json(given)
        search: dict[str, Any] = {
            "metric": self.metric,
            "direction": self.direction,
            "sampler": self.sampler,
            "seed": int(self.seed),
            "startup": int(self.startup),
            "pruner": self.pruner,
            "notes": {
                "dag_id": self.dag_id,
                "partition": self.partition,
                "data_digest": self.data_digest,
                "code_digest": digest_code(self.code_paths),
            },
        }
        study_id = digest_json([spec.to_json(), self.space, search])[:16]
        study = Study.create(study_folder(self.hook.settings, study_id), spec, self.space, **search)
        self.log.info("Study %s: %d trials known", study.directory, len(study.trials()))
        if self.experiment is not None:
            self._open_parent(study, self.experiment)
        return {"study": study_id}

    def _open_parent(self, study: Study, experiment: str) -> None:
        from mxpipe.model.storage import write_json
        from mxpipe_mlflow.parents import open_parent

        settings = self.hook.settings
        run_id = open_parent(
            experiment,
            f"study/{study.directory.name}",
            self.run_name or f"{self.dag_id} {self.partition} search",
            tags={"mxpipe.study": study.directory.name},
            parameters={name: study.definition[name] for name in ("metric", "direction", "sampler", "seed")},
            tracking_uri=settings.tracking_uri,
        )
        write_json(study.directory / _PARENT, {"experiment": experiment, "run_id": run_id})
        self.publish({MlflowRunLink: mlflow_run_url(settings.mlflow_pages, run_id)})


class _TrialHook(MxpipeHook):
    """The hook of a connection, whose launcher watches one trial and ends it when it is given up."""

    def __init__(self, conn_id: str, trial: str) -> None:
        super().__init__(conn_id)
        self.study_id, _, self.number = trial.rpartition("/")

    @cached_property
    def settings(self) -> MxpipeSettings:
        """What the connection says, with the watching launcher over the connection's."""
        inner = MxpipeHook(self.conn_id).settings
        arguments = {
            "study": str(study_folder(inner, self.study_id)),
            "trial": int(self.number),
            "launcher": inner.launcher,
            "arguments": dict(inner.launcher_arguments),
        }
        return dataclasses.replace(inner, launcher="trial", launcher_arguments=arguments)


class MxpipeTrialOperator(MxpipeTrainOperator):
    """Train one trial of a study: as durable, deferrable and killable as any training.

    Whoever waits for the job, the worker or the triggerer, shows its epochs to the study's pruner; a trial
    that is given up is cancelled, and its task succeeds with the state ``PRUNED``. A trial that cannot be
    trained with its parameters fails its task at once and is noted; the search goes on without it.

    Args:
        trial: One of the texts that :class:`MxpipeTrialsOperator` returns. Templated.
        callbacks: As of :class:`~mxpipe_airflow.operators.train.MxpipeTrainOperator`; a search with an
            experiment adds ``mlflow``, with the parent run's id as the tag ``mlflow.parentRunId``.

    Returns:
        ``trial, study, state, value, parameters``, and of a complete trial what a training returns.

    Raises:
        AirflowFailException: The trial cannot be trained, or time has run out.
        JobFailedError: The job ended for another reason; a retry resumes it.

    Example:
        >>> from airflow.sdk import DAG
        >>> with DAG("search", schedule=None):
        ...     trial = MxpipeTrialOperator.partial(task_id="trial", retries=3).expand(trial=["0a1b/0"])
    """

    template_fields: Sequence[str] = ("conn_id", "trial", "callbacks")
    template_fields_renderers: Mapping[str, str] = {}
    ui_color = "#d8cfec"

    def __init__(self, *, trial: str, **kwargs: Any) -> None:
        super().__init__(spec={}, partition="", data_digest="", **kwargs)
        self.trial = trial

    @cached_property
    def hook(self) -> MxpipeHook:
        """The hook of this operator's connection, with a launcher that watches the trial."""
        return _TrialHook(self.conn_id, self.trial)

    @cached_property
    def _study(self) -> Study:
        from mxpipe.tune import Study

        return Study.open(self.hook.settings.launcher_arguments["study"])

    @property
    def _number(self) -> int:
        number: int = self.hook.settings.launcher_arguments["trial"]
        return number

    def _prepare(self) -> None:
        """Become the training that the study says: on every instance, fresh ones after a deferral too."""
        study, notes = self._study, self._study.definition["notes"]
        self.spec = study.trial_spec(self._number).to_json()
        # Each trial is a training of its own, whatever its parameters are.
        self.partition = f"{notes['partition']}/{self.trial}"
        self.data_digest = digest_json([notes["data_digest"], notes["code_digest"]])
        if parent := _parent_of(study):
            from mxpipe_mlflow.parents import PARENT_TAG

            mine = dict((self.callbacks or {}).get("mlflow", {}))
            tags = {PARENT_TAG: parent["run_id"], "mxpipe.trial": str(self._number), **mine.pop("tags", {})}
            run = {"experiment": parent["experiment"], "run_name": f"trial {self._number}", "tags": tags}
            self.callbacks = {**(self.callbacks or {}), "mlflow": {**run, **mine}}

    def run_stage(self, context: Context) -> Manifest:
        """Submit the trial's job, or find it again, and wait for it."""
        self._prepare()
        self.log.info("Trial %s: %s", self.trial, json.dumps(self._study.suggest(self._number).parameters))
        return super().run_stage(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral."""
        self._prepare()
        return super().resume_execution(next_method, next_kwargs, context)

    def _result(self, launcher: Launcher, job_id: str, status: JobStatus) -> Manifest:
        from mxpipe.jobs import JobState
        from mxpipe.model.storage import write_json
        from mxpipe.tune import TrialState

        study, number, run = self._study, self._number, launcher.run_directory(job_id)
        if status.state is JobState.SUCCEEDED and not study.observe(number, run):
            manifest = super()._result(launcher, job_id, status)
            write_json(study.directory / _manifest_name(number), manifest)  # before the study counts on it
            return {**manifest, **_outcome(study, study.settle(number, status, run))}
        trial = study.settle(number, status, run)
        if trial.state is not TrialState.PRUNED:
            return super()._result(launcher, job_id, status)  # raises
        self.log.info("The trial was given up after epoch %s", trial.pruned_at)
        run_id = self._settle(run.path, status.state)
        return {**_outcome(study, trial), "job_id": job_id, "run_id": run_id}

    def lineage(self, manifest: Manifest) -> Lineage:
        """The snapshots and the model; a trial that was given up has made none."""
        return super().lineage(manifest) if "model_uri" in manifest else Lineage()


class MxpipeBestTrialOperator(MxpipeOperator):
    """Choose the best trial when all have ended, one way or another, and close the search's run in MLflow.

    The manifest is that of the trial's own task, so that evaluation, gate and registration take it as they
    take a training's.

    Args:
        trials: What :class:`MxpipeTrialsOperator` returned. Templated.

    Returns:
        The best trial's manifest, and ``counts`` (trials by state), ``parent_run_id`` and ``report``.

    Raises:
        AirflowFailException: No trial is complete.

    Example:
        >>> best = MxpipeBestTrialOperator(task_id="best", trials="{{ ti.xcom_pull('trials') }}")
    """

    template_fields: Sequence[str] = ("conn_id", "trials")
    ui_color = "#cbbfe6"
    operator_extra_links = (MlflowRunLink(), ReportLink())

    def __init__(
        self, *, trials: Any, trigger_rule: TriggerRule = TriggerRule.ALL_DONE, **kwargs: Any
    ) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)
        self.trials = trials

    def run_stage(self, context: Context) -> Manifest:
        """Choose, report, close."""
        from mxpipe.tune import Study

        settings = self.hook.settings
        study_id = str(self.trials[0]).rpartition("/")[0]
        study = Study.open(study_folder(settings, study_id))
        parent = _parent_of(study)
        best = study.best()
        counts: dict[str, int] = {}
        for trial in study.trials():
            counts[trial.state.value] = counts.get(trial.state.value, 0) + 1
        self._end_parent(parent, study, best, counts)
        if best is None:
            raise AirflowFailException(f"[study {study_id}] one trial must be complete; got {counts}.")
        manifest = json.loads((study.directory / _manifest_name(best.number)).read_bytes())
        manifest |= _outcome(study, best)
        run_id = parent["run_id"] if parent else None
        self.log.info("Trial %d is the best of %s: %s %.6g", best.number, counts, study.metric, best.value)
        return {**manifest, "counts": counts, "parent_run_id": run_id, "report": self._report(study)}

    def _end_parent(
        self, parent: Mapping[str, str] | None, study: Study, best: Trial | None, counts: Mapping[str, int]
    ) -> None:
        if parent is None:
            return
        from mxpipe_mlflow.parents import end_parent

        metrics = {f"trials_{state.lower()}": float(count) for state, count in counts.items()}
        tags: dict[str, str] = {}
        if best is not None and best.value is not None:
            metrics[study.metric] = best.value
            tags["mxpipe.best_trial"] = str(best.number)
            tags["mxpipe.best_parameters"] = json.dumps(best.parameters)
        status = "FAILED" if best is None else "FINISHED"
        uri = self.hook.settings.tracking_uri
        end_parent(parent["run_id"], status, metrics=metrics, tags=tags, tracking_uri=uri)

    def _report(self, study: Study) -> str | None:
        from mxpipe.tune import write_report

        page = self.hook.settings.root / "reports" / f"study-{study.directory.name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_report(study, page, title=f"{self.dag_id}: search {study.directory.name}")
        except MissingExtraError as error:
            self.log.info("No report: %s", error)
            return None
        return str(page)

    def links(self, manifest: Manifest) -> Mapping[Any, str | None]:
        """The search's run in MLflow, and its report."""
        page = manifest["report"]
        return {
            MlflowRunLink: mlflow_run_url(self.hook.settings.mlflow_pages, manifest["parent_run_id"]),
            ReportLink: report_url(page) if page else None,
        }
