"""### How will a user rate a film?

One run is one year of MovieLens ratings. Each year the pipeline takes all ratings so far, trains a network
with an embedding for each user and film on all but the year's last half, compares it there with the
champion of the year before, and predicts that half's ratings with whichever is better.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Param, TriggerRule
from ratings import features
from ratings.rows import ratings_until, source_files

from mxpipe_airflow.operators.batch import MxpipeBatchPredictOperator
from mxpipe_airflow.operators.champion import MxpipeResolveChampionOperator
from mxpipe_airflow.operators.data import MxpipeSplitOperator, MxpipeValidateOperator
from mxpipe_airflow.operators.ingest import MxpipeTableIngestOperator
from mxpipe_airflow.operators.train import MxpipeTrainOperator
from mxpipe_airflow.patterns import challenge

MODEL = "recommender"
CODE = [str(Path(__file__).parent / "ratings" / name) for name in ("rows.py", "features.py")]
YEAR = "{{ params.year }}"

with DAG(
    dag_id="recommender",
    description="Retrain and judge a recommender of films, year by year",
    doc_md=__doc__,
    schedule=None,  # the ratings end in 2016: a year is replayed by hand
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=20)},
    params={"year": Param(2000, type="integer", minimum=1999, maximum=2016, description="The year")},
    tags=["mxpipe", "ratings"],
) as dag:
    champion = MxpipeResolveChampionOperator(
        task_id="resolve_champion", model_name=MODEL, partition=YEAR, sources=source_files, code_paths=CODE
    )
    rows = MxpipeTableIngestOperator(
        task_id="ingest",
        table=ratings_until,
        partition=YEAR,
        arguments={"before": "{{ params.year + 1 }}-01-01"},
        sources=source_files,
        code_paths=CODE,
    )
    validated = MxpipeValidateOperator(
        task_id="validate",
        snapshot_uri=rows.output["uri"],
        expectations=features.EXPECTATIONS,
        reference_uri=champion.output["train_snapshot"],
        recent={"column": "date", "at": f"{YEAR}-01-01"},
    )
    split = MxpipeSplitOperator(
        task_id="split",
        snapshot_uri=validated.output["snapshot_uri"],
        column="date",
        at=f"{YEAR}-07-01",
    )
    candidate = MxpipeTrainOperator(
        task_id="train",
        spec=features.training(str(split.output["train_uri"])),
        partition=YEAR,
        data_digest=split.output["digest"],
        code_paths=CODE,
        callbacks={"mlflow": {"experiment": MODEL, "run_name": YEAR}},
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
        task="regression",
        metric=features.POLICY["metric"],
        baseline_column=features.BASELINE,
        groups=["user"],  # the ratings of one user share a mood
    )
    predicted = MxpipeBatchPredictOperator(
        task_id="predict",
        snapshot_uri=split.output["holdout_uri"],
        model_uri=f"models:/{MODEL}@champion",
        keys=["date", "user", "film"],
        engine="dask",
        # A run whose candidate stays behind still has its predictions, by the champion.
        trigger_rule=TriggerRule.NONE_FAILED,
    )
    stages.promoted >> predicted
