"""Ingest stages on a real Airflow: rows of a database, of files and of Dask, and what is not read twice."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of 1000 flights behind the connection ``warehouse``."""
    path = tmp_path / "warehouse.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE flights (id INTEGER, carrier TEXT, distance REAL, cancelled TEXT)")
        rows = ((n, None if n % 7 == 0 else f"C{n % 5}", n * 1.5, None) for n in reversed(range(1000)))
        database.executemany("INSERT INTO flights VALUES (?, ?, ?, ?)", rows)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    return path


def change(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement)


def test_a_query_becomes_a_snapshot_once(root: Path, start_run: Any, warehouse: Path) -> None:
    from mxpipe.data import Snapshot

    manifests = []
    for statement in ("SELECT 1", "SELECT 1", "INSERT INTO flights VALUES (1000, 'C1', 1.0, NULL)"):
        change(warehouse, statement)
        run = start_run("batch", files="")
        outcome = run.attempt("sql")
        assert outcome.state == "success", outcome.error
        manifests.append(run.xcom("sql"))
    first, second, changed = manifests
    assert (first["rows"], first["columns"], first["reused"]) == (900, 4, False)
    assert (second["uri"], second["digest"], second["reused"]) == (first["uri"], first["digest"], True)
    assert (changed["reused"], changed["uri"] != first["uri"]) == (False, True)
    snapshot = Snapshot.open(first["uri"])
    table = snapshot.to_table().sort_by("id").to_pydict()
    assert snapshot.column_types == {
        "id": "int64", "carrier": "string", "distance": "float64", "cancelled": "string",
    }  # fmt: skip
    assert table["id"] == list(range(900))
    assert table["carrier"][6:9] == ["C1", None, "C3"]
    assert Snapshot.open(changed["uri"]).shards == snapshot.shards, "the same rows in another order read"


def test_a_query_that_cannot_work_is_not_retried(
    root: Path, start_run: Any, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from mxpipe.errors import StorageError

    change(warehouse, "UPDATE flights SET distance = 'far' WHERE id = 500")
    outcome = start_run("batch", files="").attempt("sql")
    assert isinstance(outcome.error, AirflowFailException)
    assert "column 'distance' must hold double" in str(outcome.error)
    change(warehouse, "ALTER TABLE flights RENAME TO gone")
    outcome = start_run("batch", files="").attempt("sql")
    assert isinstance(outcome.error, AirflowFailException)
    assert "the query must run; got no such table: flights" in str(outcome.error)
    away = {"conn_type": "sqlite", "host": "/no/such/folder/warehouse.db"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(away))
    outcome = start_run("batch", files="").attempt("sql")
    assert isinstance(outcome.error, StorageError), "the database may be back a minute later"
    assert not list((root / "snapshots").rglob("*.arrow")), "nothing half made is left"


def test_the_hook_of_an_installed_provider_is_used(warehouse: Path) -> None:
    """The hook is the real ``DbApiHook``; only the provider that would register a type for it is not here."""
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    from mxpipe_airflow.sql import _hook_engine, read_query

    class WarehouseHook(DbApiHook):
        conn_name_attr = "warehouse_conn_id"
        hook_name = "warehouse"

        def get_uri(self) -> str:
            return f"sqlite:///{warehouse}"

    class Connection:
        def get_hook(self) -> DbApiHook:
            return WarehouseHook(warehouse_conn_id="warehouse")

    engine = _hook_engine(Connection())
    with engine.connect() as opened:
        batches = list(read_query(opened, "SELECT id, distance FROM flights", rows=300))
    assert [batch.num_rows for batch in batches] == [300, 300, 300, 100]
    engine.dispose()


def write_csv(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    for part in range(2):
        lines = [f"{row},{row * 1.5},C{row % 5}" for row in range(part * 50, part * 50 + 50)]
        (folder / f"part-{part}.csv").write_text("\n".join(["id,distance,carrier", *lines, ""]))
    return str(folder / "*.csv")


def test_files_become_a_snapshot_that_follows_from_their_bytes(
    root: Path, start_run: Any, tmp_path: Path
) -> None:
    from mxpipe.data import Snapshot

    manifests = []
    for changed in (False, False, True):
        files = write_csv(tmp_path / "csv")
        if changed:
            (tmp_path / "csv" / "part-1.csv").write_text("id,distance,carrier\n50,1.0,C0\n")
        run = start_run("batch", files=files)
        outcome = run.attempt("files")
        assert outcome.state == "success", outcome.error
        manifests.append(run.xcom("files"))
    assert [manifest["reused"] for manifest in manifests] == [False, True, False]
    assert [manifest["rows"] for manifest in manifests] == [100, 100, 51]
    snapshot = Snapshot.open(manifests[0]["uri"])
    assert snapshot.column_types == {"id": "int32", "distance": "float64", "carrier": "string"}
    assert snapshot.to_table()["id"].to_pylist() == list(range(100)), "in the order of names and rows"


def test_dask_writes_a_snapshot_and_leaves_no_process(root: Path, start_run: Any, tmp_path: Path) -> None:
    import multiprocessing

    from mxpipe.data import Snapshot

    run = start_run("batch", files=write_csv(tmp_path / "csv"))
    before = multiprocessing.active_children()
    outcome = run.attempt("dask")
    assert outcome.state == "success", outcome.error
    manifest = run.xcom("dask")
    assert (manifest["rows"], manifest["notes"]) == (100, {"files": 2})
    assert sorted(Snapshot.open(manifest["uri"]).to_table()["id"].to_pylist()) == list(range(100))
    assert multiprocessing.active_children() == before
