"""The registry: register once, move an alias with a check, return; then a server that follows the alias."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest

import mxpipe_mlflow
from mxpipe.errors import (
    ModelFormatError,
    RegistryConflictError,
    ServingError,
    SpecificationError,
    TrackingError,
)
from mxpipe.model import load_model, model_digest
from mxpipe.serve import process
from mxpipe_mlflow import registry, tracking
from mxpipe_mlflow.resolver import create

Publish = Callable[..., registry.RegisteredVersion]


@pytest.fixture
def publish(trained_models: Any, tracking_uri: str, name: str) -> Publish:
    """Publishes the first or the second model under a key."""

    def publish(key: str, which: str = "first", **options: Any) -> registry.RegisteredVersion:
        path = getattr(trained_models, which)
        return registry.publish_once(name, path, key, experiment=name, tracking_uri=tracking_uri, **options)

    return publish


class TestRegister:
    def test_publishing_a_key_twice_makes_one_version_of_one_logged_model(
        self, publish: Publish, trained_models: Any, tracking_uri: str, name: str
    ) -> None:
        first = publish("K1", tags={"month": "2013-01"}, input_example=pd.DataFrame(trained_models.columns))
        again = publish("K1")
        assert (first.version, first.created) == ("1", True)
        assert (again.version, again.created, again.run_id) == ("1", False, first.run_id)
        assert again.tags == {"month": "2013-01", "mxpipe.key": "K1"}
        assert publish("K2", "second").version == "2"
        client = mlflow.MlflowClient(tracking_uri)
        experiment = client.get_experiment_by_name(name)
        assert len(client.search_logged_models([experiment.experiment_id])) == 2
        assert registry.find_version(name, "K1", tracking_uri=tracking_uri) == again
        assert registry.find_version(name, "K9", tracking_uri=tracking_uri) is None

    def test_a_kill_between_logging_and_registering_logs_nothing_twice(
        self, publish: Publish, tracking_uri: str, name: str
    ) -> None:
        client = mlflow.MlflowClient(tracking_uri)
        first = publish("K1")
        client.delete_model_version(name, first.version)  # as if the first attempt had ended before this
        second = publish("K1")
        assert second.created
        assert second.source == first.source

    def test_it_is_logged_under_the_run_of_the_training(
        self, publish: Publish, tracking_uri: str, name: str
    ) -> None:
        run_id = tracking.find_or_create_run(mlflow.MlflowClient(tracking_uri), name, "K1")
        assert publish("K1").run_id == run_id
        outputs = mlflow.MlflowClient(tracking_uri).get_run(run_id).outputs
        assert len(outputs.model_outputs) == 1

    def test_register_once_takes_models_logged_by_hand(
        self, trained_models: Any, tracking_uri: str, name: str, work: Path
    ) -> None:
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            info = mxpipe_mlflow.log_model(trained_models.first, name="model")
        first = registry.register_once(name, info.model_uri, "K1", {"by": "hand"}, tracking_uri=tracking_uri)
        assert (first.version, first.created, first.run_id) == ("1", True, run.info.run_id)
        uri = f"runs:/{run.info.run_id}/model"
        assert registry.register_once(name, uri, "K1", tracking_uri=tracking_uri).created is False
        assert registry.register_once(name, uri, "K2", tracking_uri=tracking_uri).version == "2"
        for wrong in ("late", f"runs:/{run.info.run_id}/other"):
            with pytest.raises(SpecificationError, match="model_uri"):
                registry.register_once(name, wrong, "K3", tracking_uri=tracking_uri)

    def test_search_by_tags_and_by_number(self, publish: Publish, tracking_uri: str, name: str) -> None:
        for key, month in (("K1", "january"), ("K2", "february"), ("K3", "february")):
            publish(key, tags={"month": month})
        newest = registry.find_by_tags(name, {"month": "february"}, tracking_uri=tracking_uri)
        assert newest is not None
        assert newest.version == "3"
        assert registry.find_by_tags(name, {"month": "march"}, tracking_uri=tracking_uri) is None
        assert registry.get(name, "1", tracking_uri=tracking_uri).tags["month"] == "january"
        with pytest.raises(TrackingError, match="version 9"):
            registry.get(name, "9", tracking_uri=tracking_uri)

    def test_a_damaged_model_is_not_registered(
        self, trained_models: Any, tracking_uri: str, name: str, tmp_path: Path
    ) -> None:
        shutil.copytree(trained_models.first, tmp_path / "model")
        (tmp_path / "model" / "weights.safetensors").write_bytes(b"")
        with pytest.raises(ModelFormatError, match=r"weights\.safetensors"):
            registry.publish_once(name, tmp_path / "model", "K1", experiment=name, tracking_uri=tracking_uri)
        assert registry.find_version(name, "K1", tracking_uri=tracking_uri) is None

    def test_a_server_that_is_away_is_a_tracking_error(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(TrackingError, match="resolving"):
            registry.resolve(name, tracking_uri="http://127.0.0.1:9")


class TestAlias:
    def test_the_life_of_a_champion(self, publish: Publish, tracking_uri: str, name: str) -> None:
        def champion() -> tuple[str | None, str | None]:
            found = [
                registry.resolve(name, alias, tracking_uri=tracking_uri) for alias in ("champion", "previous")
            ]
            return tuple(version.version if version else None for version in found)

        assert champion() == (None, None)  # no such model yet
        for key in ("K1", "K2", "K3"):
            publish(key)
        assert champion() == (None, None)  # no such alias yet

        first = registry.promote(name, "1", None, tracking_uri=tracking_uri)
        assert (first.version, first.previous, first.changed) == ("1", None, True)
        second = registry.promote(name, "2", "1", tracking_uri=tracking_uri)
        assert (second.version, second.previous, second.changed) == ("2", "1", True)
        assert champion() == ("2", "1")
        assert registry.get(name, "2", tracking_uri=tracking_uri).tags["mxpipe.previous"] == "1"

        again = registry.promote(name, "2", "1", tracking_uri=tracking_uri)  # a retry of the same task
        assert (again.version, again.previous, again.changed) == ("2", "1", False)

        back = registry.rollback(name, tracking_uri=tracking_uri)
        assert (back.version, back.changed) == ("1", True)
        assert champion() == ("1", "1")
        assert registry.rollback(name, tracking_uri=tracking_uri).changed is False
        assert registry.promote(name, "3", "1", tracking_uri=tracking_uri).previous == "1"

    def test_a_champion_that_moved_is_a_conflict(
        self, publish: Publish, tracking_uri: str, name: str
    ) -> None:
        for key in ("K1", "K2", "K3"):
            publish(key)
        registry.promote(name, "1", None, tracking_uri=tracking_uri)
        with pytest.raises(RegistryConflictError, match=r"must still name no version .* got version 1"):
            registry.promote(name, "2", None, tracking_uri=tracking_uri)
        registry.promote(name, "2", "1", tracking_uri=tracking_uri)
        with pytest.raises(RegistryConflictError, match=r"must still name version 1 .* got version 2"):
            registry.promote(name, "3", "1", tracking_uri=tracking_uri)
        with pytest.raises(RegistryConflictError, match="must have a version before it"):
            registry.rollback(name, "canary", tracking_uri=tracking_uri)

    def test_of_many_that_promote_at_once_one_wins(
        self, publish: Publish, tracking_uri: str, name: str
    ) -> None:
        """All compared with the same champion: whoever comes second must not overwrite the first."""
        for key in ("K1", "K2", "K3", "K4", "K5"):
            publish(key)
        registry.promote(name, "1", None, tracking_uri=tracking_uri)
        start = threading.Barrier(4)

        def promote(version: str) -> str | None:
            start.wait()
            try:
                return registry.promote(name, version, "1", tracking_uri=tracking_uri).version
            except RegistryConflictError:
                return None

        with ThreadPoolExecutor(4) as racers:
            winners = [version for version in racers.map(promote, "2345") if version is not None]
        found = registry.resolve(name, tracking_uri=tracking_uri)
        assert found is not None
        assert winners == [found.version]


class TestServing:
    def test_resolver(self, publish: Publish, trained_models: Any, tracking_uri: str, name: str) -> None:
        resolver = create({"tracking_uri": tracking_uri})
        with pytest.raises(ServingError, match=f"{name}@champion must name a version"):
            resolver.current_version(name, "champion")
        publish("K1")
        registry.promote(name, "1", None, tracking_uri=tracking_uri)
        assert resolver.current_version(name, "champion") == "1"
        assert model_digest(resolver.fetch(name, "1")) == model_digest(trained_models.first)
        with pytest.raises(ServingError, match="must be among tracking_uri; got password"):
            create({"password": "x"})

    def test_a_server_follows_the_champion(
        self, publish: Publish, trained_models: Any, tracking_uri: str, name: str, tmp_path: Path
    ) -> None:
        """Deploy, promote, deploy again: the same process answers with the new version's numbers."""
        publish("K1", "first")
        publish("K2", "second")
        registry.promote(name, "1", None, tracking_uri=tracking_uri)
        state_file = tmp_path / "server.json"
        settings = {
            "registry_model": f"{name}@champion",
            "registry_options": {"tracking_uri": tracking_uri},
            "state_file": state_file,
            "arguments": ["--poll-seconds=0"],
        }
        try:
            first = process.start(**settings)
            registry.promote(name, "2", "1", tracking_uri=tracking_uri)
            second = process.start(**settings)
            answer = httpx.post(
                second.invocations_url, json={"inputs": trained_models.columns}, trust_env=False, timeout=30.0
            )
        finally:
            process.stop(state_file)
        assert (first.model, first.version, second.version) == (name, "1", "2")
        assert second.pid == first.pid
        assert second.digest == model_digest(trained_models.second)
        expected = load_model(trained_models.second).predict(trained_models.columns)
        np.testing.assert_array_equal(np.array(answer.json()["predictions"], np.float32), expected)
