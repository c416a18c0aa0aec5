"""### Will a flight arrive more than 15 minutes late?

One run is one month. Each month the pipeline joins all flights so far with weather, planes and airports,
trains a candidate on everything but the month's last seven days, compares it there with the champion of the
month before, and puts the better one before an HTTP door.

Drift in between (see ``flight_delays_monitor``) starts a run over all flights before a day.
Re-running a finished month finds its snapshot, its model and its version again: it registers nothing new.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, TriggerRule, task
from airflow.timetables.interval import CronDataIntervalTimetable
from flights import features
from flights.ingest import ORDER, flights_until
from flights.sources import source_files

from mxpipe_airflow.hooks.mxpipe import MxpipeHook
from mxpipe_airflow.operators.batch import MxpipeBatchPredictOperator
from mxpipe_airflow.operators.champion import MxpipeResolveChampionOperator
from mxpipe_airflow.operators.data import MxpipeSplitOperator, MxpipeValidateOperator
from mxpipe_airflow.operators.ingest import MxpipeSparkIngestOperator
from mxpipe_airflow.operators.serve import MxpipeDeployOperator, MxpipeServerCheckOperator
from mxpipe_airflow.operators.train import MxpipeTrainOperator
from mxpipe_airflow.patterns import challenge

MODEL = "flight_delays"
HOLDOUT_DAYS = 7
HERE = Path(__file__).parent
# What shapes the rows and the model. It is part of the key K, so that a change of it is a new training.
CODE = [str(HERE / "flights" / name) for name in ("sources.py", "ingest.py", "features.py")]
PARTITION = "{{ params.partition or data_interval_start.strftime('%Y-%m') }}"


def end_of(partition: str) -> date:
    """The first day after a month such as ``2013-01``, or the day of one such as ``2013-02-18``."""
    if len(partition) > len("2013-01"):
        return date.fromisoformat(partition)
    first = date.fromisoformat(f"{partition}-01")
    return (first + timedelta(days=31)).replace(day=1)


def start_of(partition: str) -> date:
    """The first of the last month of a partition, by whose rows drift is measured."""
    return (end_of(partition) - timedelta(days=1)).replace(day=1)


def holdout_start(partition: str) -> date:
    """The first of the last days of a partition, by which its candidate is judged."""
    return end_of(partition) - timedelta(days=HOLDOUT_DAYS)


def of_partition(function: str) -> str:
    """A template that applies one of the functions above to the run's month."""
    return PARTITION.replace("{{ ", "{{ " + function + "(").replace(" }}", ") }}")


with DAG(
    dag_id="flight_delays",
    description="Retrain, judge and serve a flight-delay model, month by month",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 0 1 * *", timezone="UTC"),
    start_date=datetime(2013, 1, 1),
    end_date=datetime(2013, 12, 31),
    catchup=True,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=20)},
    params={
        "partition": Param(
            None,
            type=["null", "string"],
            description="A month such as 2013-01, or a day such as 2013-02-18: all flights before it",
        ),
    },
    user_defined_macros={"end_of": end_of, "start_of": start_of, "holdout_start": holdout_start},
    tags=["mxpipe", "flights"],
) as dag:
    champion = MxpipeResolveChampionOperator(
        task_id="resolve_champion",
        model_name=MODEL,
        partition=PARTITION,
        sources=source_files,
        code_paths=CODE,
    )
    rows = MxpipeSparkIngestOperator(
        task_id="ingest",
        dataframe=flights_until,
        partition=PARTITION,
        arguments={"before": of_partition("end_of")},
        sort_by=ORDER,
        # A JVM that lives for seconds does better with its first compiler and its simplest collector.
        spark_conf={"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"},
        sources=source_files,
        code_paths=CODE,
    )
    validated = MxpipeValidateOperator(
        task_id="validate",
        snapshot_uri=rows.output["uri"],
        expectations=features.EXPECTATIONS,
        reference_uri=champion.output["train_snapshot"],
        recent={"column": "date", "at": of_partition("start_of")},
    )
    split = MxpipeSplitOperator(
        task_id="split",
        snapshot_uri=validated.output["snapshot_uri"],
        column="date",
        at=of_partition("holdout_start"),
    )
    candidate = MxpipeTrainOperator(
        task_id="train",
        spec=features.training(str(split.output["train_uri"])),
        partition=PARTITION,
        data_digest=split.output["digest"],
        code_paths=CODE,
        callbacks={"mlflow": {"experiment": MODEL, "run_name": PARTITION}},
        deferrable=True,
        poll_interval=1.0,
        progress_interval=3.0,
        timeout=timedelta(hours=1),
        retries=3,
    )
    stages = challenge(
        MODEL,
        candidate=candidate.output,
        champion=champion.output,
        split=split.output,
        policy=features.POLICY,
        label_column=features.LABEL,
        slices=["carrier", "origin"],
        groups=["date", "origin", "hour"],  # flights of one airport and hour share their weather
    )
    predicted = MxpipeBatchPredictOperator(
        task_id="predict",
        snapshot_uri=split.output["holdout_uri"],
        model_uri=f"models:/{MODEL}@champion",
        keys=["date", "carrier", "flight", "origin", "dest"],
        # A run whose candidate stays behind still has its predictions, by the champion.
        trigger_rule=TriggerRule.NONE_FAILED,
    )
    server = MxpipeDeployOperator(
        task_id="deploy",
        model_name=MODEL,
        monitor=MODEL,
        # A month whose candidate stays behind still sees to it that the champion is served.
        trigger_rule=TriggerRule.NONE_FAILED,
    )
    checked = MxpipeServerCheckOperator(
        task_id="check_server",
        server=server.output,
        snapshot_uri=split.output["holdout_uri"],
    )

    @task
    def baselines(split: dict[str, Any]) -> dict[str, Any]:
        """Train scikit-learn's models on the same rows and features, for the report."""
        from flights.baselines import run_baselines

        return run_baselines(split["train_uri"], split["holdout_uri"])

    @task
    def report(partition: str, ti: Any = None) -> dict[str, Any]:
        """Keep the month's record and write one page over all months."""
        from flights.records import keep_record
        from flights.report import write_report

        root = MxpipeHook().settings.root
        records = keep_record(root, partition, ti)
        page = root / "reports" / "flight_delays.html"
        write_report(records, page)
        return {"report_uri": str(page), "months": len(records)}

    compared = baselines(split.output)  # type: ignore[arg-type]
    stages.promoted >> [predicted, server]
    # A teardown runs whatever became of the month, and does not make a failed month look well.
    [compared, predicted, checked] >> report(PARTITION).as_teardown()
