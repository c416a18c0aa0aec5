"""A training and an evaluation that functions describe."""

from airflow.sdk import DAG, task

with DAG("decorated", schedule=None) as dag:

    @task.mxpipe_train(partition="{{ dag_run.conf['partition'] }}", poll_interval=0.05, deferrable=True)
    def train(steps, dag_run):
        """The rows come from the run's configuration, the steps from the call."""
        return {
            "model": {"builder": "logistic_regression"},
            "data": {
                "train": dag_run.conf["snapshot"],
                "features": {"numeric": ["x", "y"], "label": "label"},
                "batch_size": 16,
            },
            "steps": steps,
        }

    @task.mxpipe_train(partition="2013-01")
    def train_nothing():
        return "a specification"

    @task.mxpipe_evaluate(label_column="label", samples=20)
    def evaluate(candidate, dag_run):
        champion = {"model_name": "decorated", "version": None}
        holdout = {"holdout_uri": dag_run.conf["snapshot"], "holdout_digest": dag_run.conf["digest"]}
        return {"candidate": candidate, "champion": champion, **holdout}

    @task.mxpipe_evaluate(label_column="label")
    def evaluate_nothing():
        return {"candidate": {}}

    evaluate(train(100))
    train_nothing()
    evaluate_nothing()
