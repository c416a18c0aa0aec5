"""What the scripts that run DAGs share: stages as they end, a log beside the terminal, a table."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO


class Watcher:
    """Prints each stage as it begins and ends, by looking at Airflow's database.

    Args:
        dag_id: The DAG.
        out: Where to print.
    """

    def __init__(self, dag_id: str, out: TextIO) -> None:
        self._dag_id = dag_id
        self._database = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
        self._out = out
        self._stop = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch until the block ends."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _watch(self) -> None:
        import sqlite3

        shown: dict[str, str] = {}
        begun: dict[str, float] = {}
        query = (
            "SELECT CASE map_index WHEN -1 THEN task_id ELSE task_id || '[' || map_index || ']' END, state"
            " FROM task_instance WHERE dag_id = ? AND run_id = ? ORDER BY start_date"
        )
        before = self._newest_run()
        done = False
        while not done:
            done = self._stop.wait(0.2)  # once more after the end
            run_id = self._newest_run()
            if run_id == before:
                continue  # this run has not been made yet
            with contextlib.suppress(sqlite3.OperationalError), self._connect() as connection:
                for task_id, state in connection.execute(query, (self._dag_id, run_id)).fetchall():
                    if state in (None, "scheduled", shown.get(task_id)):
                        continue
                    begun.setdefault(task_id, time.monotonic())
                    shown[task_id] = state
                    if state in ("success", "failed", "skipped", "upstream_failed", "up_for_retry"):
                        seconds = time.monotonic() - begun[task_id]
                        print(f"  {task_id:<20}{state:<16}{seconds:7.1f} s", file=self._out, flush=True)

    def _newest_run(self) -> str | None:
        query = "SELECT run_id FROM dag_run WHERE dag_id = ? ORDER BY id DESC LIMIT 1"
        with self._connect() as connection:
            found = connection.execute(query, (self._dag_id,)).fetchone()
        return found[0] if found else None

    @contextlib.contextmanager
    def _connect(self) -> Iterator[Any]:
        import sqlite3

        connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=5)
        try:
            yield connection
        finally:
            connection.close()


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[TextIO]:
    """Send everything that this process and its children print to a file; yields the real standard output."""
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = os.dup(1), os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        with os.fdopen(os.dup(out), "w") as real:
            yield real
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A plain table; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
