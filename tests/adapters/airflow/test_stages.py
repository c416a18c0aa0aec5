"""The stages around the training on a real Airflow: what they return, what they refuse, what they repeat."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def snapshot(tmp_path: Path) -> Any:
    from mxpipe.data import write_snapshot

    days = [datetime.date(2013, 1, 1 + row % 31) for row in range(310)]
    x = np.random.default_rng(0).normal(size=310)
    return write_snapshot(tmp_path / "rows", {"day": days, "x": x})


def metrics(value: float) -> dict[str, float]:
    return {"rows": 1000, "auc": value, "log_loss": 0.6, "brier": 0.2}


def evaluation(low: float, high: float) -> dict[str, Any]:
    """A candidate whose gain over the champion lies in an interval."""
    difference = (low + high) / 2
    return {
        "candidate": metrics(0.7 + difference),
        "champion": metrics(0.7),
        "comparison": {
            "metric": "auc",
            "candidate": 0.7 + difference,
            "champion": 0.7,
            "difference": difference,
            "low": low,
            "high": high,
            "better": 0.5,
            "confidence": 0.95,
            "rows": 1000,
        },
        "digests": {"candidate": "aa", "champion": "bb"},
        "holdout_digest": "cc",
    }


def test_a_split_is_strictly_later_and_found_again(root: Path, start_run: Any, snapshot: Any) -> None:
    from mxpipe.data import Snapshot

    manifests = []
    for _ in range(2):
        run = start_run("stages", snapshot=snapshot.uri)
        assert run.attempt("split").state == "success"
        manifests.append(run.xcom("split"))
    first, second = manifests
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert (first["train_rows"], first["holdout_rows"]) == (240, 70)
    train = Snapshot.open(first["train_uri"]).to_table(["day"])["day"].to_pylist()
    holdout = Snapshot.open(first["holdout_uri"]).to_table(["day"])["day"].to_pylist()
    assert max(train) < min(holdout)


def test_a_good_snapshot_is_reported_and_handed_on(root: Path, start_run: Any, snapshot: Any) -> None:
    run = start_run("stages", snapshot=snapshot.uri, reference=snapshot.uri)
    assert run.attempt("validate").state == "success"
    manifest = run.xcom("validate")
    assert manifest["seconds"] > 0
    assert manifest["ok"]
    assert manifest["drift"]["x"] < 0.01
    assert run.xcom("validate", key="_link_ReportLink") == f"file://{manifest['report_uri']}"
    assert json.loads(Path(manifest["report_uri"]).read_text())["ok"]


def test_drift_is_measured_on_recent_rows(root: Path, start_run: Any, tmp_path: Path) -> None:
    from mxpipe.data import write_snapshot

    known = np.random.default_rng(0).normal(size=300)
    days = [datetime.date(2013, 1, 1 + row % 31) for row in range(300)]
    reference = write_snapshot(tmp_path / "known", {"day": days, "x": known})
    later = [datetime.date(2013, 2, 1)] * 30
    rows = {"day": days + later, "x": np.concatenate([known, np.full(30, 50.0)])}
    grown = write_snapshot(tmp_path / "grown", rows)
    drift = []
    for recent in (None, {"column": "day", "at": "2013-02-01"}, {"column": "day", "at": "2013-01-01"}):
        run = start_run("stages", snapshot=grown.uri, reference=reference.uri, recent=recent)
        assert run.attempt("validate").state == "success"
        drift.append(run.xcom("validate")["drift"]["x"])
    whole, february, everything = drift
    assert february > 10 * whole
    assert everything == whole


def test_bad_data_fails_without_retry_and_leaves_a_report(root: Path, start_run: Any, tmp_path: Path) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from mxpipe.data import write_snapshot

    bad = write_snapshot(tmp_path / "bad", {"x": [1.0, None, 1e6]})
    outcome = start_run("stages", snapshot=bad.uri).attempt("validate")
    assert isinstance(outcome.error, AirflowFailException)
    assert "column 'x': nulls must be at most 0.1 of the rows" in str(outcome.error)
    assert "maximum must be at most 100.0" in str(outcome.error)
    (report,) = (root / "reports" / "validation").iterdir()
    assert json.loads(report.read_text())["ok"] is False


def test_a_damaged_shard_fails_without_retry(root: Path, start_run: Any, snapshot: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    shard = Path(snapshot.uri) / snapshot.shards[0].name
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    outcome = start_run("stages", snapshot=snapshot.uri).attempt("split")
    assert isinstance(outcome.error, AirflowFailException)
    assert "SnapshotCorruptError" in str(outcome.error)
    assert shard.name in str(outcome.error)
    assert not list((root / "splits").rglob("manifest.json")), "nothing half made is left"


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [(0.01, 0.03, "PROMOTE"), (-0.01, 0.02, "HOLD"), (-0.05, -0.02, "REJECT")],
)
def test_the_gate_decides_and_later_stages_obey(
    root: Path, start_run: Any, low: float, high: float, decision: str
) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    run = start_run("stages", evaluation=evaluation(low, high))
    assert run.attempt("gate").state == "success"
    verdict = run.xcom("gate")
    assert verdict["decision"] == decision
    assert verdict["reasons"]
    if decision == "PROMOTE":
        return
    champion = {"partition": "2013-02", "version": "1", "current": "1", "alias": "champion", "inputs": ""}
    later = start_run("stages", verdict=verdict, champion=champion, candidate={}, registered={"version": "2"})
    for stage in ("register", "promote") if decision == "REJECT" else ("promote",):
        outcome = later.attempt(stage)
        assert outcome.state == "skipped"
        assert isinstance(outcome.error, AirflowSkipException | None)


def test_registering_and_promoting_twice_changes_nothing_the_second_time(
    start_run: Any, train_model: Any
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    champion = start_run("stages")
    assert champion.attempt("resolve").state == "success"
    pinned = champion.xcom("resolve")
    assert (pinned["mode"], pinned["version"], pinned["replayed"]) == ("bootstrap", None, False)

    candidate = {"model_uri": str(train_model()[0]), "key": "k" * 64, "model_digest": "dd"}
    verdict = {"decision": "PROMOTE", "reasons": ["It is the first."]}
    results = []
    for _ in range(2):
        run = start_run("stages", champion=pinned, candidate=candidate, verdict=verdict)
        assert run.attempt("register").state == "success"
        registered = run.xcom("register")
        again = start_run("stages", champion=pinned, registered=registered, verdict=verdict)
        assert again.attempt("promote").state == "success"
        results.append((registered["version"], registered["created"], again.xcom("promote")["changed"]))
        pinned = {**pinned, "current": registered["version"]}
    assert results == [("1", True, True), ("1", False, False)]

    after = start_run("stages")
    assert after.attempt("resolve").state == "success"
    replayed = after.xcom("resolve")
    assert (replayed["current"], replayed["version"], replayed["replayed"]) == ("1", None, True)

    better = {"version": "2", "created": True}
    stale = {"version": "7", "current": "7", "alias": "champion"}
    outcome = start_run("stages", champion=stale, registered=better, verdict=verdict).attempt("promote")
    assert isinstance(outcome.error, AirflowFailException), "the champion has changed: no retry mends that"
    assert "RegistryConflictError" in str(outcome.error)
