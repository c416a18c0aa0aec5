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
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from environment import REPOSITORY, STATE, environment, migrate
from running import Watcher, logging_to, table

MONTHS = ("2013-01", "2013-02", "2013-03")


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
        with Watcher("flight_delays", out).watching(), scheduled_intervals():
            run = dag.test(logical_date=first_day)
    return str(run.state) == "success"


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
