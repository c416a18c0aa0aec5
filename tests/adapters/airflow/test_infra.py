"""Infra-validation against a real server of the candidate's own, and rollback with the endpoint behind it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def judged(root: Path, train_model: Any) -> dict[str, Any]:
    """A run's configuration: a candidate, and what its evaluation has kept."""
    from mxpipe.model import load_model
    from mxpipe_airflow.operators.evaluate import predict

    path, rows = train_model()
    model = load_model(path)
    np.savez(root / "predictions.npz", candidate=predict(model, rows))
    evaluation = {
        "digests": {"candidate": model.digest},
        "holdout_digest": rows.digest,
        "predictions_uri": str(root / "predictions.npz"),
    }
    verdict = {"decision": "PROMOTE", "reasons": ["It is the first."]}
    candidate = {"model_uri": str(path), "model_digest": model.digest, "key": "k" * 64}
    return {"candidate": candidate, "evaluation": evaluation, "verdict": verdict, "holdout": rows.uri}


def servers() -> set[str]:
    """Command lines of the servers that run on this machine."""
    lines = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.add(path.read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return {line for line in lines if "mxpipe.serve" in line and "infra" in line}


def test_a_candidate_that_serves_is_measured_once(start_run: Any, judged: dict[str, Any]) -> None:
    manifests = []
    for _ in range(2):
        run = start_run("stages", **judged)
        outcome = run.attempt("infra_validate")
        assert outcome.state == "success", outcome.error
        manifests.append(run.xcom("infra_validate"))
    first, second = manifests
    assert (first["reused"], second["reused"]) == (False, True)
    assert first["rows"] == 48
    assert first["largest_difference"] <= 1e-5
    assert 0 < first["latency_milliseconds"]["median"] <= first["latency_milliseconds"]["p95"] < 1000
    assert 10 < first["memory_megabytes"] < 2000
    assert second["latency_milliseconds"] == first["latency_milliseconds"]
    assert json.loads(Path(first["report_uri"]).read_text())["rows"] == 48
    assert not servers(), "its server is gone"


def test_a_candidate_that_is_slow_or_answers_otherwise_fails_at_once(
    start_run: Any, judged: dict[str, Any]
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    outcome = start_run("stages", **judged, latency=1e-6).attempt("infra_validate")
    assert isinstance(outcome.error, AirflowFailException)
    assert "a request of one row in milliseconds must be at most 1e-06" in str(outcome.error)

    kept = judged["evaluation"]["predictions_uri"]
    changed = np.load(kept)["candidate"]
    changed[7] += 0.01
    np.savez(kept, candidate=changed)
    outcome = start_run("stages", **judged).attempt("infra_validate")
    assert isinstance(outcome.error, AirflowFailException)
    assert "the difference of a prediction must be at most 1e-05; got 0.01" in str(outcome.error)
    assert not servers()


def test_another_model_than_the_judged_one_is_refused(start_run: Any, judged: dict[str, Any]) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    judged["evaluation"]["digests"] = {"candidate": "aa"}
    outcome = start_run("stages", **judged).attempt("infra_validate")
    assert isinstance(outcome.error, AirflowFailException)
    assert "must be the judged model, aa" in str(outcome.error)
    judged["verdict"] = {"decision": "REJECT", "reasons": ["It is worse."]}
    assert start_run("stages", **judged).attempt("infra_validate").state == "skipped"


def test_ending_the_task_ends_the_server(
    root: Path, start_run: Any, judged: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mxpipe_airflow.operators import infra

    def ask(*_: Any) -> None:
        assert servers()
        os.kill(os.getpid(), signal.SIGTERM)  # as Airflow does
        time.sleep(30)

    monkeypatch.setattr(infra, "ask", ask)
    before = signal.getsignal(signal.SIGTERM)
    try:
        outcome = start_run("stages", **judged).attempt("infra_validate")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "the task was ended meanwhile" in str(outcome.error)
    assert not servers()


@pytest.mark.slow
def test_a_rollback_takes_the_endpoint_along(root: Path, start_run: Any, judged: dict[str, Any]) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from mxpipe.serve import process
    from mxpipe_airflow.hooks.mxpipe import MxpipeHook
    from mxpipe_mlflow import registry

    uri = MxpipeHook().settings.tracking_uri
    outcome = start_run("stages").attempt("rollback")
    assert isinstance(outcome.error, AirflowFailException), "there is nothing to return to"
    before = None
    for key in ("one", "two"):
        version = registry.publish_once("stages", judged["candidate"]["model_uri"], key, tracking_uri=uri)
        registry.promote("stages", version.version, before, tracking_uri=uri)
        before = version.version
    old, new = str(int(before) - 1), before
    try:
        manifests = []
        for conf in ({}, {}, {"version": new}):
            run = start_run("stages", **conf)
            outcome = run.attempt("rollback")
            assert outcome.state == "success", outcome.error
            manifest = run.xcom("rollback")
            server = process.find(root / "server" / "stages.json")
            assert server is not None
            assert (server.version, server.url) == (manifest["version"], manifest["url"])
            manifests.append((manifest["version"], manifest["previous"], manifest["changed"]))
        assert manifests == [(old, new, True), (old, old, False), (new, old, True)]
        assert registry.resolve("stages", tracking_uri=uri).version == new
        assert events("stages_champion") == [old, new], "an event where the alias moved, and only there"
    finally:
        process.stop(root / "server" / "stages.json")


def events(alias: str) -> list[str]:
    """Versions in the events of the asset of an alias, in order."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalars(select(AssetEvent).order_by(AssetEvent.id)).all()
        return [
            event.extra["version"] for event in found if [one.name for one in event.source_aliases] == [alias]
        ]
