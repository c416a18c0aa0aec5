"""Waiting for drift and for versions: sensors on a real Airflow, event triggers as a watcher runs them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest


def append(root: Path, window: str, end: str) -> None:
    """What a monitor does when it finds drift."""
    from mxpipe.monitor.events import DriftEvent, EventLog

    event = DriftEvent("flights", window, "2013-01-01", end, 500, (f"{window}: PSI 0.4",))
    EventLog(root / "monitors" / "flights" / "events.jsonl").append(event)


class Store:
    """What Airflow keeps with a watched asset. In memory: the real one needs a running triggerer."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def aget(self, key: str, default: Any) -> Any:
        return self.kept.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self.kept[key] = value


async def events_of(trigger: Any, count: int, then: Any = None, linger: float = 0.0) -> list[Any]:
    """The first events of a trigger; ``then`` is called once it has looked for the first time."""
    found: list[Any] = []

    async def collect() -> None:
        async for event in trigger.run():
            found.append(event.payload)
            if len(found) == count and not linger:
                return

    task = asyncio.create_task(collect())
    await asyncio.sleep(0.3)
    if then:
        await asyncio.to_thread(then)
    try:
        await asyncio.wait_for(task, timeout=linger or 60.0)
    except TimeoutError:
        assert linger, "the event did not come"
    return found


@pytest.mark.parametrize("task_id", ["drift_polled", "drift_deferred"])
def test_a_sensor_finds_drift_since_a_time(root: Path, start_run: Any, task_id: str) -> None:
    append(root, "W01", "2013-01-08")
    append(root, "W02", "2013-01-15")
    run = start_run("watching", since="2013-01-08")
    outcome = run.attempt(task_id)
    assert outcome.state == "success", outcome.error
    assert run.xcom(task_id)["window"] == "W02"
    assert outcome.deferrals == []


def test_a_sensor_waits_for_drift_that_comes_later_also_over_a_retry(root: Path, start_run: Any) -> None:
    append(root, "W01", "2013-01-08")
    run = start_run("watching")
    assert run.attempt("drift_deferred", resume=False).state == "deferred"
    append(root, "W02", "2013-01-15")  # while no try is waiting
    outcome = run.attempt("drift_deferred", retry=True)
    assert outcome.state == "success", outcome.error
    assert run.xcom("drift_deferred")["window"] == "W02"


def test_a_rescheduled_sensor_keeps_its_start(root: Path, start_run: Any) -> None:
    append(root, "W01", "2013-01-08")
    run = start_run("watching")
    assert run.attempt("drift_polled").state == "up_for_reschedule"
    append(root, "W02", "2013-01-15")
    assert run.attempt("drift_polled").state == "success"
    assert run.xcom("drift_polled")["window"] == "W02"


def test_a_time_that_is_none_fails_at_once(root: Path, start_run: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    append(root, "W01", "2013-01-08")
    outcome = start_run("watching", since="last week").attempt("drift_polled")
    assert isinstance(outcome.error, AirflowFailException)
    assert "ISO 8601" in str(outcome.error)


def test_a_watcher_of_drift_goes_on_where_it_was(root: Path) -> None:
    from mxpipe_airflow.triggers.drift import MxpipeDriftTrigger

    append(root, "W01", "2013-01-08")
    store = Store()

    def watcher() -> Any:
        trigger = MxpipeDriftTrigger("flights", poll_interval=0.05)
        trigger.asset_state_store = store
        return trigger

    later = lambda: append(root, "W02", "2013-01-15")  # noqa: E731
    found = asyncio.run(events_of(watcher(), 1, later, linger=1.0))
    assert [event["window"] for event in found] == ["W02"], "what was there before starts nothing"
    append(root, "W03", "2013-01-22")  # while the triggerer is down
    found = asyncio.run(events_of(watcher(), 1, linger=0.5))
    assert [event["window"] for event in found] == ["W03"]


def test_a_watcher_whose_event_was_not_stored_tells_it_again(root: Path) -> None:
    from mxpipe_airflow.triggers.drift import MxpipeDriftTrigger

    store = Store()
    for _ in range(2):  # killed at the moment of the event
        trigger = MxpipeDriftTrigger("flights", poll_interval=0.05)
        trigger.asset_state_store = store
        found = asyncio.run(events_of(trigger, 1, lambda: append(root, "W01", "2013-01-08")))
        assert [event["window"] for event in found] == ["W01"]


def register(root: Path, key: str) -> str:
    """A new version, which the alias names from now on."""
    from mxpipe_airflow.hooks.mxpipe import MxpipeHook
    from mxpipe_mlflow import registry

    uri = MxpipeHook().settings.tracking_uri
    current = registry.resolve("watched", tracking_uri=uri)
    version = registry.publish_once("watched", root / "run" / "model", key, tracking_uri=uri).version
    registry.promote("watched", version, current.version if current else None, tracking_uri=uri)
    return version


@pytest.mark.slow
def test_sensors_and_watchers_see_an_alias_move(root: Path, start_run: Any, train_model: Any) -> None:
    from mxpipe_airflow.triggers.model import MxpipeModelVersionTrigger

    train_model()
    run = start_run("watching")
    assert run.attempt("model_deferred", resume=False).state == "deferred"
    trigger = MxpipeModelVersionTrigger("watched", "champion", poll_interval=0.05)
    trigger.asset_state_store = Store()
    (event,) = asyncio.run(events_of(trigger, 1, lambda: register(root, "one")))
    assert event == {"model_name": "watched", "alias": "champion", "version": "1", "previous": None}
    assert run.attempt("model_deferred", retry=True).state == "success"
    assert run.xcom("model_deferred") == event

    run = start_run("watching")
    assert run.attempt("model_deferred", resume=False).state == "deferred"
    trigger = MxpipeModelVersionTrigger("watched", poll_interval=0.05, known="1")
    (event,) = asyncio.run(events_of(trigger, 1, lambda: register(root, "two")))
    assert (event["version"], event["previous"], event["alias"]) == ("2", "1", None)
    assert run.attempt("model_deferred", retry=True).state == "success"
    assert run.xcom("model_deferred")["previous"] == "1"


@pytest.mark.usefixtures("airflow_database")
def test_a_watcher_is_known_to_airflow(start_run: Any) -> None:
    """The DAG processor stores the triggers of watched assets, from where the triggerer takes them."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.models.asset import AssetModel
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    start_run("every_operator")
    with create_session() as session:
        session.get(DagModel, "every_operator").is_paused = False
    (bundle,) = DagBundlesManager().get_all_dag_bundles()
    bag = BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
    sync_bag_to_db(bag, bundle.name, bundle.version)
    with create_session() as session:
        assets = session.scalars(select(AssetModel).where(AssetModel.uri.startswith("mxpipe://"))).all()
        paths = {asset.uri: {watcher.trigger.classpath for watcher in asset.watchers} for asset in assets}
    assert paths["mxpipe://models/every/champion"] == {
        "mxpipe_airflow.triggers.model.MxpipeModelVersionTrigger"
    }
    assert paths["mxpipe://monitors/every"] == {"mxpipe_airflow.triggers.drift.MxpipeDriftTrigger"}
