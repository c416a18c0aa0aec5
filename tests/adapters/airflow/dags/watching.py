"""Sensors, in the worker and in the triggerer."""

from airflow.sdk import DAG

from mxpipe_airflow.sensors.drift import MxpipeDriftSensor
from mxpipe_airflow.sensors.model import MxpipeModelVersionSensor

with DAG("watching", schedule=None) as dag:
    for name, deferrable in (("polled", False), ("deferred", True)):
        MxpipeDriftSensor(
            task_id=f"drift_{name}",
            monitor="flights",
            since="{{ dag_run.conf.get('since', '') }}",
            deferrable=deferrable,
            poke_interval=0.05,
            mode="reschedule",
            retries=1,
        )
        MxpipeModelVersionSensor(
            task_id=f"model_{name}",
            model_name="watched",
            alias="champion",
            deferrable=deferrable,
            poke_interval=0.05,
            retries=1,
        )
