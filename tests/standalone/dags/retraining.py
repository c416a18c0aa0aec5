"""A training that is registered, promoted and served; the run's configuration says what, where and how."""

from datetime import timedelta

from airflow.sdk import DAG

from mxpipe_airflow.operators.registry import MxpipePromoteOperator, MxpipeRegisterOperator
from mxpipe_airflow.operators.serve import MxpipeDeployOperator
from mxpipe_airflow.operators.train import MxpipeTrainOperator

VERDICT = {"decision": "PROMOTE", "reasons": []}


def of_run(name):
    """A value of the run's configuration, of whatever type it is there."""
    return "{{ dag_run.conf['" + name + "'] }}"


for dag_id, deferrable in (("retraining", True), ("retraining_polled", False)):
    with DAG(
        dag_id,
        schedule=None,
        max_active_runs=16,
        render_template_as_native_obj=True,
        default_args={"retries": 2, "retry_delay": timedelta(seconds=1), "conn_id": of_run("conn_id")},
    ) as dag:
        train = MxpipeTrainOperator(
            task_id="train",
            spec=of_run("spec"),
            partition=of_run("partition"),
            data_digest=of_run("digest"),
            callbacks=of_run("callbacks"),
            deferrable=deferrable,
            poll_interval=0.5,
            progress_interval=1.0,
            timeout=timedelta(minutes=10),
        )
        registered = MxpipeRegisterOperator(
            task_id="register",
            model_name=of_run("model"),
            candidate=train.output,
            split={"train_uri": "none"},
            champion=of_run("champion"),
            verdict=VERDICT,
            experiment=of_run("model"),
        )
    globals()[dag_id] = dag

with DAG("promotion", schedule=None, max_active_runs=16, render_template_as_native_obj=True) as promotion:
    MxpipePromoteOperator(
        task_id="promote",
        conn_id=of_run("conn_id"),
        model_name=of_run("model"),
        registered=of_run("registered"),
        champion=of_run("champion"),
        verdict=VERDICT,
        retries=2,
        retry_delay=timedelta(seconds=1),
    )

with DAG("deployment", schedule=None, render_template_as_native_obj=True) as deployment:
    MxpipeDeployOperator(task_id="deploy", conn_id=of_run("conn_id"), model_name=of_run("model"))
