"""The weekly monitor of the flight example on the real flights of 2013."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
QUIET, WINDOW, DRIFTED = "2013-02-11", "2013-W07", "2013-04-22"
HEAVY = ("pyspark", "mlflow", "pandas", "pyarrow", "matplotlib", "starlette")


def test_the_dags_parse_without_weight() -> None:
    script = (
        "import sys, json; sys.path.insert(0, 'dags'); import flight_delays_monitor as found\n"
        "tasks = [sorted(dag.task_dict) for dag in (found.dag, found.on_drift)]\n"
        f"print(json.dumps([*tasks, [m for m in {HEAVY!r} if m in sys.modules]]))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == [
        ["ingest", "monitor"],
        ["newest_day", "retrain"],
        [],
    ]


@pytest.mark.parametrize(
    ("partition", "end", "start", "holdout"),
    [
        ("2013-01", "2013-02-01", "2013-01-01", "2013-01-25"),
        ("2013-12", "2014-01-01", "2013-12-01", "2013-12-25"),
        ("2013-02-18", "2013-02-18", "2013-02-01", "2013-02-11"),
        ("2013-03-01", "2013-03-01", "2013-02-01", "2013-02-22"),
    ],
)
@pytest.mark.usefixtures("airflow_database")
def test_a_partition_is_a_month_or_all_before_a_day(
    partition: str, end: str, start: str, holdout: str
) -> None:
    from flight_delays import end_of, holdout_start, start_of

    found = end_of(partition), start_of(partition), holdout_start(partition)
    assert [day.isoformat() for day in found] == [end, start, holdout]


@pytest.mark.usefixtures("airflow_database")
def test_template_fields_are_stored_as_they_are_given() -> None:
    from mxpipe_airflow.operators.canary import MxpipeCanaryOperator
    from mxpipe_airflow.operators.monitor import MxpipeMonitorOperator

    for kind in (MxpipeCanaryOperator, MxpipeMonitorOperator):
        arguments = inspect.signature(kind.__init__).parameters
        assert {*kind.template_fields} <= {*arguments, "conn_id"}, kind


# A process and a state directory of its own: the example's DAGs are what Airflow's folder holds there.
RUN = """
import json, os, sys
from datetime import UTC, datetime

sys.path.insert(0, "scripts")
from environment import REPOSITORY, STATE, environment, migrate

os.environ.update(environment())
migrate()
sys.path.insert(0, str(REPOSITORY / "dags"))
from airflow.models import dagrun
from airflow.models.asset import AssetEvent
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from flight_delays_monitor import dag, on_drift
from flights import features
from flights.ingest import ORDER, flights_until
from mxpipe.train import TrainSpec, fit
from mxpipe_mlflow import registry
from mxpipe_spark import local_session, write_snapshot

with local_session("january", master="local[2]") as spark:
    frame, _ = flights_until(spark, STATE, "2013-01-25")
    snapshot = write_snapshot(frame, str(STATE / "january"), sort_by=ORDER)
model = fit(TrainSpec.from_json(features.training(snapshot.uri)), STATE / "run").model_path
version = registry.publish_once("flight_delays", model, "f" * 64).version
registry.promote("flight_delays", version, None)


def manifest(run, task_id):
    with create_session() as session:
        names = {"run_id": run.run_id, "dag_ids": run.dag_id, "task_ids": task_id}
        query = XComModel.get_many(key="return_value", **names)
        return XComModel.deserialize_value(session.execute(query).first()[0])


found = {}
for first_day in sys.argv[1:]:
    monday = datetime.fromisoformat(first_day).replace(tzinfo=UTC)
    run = dag.test(logical_date=monday, run_conf={"first_day": first_day})
    found[first_day] = {"state": str(run.state), **manifest(run, "monitor")}

# `dag.test` has no scheduler, which gives the events of an asset to the run that they start.
create = dagrun.get_or_create_dagrun

def with_events(**arguments):
    run, session = create(**arguments), arguments["session"]
    run.consumed_asset_events.extend(session.scalars(select(AssetEvent)).all())
    session.flush()
    return run

dagrun.get_or_create_dagrun = with_events
for _ in range(2):  # a second time starts nothing new
    started = on_drift.test()
    assert str(started.state) == "success", started.state
with create_session() as session:
    runs = session.execute(select(DagRun.run_id, DagRun.conf).where(DagRun.dag_id == "flight_delays")).all()
    events = [extra["window"] for extra in session.scalars(select(AssetEvent.extra))]
print(json.dumps({"weeks": found, "runs": [list(run) for run in runs], "events": events}))
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_weeks_are_looked_at_and_drift_starts_one_retraining(tmp_path: Path) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, QUIET, DRIFTED],
        cwd=REPOSITORY,
        env=own | {"MXPIPE_STATE": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    told = json.loads(run.stdout.splitlines()[-1])
    quiet, drifted = told["weeks"][QUIET], told["weeks"][DRIFTED]
    assert quiet["state"] == drifted["state"] == "success"
    assert quiet["verdict"] == "stable", quiet["reasons"]
    assert (quiet["window"], quiet["version"]) == (WINDOW, "1")
    assert quiet["rows"] > 5000
    assert quiet["performance"]["auc"] > 0.6
    assert (drifted["verdict"], drifted["event"], drifted["announced"]) == ("drift", "appended", True)
    assert Path(drifted["report_uri"]).stat().st_size > 10_000
    assert told["events"] == [drifted["window"]]
    end = drifted["end"][:10]
    assert told["runs"] == [[f"drift__{end}", {"partition": end}]]
