"""Monitor and canary on what the run's configuration gives, and a DAG that drift schedules."""

from datetime import timedelta

from airflow.sdk import DAG, AssetAlias, task

from mxpipe_airflow.assets.mxpipe import monitor_asset
from mxpipe_airflow.operators.canary import MxpipeCanaryOperator
from mxpipe_airflow.operators.monitor import MxpipeMonitorOperator

WINDOW = {name: f"{{{{ dag_run.conf['{name}'] }}}}" for name in ("window", "start", "end")}
POLICY = {"minimum_rows": 500, "cool_down_days": 10, "performance": {"auc": 0.6}}

with DAG("monitoring", schedule=None) as dag:
    MxpipeMonitorOperator(
        task_id="snapshot",
        model_name="monitored",
        **WINDOW,
        snapshot_uri="{{ dag_run.conf['snapshot'] }}",
        time_column="day",
        label_column="late",
        policy=POLICY,
        outlets=[AssetAlias("monitored-drift")],
        retries=1,
        retry_delay=timedelta(0),
    )
    MxpipeMonitorOperator(
        task_id="served",
        model_name="monitored",
        **WINDOW,
        monitor="served",
        version="{{ dag_run.conf['version'] }}",
        policy=POLICY,
        outlets=[AssetAlias("served-drift")],
    )
    MxpipeMonitorOperator(
        task_id="batch",
        model_name="monitored",
        **WINDOW,
        monitor="batch",
        predictions_uri="{{ dag_run.conf['predictions'] }}",
        policy=POLICY,
    )
    MxpipeMonitorOperator(task_id="nothing", model_name="unknown", **WINDOW)
    MxpipeCanaryOperator(
        task_id="canary",
        server={"url": "{{ dag_run.conf['url'] }}", "model_name": "late"},
        version="{{ dag_run.conf['version'] }}",
        share="{{ dag_run.conf['share'] }}",
        policy={"minimum_rows": 100, "minimum_requests": 5, "max_latency_ratio": 50.0},
        timeout=timedelta(seconds=60),
        poll_interval=0.1,
        retries=1,
        retry_delay=timedelta(0),
    )

with DAG("retrain_on_drift", schedule=[monitor_asset("monitored")], is_paused_upon_creation=False) as retrain:

    @task
    def told(triggering_asset_events=None):
        """The windows that scheduled this run."""
        return [event.extra["window"] for events in triggering_asset_events.values() for event in events]

    told()
