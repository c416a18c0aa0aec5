"""A training whose connection holds credentials, and whose MLflow server is away."""

from datetime import timedelta

from airflow.sdk import DAG

from mxpipe_airflow.operators.train import MxpipeTrainOperator

for dag_id, deferrable in (("secret_deferred", True), ("secret_polled", False)):
    with DAG(dag_id, schedule=None, render_template_as_native_obj=True) as dag:
        MxpipeTrainOperator(
            task_id="train",
            conn_id="mxpipe_secret",
            spec="{{ dag_run.conf['spec'] }}",
            partition="2013-01",
            data_digest="{{ dag_run.conf['digest'] }}",
            callbacks={"mlflow": {"experiment": "secret", "flush_seconds": 0.5}},
            deferrable=deferrable,
            poll_interval=0.05,
            timeout=timedelta(seconds=120),
        )
    globals()[dag_id] = dag
