"""### Does the champion still know the flights that it sees?

Every Monday the flights of the week before are read as they were known at their departure, and the champion
predicts them. They are compared with the flights that it was trained on, its predictions with those that it
gave then, and, as all of them have landed by now, the predictions with the truth.

A week that has drifted puts an event on the asset ``mxpipe://monitors/flight_delays``, at most once in three
weeks. That schedules the second DAG here, which starts ``flight_delays`` over all flights before the end of
that week: the candidate is judged as in every month, and promoted only if it is better.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, AssetAlias, Param, task
from airflow.timetables.interval import CronDataIntervalTimetable
from flights import features
from flights.ingest import ORDER, flights_between
from flights.sources import source_files

from mxpipe_airflow.assets.mxpipe import monitor_asset
from mxpipe_airflow.operators.ingest import MxpipeSparkIngestOperator
from mxpipe_airflow.operators.monitor import MxpipeMonitorOperator

MODEL = "flight_delays"
HERE = Path(__file__).parent
CODE = [str(HERE / "flights" / name) for name in ("sources.py", "ingest.py", "features.py")]
FIRST_DAY = "{{ params.first_day or data_interval_start.strftime('%Y-%m-%d') }}"


def end_of_week(first_day: str) -> date:
    """The Monday after a week's first day."""
    return date.fromisoformat(first_day) + timedelta(days=7)


def name_of_week(first_day: str) -> str:
    """A week's name by ISO 8601, such as ``2013-W07``."""
    return date.fromisoformat(first_day).strftime("%G-W%V")


def of_week(function: str) -> str:
    """A template that applies one of the functions above to the run's week."""
    return FIRST_DAY.replace("{{ ", "{{ " + function + "(").replace(" }}", ") }}")


with DAG(
    dag_id="flight_delays_monitor",
    description="Compare a week's flights with what the champion was trained on",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 0 * * 1", timezone="UTC"),
    start_date=datetime(2013, 2, 4),
    end_date=datetime(2013, 12, 30),
    catchup=True,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=20)},
    params={
        "first_day": Param(
            None, type=["null", "string"], description="A Monday such as 2013-02-11, to run by hand"
        ),
    },
    user_defined_macros={"end_of_week": end_of_week, "name_of_week": name_of_week},
    tags=["mxpipe", "flights"],
) as dag:
    rows = MxpipeSparkIngestOperator(
        task_id="ingest",
        dataframe=flights_between,
        partition=of_week("name_of_week"),
        arguments={"first": FIRST_DAY, "before": of_week("end_of_week")},
        sort_by=ORDER,
        spark_conf={"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"},
        sources=source_files,
        code_paths=CODE,
    )
    MxpipeMonitorOperator(
        task_id="monitor",
        model_name=MODEL,
        window=of_week("name_of_week"),
        start=FIRST_DAY,
        end=of_week("end_of_week"),
        snapshot_uri=rows.output["uri"],
        time_column="date",
        label_column=features.LABEL,
        policy=features.MONITOR,
        outlets=[AssetAlias(f"{MODEL}_drift")],
    )

with DAG(
    dag_id="flight_delays_on_drift",
    description="Retrain when a week has drifted",
    doc_md=__doc__,
    schedule=[monitor_asset(MODEL)],
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=20)},
    tags=["mxpipe", "flights"],
) as on_drift:

    @task
    def newest_day(triggering_asset_events: Any = None) -> str:
        """The end of the last week that has drifted: all flights before it are trained on."""
        ends = [event.extra["end"] for events in triggering_asset_events.values() for event in events]
        return str(max(ends))[:10]

    day = newest_day()
    TriggerDagRunOperator(
        task_id="retrain",
        trigger_dag_id=MODEL,
        conf={"partition": day},
        logical_date=f"{day}T12:00:00+00:00",  # within the year that the example has; at noon no month begins
        # By the day and not by the clock: the same drift starts one run.
        trigger_run_id=f"drift__{day}",
        skip_when_already_exists=True,
    )
