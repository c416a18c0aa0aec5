"""Searches for hyper-parameters; the run's configuration says what to train."""

from datetime import timedelta

from airflow.sdk import DAG

from mxpipe_airflow.operators.tune import (
    MxpipeBestTrialOperator,
    MxpipeTrialOperator,
    MxpipeTrialsOperator,
)

SPACE = {"optimizer.learning_rate": {"type": "choices", "options": [1e-7, 0.01, 0.1]}}
QUICK = {"poll_interval": 0.05, "progress_interval": 0.2, "timeout": timedelta(seconds=120)}


def search(**changes):
    """The first stage of a search."""
    return MxpipeTrialsOperator(
        task_id="trials",
        spec="{{ dag_run.conf['spec'] }}",
        space=SPACE,
        partition="2013-01",
        data_digest="{{ dag_run.conf['digest'] }}",
        metric="validation_loss",
        **changes,
    )


with DAG("tune_random", schedule=None, render_template_as_native_obj=True) as tune_random:
    trials = search(trials=4, sampler="random", seed=3, pruner="median", experiment="search")
    trial = MxpipeTrialOperator.partial(
        task_id="trial", deferrable=True, retries=2, retry_delay=timedelta(0), **QUICK
    ).expand(trial=trials.output)
    best = MxpipeBestTrialOperator(task_id="best", trials=trials.output)
    trial >> best

with DAG("tune_tpe", schedule=None, render_template_as_native_obj=True) as tune_tpe:
    trials = search(trials=3, sampler="tpe", seed=1, startup=2)
    trial = MxpipeTrialOperator.partial(
        task_id="trial", retries=2, retry_delay=timedelta(0), max_active_tis_per_dagrun=1, **QUICK
    ).expand(trial=trials.output)
    best = MxpipeBestTrialOperator(task_id="best", trials=trials.output)
    trial >> best

with DAG("tune_one", schedule=None, render_template_as_native_obj=True) as tune_one:
    trials = search(trials=1, sampler="random", seed=3, pruner={"name": "median", "n_startup_trials": 1})
    MxpipeTrialOperator(
        task_id="trial",
        trial="{{ dag_run.conf['trial'] }}",
        retries=2,
        retry_delay=timedelta(0),
        **QUICK,
    )
