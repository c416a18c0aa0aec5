"""Lineage: the snapshots of a training as MLflow's datasets, and the Airflow task as a run's tags."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mxpipe.data import Snapshot, write_snapshot
from mxpipe.errors import DataError, SnapshotCorruptError
from mxpipe.train import JobState, TrainSpec, fit
from mxpipe_mlflow import tracking
from mxpipe_mlflow.context import AirflowRunContext
from mxpipe_mlflow.dataset import from_snapshot
from mxpipe_mlflow.dataset_source import SnapshotSource

COLUMNS = {"distance": [200.0, 700.0], "hour": [8, 9], "carrier": ["UA", None], "late": [0, 1]}


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return write_snapshot(str(tmp_path / "flights"), COLUMNS)


class TestDataset:
    def test_what_mlflow_shows_of_a_snapshot(self, snapshot: Snapshot) -> None:
        dataset = from_snapshot(snapshot)
        assert (dataset.name, dataset.digest) == ("flights", snapshot.digest[:32])
        assert dataset.profile["num_rows"] == 2
        types = {column.name: column.type.name for column in dataset.schema.inputs}
        assert types == {"distance": "double", "hour": "long", "carrier": "string", "late": "long"}
        assert from_snapshot(snapshot.uri, name="january").name == "january"

    def test_it_is_logged_and_read_back_by_the_source(
        self, snapshot: Snapshot, tracking_uri: str, name: str, work: Path
    ) -> None:
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            mlflow.log_input(from_snapshot(snapshot), context="training")
        logged = mlflow.get_run(run.info.run_id).inputs.dataset_inputs[0]
        assert logged.tags[0].value == "training"
        source = mlflow.data.get_source(logged)  # through the entry point
        assert type(source).__name__ == "SnapshotSource"
        assert source.load().digest == snapshot.digest
        assert json.loads(logged.dataset.schema)["mlflow_colspec"][0]["name"] == "distance"

    def test_mlflow_recognises_snapshots_among_other_sources(
        self, snapshot: Snapshot, tmp_path: Path
    ) -> None:
        resolve = mlflow.data.dataset_source_registry.resolve_dataset_source
        for raw in (snapshot, snapshot.uri):
            assert resolve(raw).to_dict() == {"uri": snapshot.uri, "digest": snapshot.digest}
        assert not SnapshotSource._can_resolve(str(tmp_path))
        assert not SnapshotSource._can_resolve("s3://bucket/rows")
        assert not SnapshotSource._can_resolve(7)

    def test_another_snapshot_in_its_place_is_noticed(self, snapshot: Snapshot, tmp_path: Path) -> None:
        source = SnapshotSource.from_json(SnapshotSource(snapshot.uri, snapshot.digest).to_json())
        shutil.rmtree(snapshot.uri)
        with pytest.raises(DataError):
            source.load()
        write_snapshot(snapshot.uri, {"x": [1.0]})
        with pytest.raises(SnapshotCorruptError, match="must have the digest"):
            source.load()

    def test_rows_and_labels_for_an_evaluation(self, snapshot: Snapshot) -> None:
        dataset = from_snapshot(snapshot, targets="late")
        parts = dataset.to_pyfunc()
        assert list(parts.inputs[0].columns) == ["distance", "hour", "carrier"]
        assert parts.outputs[0].tolist() == [0, 1]
        assert dataset.to_evaluation_dataset().labels_data.tolist() == [0, 1]
        assert from_snapshot(snapshot).to_pyfunc().outputs is None


class TestTraining:
    @pytest.fixture
    def spec(self, trained_models: Any) -> TrainSpec:
        stored = json.loads((trained_models.first.parent / "spec.json").read_text())["spec"]
        snapshot = stored["data"]["train"]
        validation = str(Path(snapshot).with_name("validation"))
        if not Path(validation).exists():
            write_snapshot(validation, COLUMNS)
        return TrainSpec.from_json(stored | {"data": stored["data"] | {"validation": validation}})

    def test_the_snapshots_become_inputs_of_the_run_once(
        self, spec: TrainSpec, tracking_uri: str, name: str, tmp_path: Path
    ) -> None:
        client = mlflow.MlflowClient(tracking_uri)
        for attempt in ("one", "two"):  # two trainings of one key: as if resumed on another machine
            callback = tracking.MlflowCallback(tracking_uri, name)
            assert fit(spec, tmp_path / attempt, name, [callback]).status.state is JobState.SUCCEEDED
        inputs = client.get_run(callback.run_id).inputs.dataset_inputs
        used = {item.tags[0].value: item.dataset for item in inputs}
        assert len(inputs) == 2
        for use, uri in (("training", spec.data.train), ("validation", spec.data.validation)):
            snapshot = Snapshot.open(str(uri))
            assert used[use].digest == snapshot.digest[:32]
            assert json.loads(used[use].source) == {"uri": uri, "digest": snapshot.digest}
            assert json.loads(used[use].profile)["num_rows"] == snapshot.num_rows

    def test_they_can_be_left_out(
        self, spec: TrainSpec, tracking_uri: str, name: str, tmp_path: Path
    ) -> None:
        callback = tracking.MlflowCallback(tracking_uri, name, log_datasets=False)
        fit(spec, tmp_path / "run", name, [callback])
        assert mlflow.MlflowClient(tracking_uri).get_run(callback.run_id).inputs.dataset_inputs == []

    def test_a_run_that_someone_else_opened_is_left_open(
        self, spec: TrainSpec, tracking_uri: str, name: str, tmp_path: Path
    ) -> None:
        client = mlflow.MlflowClient(tracking_uri)
        run_id = client.create_run(client.create_experiment(name)).info.run_id
        callback = tracking.MlflowCallback(tracking_uri, run_id=run_id)
        fit(spec, tmp_path / "run", name, [callback])
        run = client.get_run(run_id)
        assert callback.run_id == run_id
        assert run.info.status == "RUNNING"
        assert run.data.metrics["train_loss"] > 0
        assert len(run.inputs.dataset_inputs) == 2


class TestAirflowContext:
    def test_everything_that_names_a_try(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW_CTX_DAG_ID", raising=False)
        assert not AirflowRunContext().in_context()
        for variable, value in (
            ("DAG_ID", "flights"),
            ("DAG_RUN_ID", "manual"),
            ("TASK_ID", "tune"),
            ("TRY_NUMBER", "2"),
            ("MAP_INDEX", "3"),
        ):
            monkeypatch.setenv(f"AIRFLOW_CTX_{variable}", value)
        assert AirflowRunContext().in_context()
        assert AirflowRunContext().tags() == {
            "airflow.dag_id": "flights",
            "airflow.run_id": "manual",
            "airflow.task_id": "tune",
            "airflow.try_number": "2",
            "airflow.map_index": "3",
        }

    @pytest.mark.parametrize(("index", "expected"), [(4, "4"), (-1, None)])
    def test_the_index_of_a_mapped_task_is_asked_of_airflow(
        self, monkeypatch: pytest.MonkeyPatch, index: int, expected: str | None
    ) -> None:
        """A stand-in for Airflow's module: a real mapped task is in the search's test, among Airflow's."""
        sdk = types.ModuleType("airflow.sdk")
        sdk.get_current_context = lambda: {"ti": types.SimpleNamespace(map_index=index)}  # type: ignore[attr-defined]
        monkeypatch.delenv("AIRFLOW_CTX_MAP_INDEX", raising=False)
        monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
        assert AirflowRunContext().tags().get("airflow.map_index") == expected
