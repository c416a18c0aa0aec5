"""### How many aircraft will leave in an hour of tomorrow?

One run is one month of New York's airports. It first asks whether the recipe holds: a backtest trains it
anew before each of three earlier weeks and forecasts that week. If it beats the same hour of the week
before in all of them, a candidate is trained on everything but the last week, compared there with the
champion, and forecasts that week.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, TriggerRule, task
from demand import features
from demand.rows import departures_until
from flights.sources import source_files

from mxpipe_airflow.operators.batch import MxpipeBatchPredictOperator
from mxpipe_airflow.operators.champion import MxpipeResolveChampionOperator
from mxpipe_airflow.operators.data import MxpipeSplitOperator, MxpipeValidateOperator
from mxpipe_airflow.operators.evaluate import MxpipeEvaluateOperator
from mxpipe_airflow.operators.ingest import MxpipeTableIngestOperator
from mxpipe_airflow.operators.train import MxpipeTrainOperator
from mxpipe_airflow.patterns import challenge

MODEL = "demand_forecast"
WINDOWS = 3
CODE = [str(Path(__file__).parent / "demand" / name) for name in ("rows.py", "features.py", "network.py")]
CODE.append(str(Path(__file__).parent / "flights" / "sources.py"))
PARTITION = "{{ params.partition }}"


def end_of(partition: str) -> date:
    """The first day after a month such as ``2013-03``."""
    first = date.fromisoformat(f"{partition}-01")
    return (first + timedelta(days=31)).replace(day=1)


def week(partition: str, back: int) -> dict[str, str]:
    """The first day of the week that lies so many weeks before a month's last one, and the day after it."""
    last = end_of(partition) - timedelta(weeks=back)
    return {"at": str(last - timedelta(weeks=1)), "until": str(last)}


def to_training(split: dict[str, Any]) -> dict[str, Any]:
    """What a window's training is made of."""
    return {"spec": features.training(split["train_uri"]), "data_digest": split["digest"]}


def to_evaluation(pair: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    """What a window's evaluation is made of."""
    candidate, split = pair
    holdout = {name: split[name] for name in ("holdout_uri", "holdout_digest")}
    return {"candidate": candidate, **holdout}


with DAG(
    dag_id="demand_forecast",
    description="Backtest, retrain and judge a forecast of departures, month by month",
    doc_md=__doc__,
    schedule=None,  # the flights are those of 2013: a month is replayed by hand
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=20)},
    params={
        "partition": Param("2013-03", pattern=r"^2013-(0[3-9]|1[0-2])$", description="A month from March on"),
    },
    user_defined_macros={"end_of": end_of, "week": week},
    tags=["mxpipe", "demand"],
) as dag:
    common: dict[str, Any] = {
        "builders": [features.BUILDER],
        "partition": PARTITION,
        "code_paths": CODE,
        "deferrable": True,
        "poll_interval": 1.0,
        "progress_interval": 3.0,
        "timeout": timedelta(hours=1),
        "retries": 3,
    }
    judged: dict[str, Any] = {
        "label_column": features.LABEL,
        "task": "regression",
        "metric": features.POLICY["metric"],
        "baseline_column": features.BASELINE,
        "slices": ["origin"],
        "groups": ["date"],  # the hours of a day share their weather
    }
    champion = MxpipeResolveChampionOperator(
        task_id="resolve_champion",
        model_name=MODEL,
        partition=PARTITION,
        sources=source_files,
        code_paths=CODE,
    )
    rows = MxpipeTableIngestOperator(
        task_id="ingest",
        table=departures_until,
        partition=PARTITION,
        arguments={"before": PARTITION.replace("{{ ", "{{ end_of(").replace(" }}", ") }}")},
        sources=source_files,
        code_paths=CODE,
    )
    validated = MxpipeValidateOperator(
        task_id="validate",
        snapshot_uri=rows.output["uri"],
        expectations=features.EXPECTATIONS,
        reference_uri=champion.output["train_snapshot"],
        recent={"column": "date", "at": f"{PARTITION}-01"},
    )

    @task
    def backtest_windows(partition: str) -> list[dict[str, str]]:
        """The weeks that are forecast as if they still lay ahead."""
        return [week(partition, back) for back in range(WINDOWS, 0, -1)]

    windows = MxpipeSplitOperator.partial(
        task_id="backtest_split", snapshot_uri=validated.output["snapshot_uri"], column="date"
    ).expand_kwargs(backtest_windows(PARTITION))
    trials = MxpipeTrainOperator.partial(task_id="backtest_train", **common).expand_kwargs(
        windows.output.map(to_training)
    )
    backtests = MxpipeEvaluateOperator.partial(
        task_id="backtest_evaluate", champion={"version": None}, **judged
    ).expand_kwargs(trials.output.zip(windows.output).map(to_evaluation))

    @task
    def backtest(evaluations: list[dict[str, Any]]) -> dict[str, Any]:
        """Whether the recipe beats the forecast that costs nothing in every window.

        Raises:
            AirflowFailException: It does not: no candidate of it deserves to be trained.
        """
        from airflow.sdk.exceptions import AirflowFailException

        skills = [round(found["candidate"]["skill"], 4) for found in evaluations]
        if min(skills) <= 0:
            raise AirflowFailException(
                f"[backtest] the skill must be positive in every window; got {skills}."
            )
        return {"skills": skills, "mae": [round(found["candidate"]["mae"], 4) for found in evaluations]}

    split = MxpipeSplitOperator(
        task_id="split",
        snapshot_uri=validated.output["snapshot_uri"],
        column="date",
        at=PARTITION.replace("{{ ", "{{ week(").replace(" }}", ", 0)['at'] }}"),
    )
    candidate = MxpipeTrainOperator(
        task_id="train",
        spec=features.training(str(split.output["train_uri"])),
        data_digest=split.output["digest"],
        callbacks={"mlflow": {"experiment": MODEL, "run_name": PARTITION}},
        **common,
    )
    stages = challenge(
        MODEL,
        candidate=candidate.output,
        champion=champion.output,
        split=split.output,
        policy=features.POLICY,
        **judged,
    )
    backtest(backtests.output) >> candidate  # type: ignore[arg-type]
    predicted = MxpipeBatchPredictOperator(
        task_id="predict",
        snapshot_uri=split.output["holdout_uri"],
        model_uri=f"models:/{MODEL}@champion",
        keys=["time", "origin"],
        # A run whose candidate stays behind still has its predictions, by the champion.
        trigger_rule=TriggerRule.NONE_FAILED,
    )
    stages.promoted >> predicted
