"""A real Airflow with a migrated database of its own, and DAG runs whose tasks run one by one.

Airflow reads its home from the environment at its first import, so the variables are set while tests are
collected, before any test module imports it.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

HERE = Path(__file__).parent
if "MXPIPE_TEST_HOME" in os.environ:  # a worker that a test has started
    HOME = Path(os.environ["MXPIPE_TEST_HOME"])
else:
    HOME = Path(tempfile.mkdtemp(prefix="mxpipe-airflow-"))
    atexit.register(shutil.rmtree, HOME, ignore_errors=True)
ROOT = HOME / "mxpipe"
VARIABLES = {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "0",
    "AIRFLOW__API_AUTH__JWT_SECRET": "0" * 128,
    "AIRFLOW_CONN_MXPIPE_DEFAULT": json.dumps(
        {"conn_type": "mxpipe", "extra": {"root": str(ROOT), "tracking_uri": f"sqlite:///{HOME}/mlflow.db"}}
    ),
    "GIT_PYTHON_REFRESH": "quiet",
}
assert "airflow" not in sys.modules, "Airflow must not be imported before its home is set"
os.environ.update(VARIABLES)


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's database, migrated."""
    from airflow.utils import db

    db.initdb()


@pytest.fixture
def root(airflow_database: None) -> Iterator[Path]:
    """The empty root directory of the default connection; no job outlives the test."""
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    yield ROOT
    from mxpipe.jobs import LocalLauncher

    launcher = LocalLauncher(ROOT / "jobs")
    for job_id, status in launcher.list():
        if status.state.is_active:
            launcher.cancel(job_id, timeout=1.0)


