"""Run the flight-delay retraining month by month through Airflow, and show what came of it.

The DAG runs in this process, on Airflow's own database, with its operators, triggers, retries and XComs; only
the scheduler is left out, whose loop would cost more than the work. ``make ui`` shows the same runs
afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).parent))

from environment import REPOSITORY, STATE, environment, migrate

MONTHS = ("2013-01", "2013-02", "2013-03")


class Watcher:
    """Prints each stage as it begins and ends, by looking at Airflow's database.

    Args:
        database: Airflow's SQLite file.
        out: Where to print.
    """

    def __init__(self, database: Path, out: TextIO) -> None:
        self._database = database
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
            "SELECT task_id, state FROM task_instance WHERE dag_id = 'flight_delays' AND run_id = ?"
            " ORDER BY start_date"
        )
        before = self._newest_run()
        done = False
        while not done:
            done = self._stop.wait(0.2)  # once more after the end
            run_id = self._newest_run()
            if run_id == before:
                continue  # this month's run has not been made yet
            with contextlib.suppress(sqlite3.OperationalError), self._connect() as connection:
                for task_id, state in connection.execute(query, (run_id,)).fetchall():
                    if state in (None, "scheduled", shown.get(task_id)):
                        continue
                    begun.setdefault(task_id, time.monotonic())
                    shown[task_id] = state
                    if state in ("success", "failed", "skipped", "upstream_failed", "up_for_retry"):
                        seconds = time.monotonic() - begun[task_id]
                        print(f"  {task_id:<18}{state:<16}{seconds:7.1f} s", file=self._out, flush=True)

    def _newest_run(self) -> str | None:
        query = "SELECT run_id FROM dag_run WHERE dag_id = 'flight_delays' ORDER BY id DESC LIMIT 1"
        with self._connect() as connection:
            found = connection.execute(query).fetchone()
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


@contextlib.contextmanager
def scheduled_intervals() -> Iterator[None]:
    """Give a run started by hand the month that begins at its logical date, as the scheduler gives its own.

    Airflow would give it the month before, and the scheduler of ``make ui`` would later try for ever to make
    the run that has this logical date.
    """
    from unittest import mock

    from airflow.timetables.base import DataInterval
    from airflow.timetables.interval import CronDataIntervalTimetable

    def month_from(_: Any, *, run_after: Any) -> DataInterval:
        return DataInterval(run_after, run_after.add(months=1))

    with mock.patch.object(CronDataIntervalTimetable, "infer_manual_data_interval", month_from):
        yield


def run_month(dag: Any, month: str, log: Path) -> bool:
    """Run one month; returns whether all went well."""
    first_day = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
    with logging_to(log) as out:
        print(f"\n{month}", file=out, flush=True)
        database = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
        with Watcher(database, out).watching(), scheduled_intervals():
            run = dag.test(logical_date=first_day)
    return str(run.state) == "success"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A plain table; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def show(records: Sequence[dict[str, Any]]) -> None:
    """Print what became of each month, and how long each stage took."""
    from flights.records import STAGES

    results, times = [], []
    for record in records:
        stages = record["stages"]
        train, evaluation = stages["train"], stages["evaluate"]
        champion = evaluation.get("champion") or {}
        registered = stages.get("register") or {}
        version = registered.get("version", "-")
        results.append(
            [
                record["partition"],
                f"{stages['split']['train_rows']:,}",
                f"{stages['split']['holdout_rows']:,}",
                f"{train['rows_per_second'] or 0:,.0f}",
                f"{evaluation['candidate']['auc']:.4f}",
                f"{champion['auc']:.4f}" if champion else "-",
                stages["gate"]["decision"],
                version if registered.get("created", True) else f"{version} (as before)",
            ]
        )
        times.append(
            [
                record["partition"],
                *(f"{(stages.get(name) or {}).get('seconds', 0):.1f}" for name in STAGES),
            ]
        )
    header = ["month", "train rows", "holdout", "rows/s", "candidate", "champion", "decision", "version"]
    print("\n" + table(header, results))
    print("\nSeconds a stage\n" + table(["month", *STAGES], times))
    for record in records:
        for reason in record["stages"]["gate"]["reasons"]:
            print(f"{record['partition']}: {reason}")


def show_server(record: dict[str, Any]) -> None:
    """Print where the champion is served, and how to ask it."""
    server = record["stages"].get("deploy")
    if not server:
        return
    request = STATE / "request.json"
    request.write_text(json.dumps(record["stages"]["check_server"]["example"]))
    print(
        f"\nServing version {server['version']} at {server['url']}"
        " (make stop ends it, make run starts it again)"
    )
    print(f"  curl -s {server['url']}/invocations -H 'Content-Type: application/json' \\\n    -d @{request}")


def main() -> int:
    """Run the months that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "months", nargs="*", default=MONTHS, help="such as 2013-01; January to March by default"
    )
    months = parser.parse_args().months
    os.environ.update(environment())
    os.chdir(STATE)
    log = STATE / "logs" / "setup.log"
    print(f"State in {STATE}, logs in {STATE / 'logs'}", flush=True)
    with logging_to(log):
        migrate()
        sys.path.insert(0, str(REPOSITORY / "dags"))
        from flight_delays import dag
    records = []
    for month in months:
        log = STATE / "logs" / f"{month}.log"
        if not run_month(dag, month, log):
            print(f"\n{month} failed; the end of {log}:\n", file=sys.stderr)
            print("\n".join(log.read_text(errors="replace").splitlines()[-40:]), file=sys.stderr)
            return 1
        records.append(json.loads((STATE / "reports" / "months" / f"{month}.json").read_text()))
    show(records)
    show_server(records[-1])
    print(f"\nReport: {STATE / 'reports' / 'flight_delays.html'}")
    logging.disable()  # libraries say goodbye at exit
    return 0


if __name__ == "__main__":
    sys.exit(main())
