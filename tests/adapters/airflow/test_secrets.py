"""Planted secrets: nowhere in run directories, logs, XComs, rendered fields or Airflow's database."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SECRETS = {name: f"plant-{name}-Zq9x" for name in ("password", "tracking", "argument", "environment")}


@pytest.mark.slow
@pytest.mark.parametrize("dag_id", ["secret_deferred", "secret_polled"])
def test_a_planted_secret_is_found_nowhere(
    root: Path,
    start_run: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    dag_id: str,
) -> None:
    from mxpipe.data import write_snapshot

    connection = {
        "conn_type": "mxpipe",
        "password": SECRETS["password"],
        "extra": {
            "root": str(root),
            # No server answers there: its address is in every complaint of the client.
            "tracking_uri": f"http://me:{SECRETS['tracking']}@127.0.0.1:9?token={SECRETS['argument']}",
        },
    }
    monkeypatch.setenv("AIRFLOW_CONN_MXPIPE_SECRET", json.dumps(connection))
    monkeypatch.setenv("MXPIPE_TEST_TOKEN", SECRETS["environment"])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    x = np.random.default_rng(0).normal(size=256)
    columns = {"x": x, "label": (x > 0).astype(np.int32)}
    snapshot = write_snapshot(
        tmp_path / "rows", columns, metadata={"source": connection["extra"]["tracking_uri"]}
    )
    spec = {
        "model": {"builder": "logistic_regression"},
        "data": {"train": snapshot.uri, "features": {"numeric": ["x"], "label": "label"}},
        "epochs": 2,
    }
    run = start_run(dag_id, spec=spec, digest=snapshot.digest)
    outcome = run.attempt("train")
    assert outcome.state == "success", outcome.error
    written = caplog.text + "".join(capfd.readouterr())
    assert "still to be closed in MLflow" in written, "the task's log was captured"
    files = [path for folder in (root, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "mlflow.jsonl" for path in files)
    texts = {str(path): path.read_bytes().decode(errors="replace") for path in files}
    texts |= rows_of(Path(os.environ["AIRFLOW_HOME"]) / "airflow.db")
    texts |= {"log": written, "xcom": json.dumps(run.xcom("train"))}
    found = [(place, name) for place, text in texts.items() for name in SECRETS if SECRETS[name] in text]
    assert found == []


def rows_of(database: Path) -> dict[str, str]:
    """All rows of a database as text, by table."""
    with sqlite3.connect(database) as connection:
        names = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
        rows = {name: repr(connection.execute(f'select * from "{name}"').fetchall()) for (name,) in names}
    assert "rendered_task_instance_fields" in rows
    assert "xcom" in rows
    return rows