class Run:
    """A DAG run in the real database, whose tasks are run one at a time as a worker would run them."""

    def __init__(self, dag: Any, conf: Mapping[str, Any]) -> None:
        from airflow.models.dag_version import DagVersion
        from airflow.models.dagrun import get_or_create_dagrun
        from airflow.serialization.serialized_objects import DagSerialization
        from airflow.utils.session import create_session
        from airflow.utils.types import DagRunTriggeredByType

        synchronise(dag)
        self.dag = dag
        self.run_id = f"test__{datetime.now(UTC).isoformat()}"
        with create_session() as session:
            run = get_or_create_dagrun(
                dag=DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)),
                run_id=self.run_id,
                logical_date=None,
                data_interval=None,
                run_after=datetime.now(UTC),
                start_date=datetime.now(UTC),
                conf=dict(conf),
                triggered_by=DagRunTriggeredByType.TEST,
                triggering_user_name="test",
                session=session,
            )
            assert DagVersion.get_version(dag.dag_id, session=session)
            self.id = run.id

    def instance(self, task_id: str) -> Any:
        """The task instance as the database has it."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            query = select(TaskInstance).where(
                TaskInstance.dag_id == self.dag.dag_id,
                TaskInstance.run_id == self.run_id,
                TaskInstance.task_id == task_id,
            )
            found = session.scalar(query)
            session.expunge(found)
            return found

    def queue(self, task_id: str, retry: bool = False) -> None:
        """What the scheduler does before an attempt."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from airflow.utils.state import TaskInstanceState

        with create_session() as session:
            found = session.get(TaskInstance, self.instance(task_id).id)
            if retry:
                found.prepare_db_for_next_try(session)
                found.clear_next_method_args()
            found.try_number += 1
            found.state = TaskInstanceState.QUEUED
            session.merge(found)

    def attempt(self, task_id: str, retry: bool = False, resume: bool = True) -> Any:
        """Run one attempt of a task, deferral included; returns its outcome."""
        self.queue(task_id, retry)
        return run_attempt(self.dag, self.instance(task_id), resume)

    def resume(self, task_id: str, event: Any) -> Any:
        """Let a deferred task go on with an event."""
        from airflow.sdk.serde import serialize

        return self._go_on(task_id, "execute_complete", {"event": serialize(event)})

    def fail_deferral(self, task_id: str, error: str) -> Any:
        """Let a deferred task go on as the scheduler does when its trigger failed or outlived its time."""
        return self._go_on(task_id, "__fail__", {"error": error})

    def question(self, task_id: str) -> Any:
        """What a task has put before a person."""
        from airflow.models.hitl import HITLDetail
        from airflow.utils.session import create_session

        with create_session() as session:
            found = session.get(HITLDetail, self.instance(task_id).id)
            return SimpleNamespace(subject=found.subject, body=found.body, options=found.options)

    def answer(self, task_id: str, option: str) -> Any:
        """Choose an option on the page of required actions, and let the task that waits for it go on."""
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
        from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
        from airflow.utils.session import create_session

        with create_session() as session:
            update_hitl_detail(
                self.dag.dag_id,
                self.run_id,
                task_id,
                UpdateHITLDetailPayload(chosen_options=[option]),
                SimpleAuthManagerUser(username="anna", role="admin"),
                session,
            )
        waiting = self.instance(task_id)
        return self._go_on(task_id, waiting.next_method, waiting.next_kwargs)

    def _go_on(self, task_id: str, method: str, arguments: dict[str, Any]) -> Any:
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from airflow.utils.state import TaskInstanceState

        with create_session() as session:
            found = session.get(TaskInstance, self.instance(task_id).id)
            found.state = TaskInstanceState.QUEUED
            found.next_method, found.next_kwargs = method, arguments
        return run_attempt(self.dag, self.instance(task_id))

    def start_worker(self, task_id: str) -> subprocess.Popen[bytes]:
        """Run the queued attempt in a process of its own."""
        script = (
            "import sys, conftest\n"
            "from airflow.dag_processing.dagbag import DagBag\n"
            "run = object.__new__(conftest.Run)\n"
            f"run.dag = DagBag({self.dag.fileloc!r}).dags[{self.dag.dag_id!r}]\n"
            f"run.run_id = {self.run_id!r}\n"
            f"result = conftest.run_attempt(run.dag, run.instance({task_id!r}))\n"
            "print(result.state, repr(result.error))\n"
            "sys.exit(0 if result.state == 'success' else 1)\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | {"MXPIPE_TEST_HOME": str(HOME), "PYTHONPATH": str(HERE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def clear(self, task_id: str) -> None:
        """What the page's Clear button does."""
        from airflow.models.taskinstance import clear_task_instances
        from airflow.utils.session import create_session

        with create_session() as session:
            clear_task_instances([session.merge(self.instance(task_id))], session)

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        """What the task returned, or one of its other XComs."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            query = XComModel.get_many(run_id=self.run_id, key=key, task_ids=task_id, dag_ids=self.dag.dag_id)
            row = session.execute(query).first()
            return None if row is None else XComModel.deserialize_value(row[0])


def synchronise(dag: Any) -> None:
    """Make a DAG of the tests' folder known to the database, as the DAG processor does."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.models.dag_version import DagVersion

    if DagVersion.get_version(dag.dag_id):
        return
    manager = DagBundlesManager()
    manager.sync_bundles_to_db()
    for bundle in manager.get_all_dag_bundles():
        bundle.initialize()
        bag = BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        assert not bag.import_errors, bag.import_errors
        sync_bag_to_db(bag, bundle.name, bundle.version)


def run_attempt(dag: Any, instance: Any, resume: bool = True) -> Any:
    """Run a queued task instance in this process, with its triggers in line.

    Args:
        dag: Its DAG.
        instance: The task instance.
        resume: Wait for triggers and go on; else end where the task is deferred.

    Returns:
        ``state``, ``error`` (what the task raised), and ``deferrals``, the triggers it waited for.
    """
    from airflow.sdk._shared.module_loading import import_string
    from airflow.sdk.api.datamodels._generated import TaskInstance
    from airflow.sdk.execution_time.comms import DeferTask
    from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor, run_task_in_process
    from airflow.sdk.serde import deserialize, serialize
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState

    names = ("id", "task_id", "dag_id", "run_id", "try_number", "map_index", "dag_version_id")
    deferrals = []
    while True:
        ti = TaskInstance(**{name: getattr(instance, name) for name in names})
        result = run_task_in_process(ti=ti, task=dag.task_dict[instance.task_id])
        if not isinstance(result.msg, DeferTask):
            return SimpleNamespace(state=result.state.value, error=result.error, deferrals=deferrals)
        trigger = import_string(result.msg.classpath)(**deserialize(result.msg.trigger_kwargs))
        deferrals.append(trigger)
        if not resume:
            return SimpleNamespace(state="deferred", error=None, deferrals=deferrals)
        event = InProcessTestSupervisor.run_trigger_in_process(trigger=trigger, ti=ti)
        with create_session() as session:
            instance = session.merge(instance)
            session.refresh(instance)
            instance.state = TaskInstanceState.QUEUED
            instance.next_method = result.msg.next_method
            instance.next_kwargs = {"event": serialize(event.payload)}
            session.flush()
            session.expunge(instance)


@pytest.fixture
def train_model(root: Path) -> Any:
    """Trains a small model under the root, as a job does; returns its folder and the rows' snapshot."""

    def train() -> tuple[Path, Any]:
        import numpy as np

        from mxpipe.data import write_snapshot
        from mxpipe.train import TrainSpec, fit

        x = np.random.default_rng(0).normal(size=64)
        rows = write_snapshot(root / "rows", {"x": x, "label": (x > 0).astype(np.int32)})
        spec = TrainSpec(
            {"builder": "logistic_regression"},
            {"train": rows.uri, "features": {"numeric": ["x"], "label": "label"}, "batch_size": 16},
            epochs=1,
        )
        return fit(spec, root / "run").model_path, rows

    return train


@pytest.fixture
def start_run(airflow_database: None) -> Any:
    """Makes a run of a DAG of ``dags/`` with a configuration."""

    def start(dag_id: str, **conf: Any) -> Run:
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(str(HERE / "dags"))
        assert not bag.import_errors, bag.import_errors
        return Run(bag.dags[dag_id], conf)

    return start
