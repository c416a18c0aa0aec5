"""``mxpipe_mlflow.autolog()``: the trainings of this process in MLflow, without another line of code.

:func:`mxpipe.train.fit` is followed by :class:`~mxpipe_mlflow.tracking.MlflowCallback`: an outage delays what
is logged, and a resumed training goes on in its own run, where MLflow's managed runs would begin another one.
A Gluon loop has no beginning and no end to hang a run on: it is followed while a run of the caller is active.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import mlflow
from mlflow.tracking.fluent import _get_experiment_id
from mlflow.utils.autologging_utils import autologging_integration, safe_patch
from mlflow.utils.mlflow_tags import MLFLOW_AUTOLOGGING

from mxpipe.data import Snapshot
from mxpipe.gluon import Trainer, TrainStep
from mxpipe.model import load_model
from mxpipe.train import FitResult, JobState, TrainSpec
from mxpipe_mlflow import registry
from mxpipe_mlflow.flavor import FLAVOR_NAME
from mxpipe_mlflow.logged_models import log_folder_once
from mxpipe_mlflow.tracking import MlflowCallback

_EXAMPLE_ROWS = 5

_within_fit: ContextVar[bool] = ContextVar("within_fit", default=False)


@dataclass(frozen=True)
class _Options:
    log_models: bool
    log_datasets: bool
    log_input_examples: bool
    log_model_signatures: bool
    log_every_n_steps: int
    registered_model_name: str | None
    extra_tags: Mapping[str, str]


@autologging_integration(FLAVOR_NAME)
def autolog(
    log_models: bool = True,
    log_datasets: bool = True,
    log_input_examples: bool = False,
    log_model_signatures: bool = True,
    log_every_n_steps: int = 1,
    registered_model_name: str | None = None,
    disable: bool = False,
    exclusive: bool = False,
    silent: bool = False,
    extra_tags: dict[str, str] | None = None,
) -> None:
    """Log every training of this process to MLflow.

    ``mxpipe.train.fit``: parameters, the snapshots, metrics by step, and the model with its signature, in the
    active run, or in a run that the training's key finds again and that ends with it.
    ``gluon.TrainStep`` and ``gluon.Trainer.step``, while a run is active: the optimizer's settings, and by
    step the loss (of ``TrainStep``) and the learning rate, sent in batches by a thread of MLflow's. MLflow's
    patching costs every step, those of ``fit`` too, some 0.05 ms.

    Args:
        log_models: Log the model that ``fit`` publishes.
        log_datasets: Log the snapshots as inputs of the run.
        log_input_examples: Keep some rows of the training snapshot with the model.
        log_model_signatures: Give the model its signature.
        log_every_n_steps: Log a Gluon loop at every n-th step. ``fit`` has lines of its own.
        registered_model_name: Register each model under this name, once for a training's key.
        disable: Turn it off again.
        exclusive: Log nothing to a run that the caller opened.
        silent: Show no messages or warnings of MLflow's while logging.
        extra_tags: Tags of the runs that it makes.

    Example:
        >>> import mxpipe_mlflow
        >>> mxpipe_mlflow.autolog(registered_model_name="flight_delays")  # doctest: +SKIP
        >>> result = mxpipe.train.fit(spec, "runs/january")  # doctest: +SKIP
    """
    del disable, exclusive, silent  # the decorator and `safe_patch` see to them
    options = _Options(
        log_models,
        log_datasets,
        log_input_examples,
        log_model_signatures,
        log_every_n_steps,
        registered_model_name,
        dict(extra_tags or {}),
    )
    # `fit` calls it by its module, so that a `fit` that was imported by name before is followed as well.
    fit_module = importlib.import_module("mxpipe.train.fit")
    safe_patch(FLAVOR_NAME, fit_module, "fit_in", partial(_fit, options))
    safe_patch(FLAVOR_NAME, TrainStep, "__call__", partial(_train_step, options))
    safe_patch(FLAVOR_NAME, Trainer, "step", partial(_trainer_step, options))


# ------------------------------------------------------------------------------------------------------ fit


def _fit(
    options: _Options,
    original: Any,
    run: Any,
    lease: Any,
    spec: TrainSpec,
    key: str,
    callbacks: Any = (),
    builders: Any = (),
) -> FitResult:
    token = _within_fit.set(True)
    try:
        if any(isinstance(callback, MlflowCallback) for callback in callbacks):
            return original(run, lease, spec, key, callbacks, builders)  # it is followed already
        callback = _callback(options)
        result: FitResult = original(run, lease, spec, key, (*callbacks, callback), builders)
    finally:
        _within_fit.reset(token)
    # Without a run either MLflow is away, or the training was finished before and its model is logged.
    if options.log_models and result.status.state is JobState.SUCCEEDED and callback.run_id is not None:
        _log_model(options, result, callback.run_id, spec, key)
    return result


def _callback(options: _Options) -> MlflowCallback:
    active = mlflow.active_run()
    if active is not None:
        return MlflowCallback(
            mlflow.get_tracking_uri(), run_id=active.info.run_id, log_datasets=options.log_datasets
        )
    return MlflowCallback(
        mlflow.get_tracking_uri(),
        mlflow.MlflowClient().get_experiment(_get_experiment_id()).name,
        tags={MLFLOW_AUTOLOGGING: FLAVOR_NAME, **options.extra_tags},
        log_datasets=options.log_datasets,
    )


def _log_model(options: _Options, result: FitResult, run_id: str, spec: TrainSpec, key: str) -> None:
    example = _rows(spec, result.model_path) if options.log_input_examples else None
    logged = log_folder_once(
        mlflow.MlflowClient(),
        result.model_path,
        run_id,
        key,
        example,
        signature=None if options.log_model_signatures else False,
    )
    if options.registered_model_name is not None:
        registry.register_once(options.registered_model_name, logged.model_uri, key)


def _rows(spec: TrainSpec, model_path: Path) -> Any:
    """The first rows of the training snapshot, as the model takes them; None where it takes no columns."""
    names = [column.name for column in load_model(model_path).signature]
    if not names:
        return None
    first = next(Snapshot.open(spec.data.train).tables(names))
    return first.slice(0, _EXAMPLE_ROWS).to_pandas()


# ----------------------------------------------------------------------------------------------- Gluon loops


@dataclass
class _Followed:
    """A trainer and the run that it is logged to."""

    run_id: str
    client: mlflow.MlflowClient = field(default_factory=mlflow.MlflowClient)


_followed: WeakKeyDictionary[Trainer, _Followed] = WeakKeyDictionary()


def _train_step(options: _Options, original: Any, self: TrainStep, *batch: Any, **arguments: Any) -> Any:
    loss = original(self, *batch, **arguments)
    _follow(options, self._trainer, lambda: {"loss": float(loss.mean())})
    return loss


def _trainer_step(options: _Options, original: Any, self: Trainer, *arguments: Any, **named: Any) -> None:
    original(self, *arguments, **named)
    _follow(options, self, dict)


def _follow(options: _Options, trainer: Trainer, measure: Any) -> None:
    """Log a step of a trainer to the active run, if there is one."""
    active = None if _within_fit.get() else mlflow.active_run()
    step = trainer.optimizer.num_update
    if active is None or step % options.log_every_n_steps:
        return
    run_id = active.info.run_id
    followed = _followed.get(trainer)
    if followed is None or followed.run_id != run_id:
        followed = _followed[trainer] = _Followed(run_id)
        mlflow.log_params(_settings(trainer), run_id=run_id)
    values = measure() | {"learning_rate": float(trainer.learning_rate)}
    now = mlflow.utils.time.get_current_time_millis()
    metrics = [mlflow.entities.Metric(name, value, now, step) for name, value in values.items()]
    followed.client.log_batch(run_id, metrics, synchronous=False)


def _settings(trainer: Trainer) -> dict[str, Any]:
    optimizer = trainer.optimizer
    settings = {"optimizer": type(optimizer).__name__, "learning_rate": optimizer.lr}
    schedule = optimizer.lr_scheduler
    if schedule is not None:
        settings["lr_scheduler"] = type(schedule).__name__
    return settings | {name: getattr(optimizer, name) for name in optimizer.constant_names}
