"""One training, waited for by a trigger or by the worker; the run's configuration says what to train."""

from datetime import timedelta

from airflow.sdk import DAG

from mxpipe_airflow.operators.train import MxpipeTrainOperator


class Train(MxpipeTrainOperator):
    """Takes the specification from the run's configuration, as it is."""

    def run_stage(self, context):
        self.spec = context["dag_run"].conf["spec"]
        return super().run_stage(context)


for dag_id, deferrable in (("train_deferred", True), ("train_polled", False)):
    with DAG(dag_id, schedule=None) as dag:
        Train(
            task_id="train",
            spec={},
            partition="2013-01",
            data_digest="{{ dag_run.conf['digest'] }}",
            deferrable=deferrable,
            poll_interval=0.05,
            progress_interval=0.2,
            timeout=timedelta(seconds=120),
            retries=2,
            retry_delay=timedelta(0),
        )
    globals()[dag_id] = dag
