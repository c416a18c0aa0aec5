"""### Which digit is it?

One run is one more batch of scanned images, which come from hands that the batches before did not have.
Each batch retrains a small convolutional network on everything that has arrived but the last images,
compares it there with the champion, and reads the whole batch with whichever is better.

It runs when a batch is announced (the asset ``mxpipe://snapshots/digits``), or by hand with a number from 1
to 4.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, Param, TriggerRule
from images import features
from images.rows import digits_until

from mxpipe_airflow.operators.batch import MxpipeBatchPredictOperator
from mxpipe_airflow.operators.champion import MxpipeResolveChampionOperator
from mxpipe_airflow.operators.data import MxpipeSplitOperator, MxpipeValidateOperator
from mxpipe_airflow.operators.ingest import MxpipeTableIngestOperator
from mxpipe_airflow.operators.train import MxpipeTrainOperator
from mxpipe_airflow.patterns import challenge

MODEL = "digits"
HOLDOUT_ROWS = 120
CODE = [str(Path(__file__).parent / "images" / name) for name in ("rows.py", "features.py", "network.py")]
BATCHES = Asset(name="digit_batches", uri="mxpipe://snapshots/digits")
BATCH = "{{ batch_of(params, triggering_asset_events) }}"


def batch_of(params: Any, events: Any) -> str:
    """The number of the batch: said by hand, or by the latest event that announced one."""
    if params.get("batch"):
        return str(params["batch"])
    announced = [event for found in (events or {}).values() for event in found]
    return str(announced[-1].extra["batch"]) if announced else "1"


def holdout_start(batch: str) -> str:
    """The number of the first of the images by which a batch's candidate is judged."""
    return str(int(batch) * features.BATCH_ROWS - HOLDOUT_ROWS)


with DAG(
    dag_id="digits",
    description="Retrain and judge a classifier of digits, batch by batch",
    doc_md=__doc__,
    schedule=[BATCHES],
    start_date=datetime(2013, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=20)},
    params={
        "batch": Param(None, type=["null", "integer"], minimum=1, maximum=3, description="A batch, by hand")
    },
    user_defined_macros={"batch_of": batch_of, "holdout_start": holdout_start},
    tags=["mxpipe", "images"],
) as dag:
    champion = MxpipeResolveChampionOperator(
        task_id="resolve_champion", model_name=MODEL, partition=BATCH, code_paths=CODE
    )
    rows = MxpipeTableIngestOperator(
        task_id="ingest",
        table=digits_until,
        partition=BATCH,
        arguments={"batch": BATCH},
        code_paths=CODE,
    )
    validated = MxpipeValidateOperator(
        task_id="validate",
        snapshot_uri=rows.output["uri"],
        expectations=features.EXPECTATIONS,
        reference_uri=champion.output["train_snapshot"],
    )
    split = MxpipeSplitOperator(
        task_id="split",
        snapshot_uri=validated.output["snapshot_uri"],
        column="number",
        at="{{ holdout_start(batch_of(params, triggering_asset_events)) }}",
    )
    candidate = MxpipeTrainOperator(
        task_id="train",
        spec=features.training(str(split.output["train_uri"])),
        builders=[features.BUILDER],
        partition=BATCH,
        data_digest=split.output["digest"],
        code_paths=CODE,
        callbacks={"mlflow": {"experiment": MODEL, "run_name": f"batch {BATCH}"}},
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
        task="classes",
        metric=features.POLICY["metric"],
    )
    predicted = MxpipeBatchPredictOperator(
        task_id="predict",
        snapshot_uri=rows.output["uri"],
        model_uri=f"models:/{MODEL}@champion",
        keys=["number"],
        # A run whose candidate stays behind still has its predictions, by the champion.
        trigger_rule=TriggerRule.NONE_FAILED,
    )
    stages.promoted >> predicted
