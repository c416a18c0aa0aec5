"""Run one of the example DAGs, once for each configuration, and show what came of it.

``run_example.py digits '{"batch": 1}' '{"batch": 2}'`` trains a champion and then a challenger. As in the
main job, the DAG runs in this process on Airflow's own database; ``make ui`` shows the runs afterwards.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from environment import REPOSITORY, STATE, environment, migrate
from running import Watcher, logging_to, table

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "digits": [{"batch": 1}, {"batch": 2}],
    "recommender": [{"year": 2000}, {"year": 2001}],
    "demand_forecast": [{"partition": "2013-03"}],
}


def manifests(dag_id: str, run_id: str) -> dict[str, Any]:
    """What each stage of a run returned; a list for a mapped one."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    found: dict[str, Any] = {}
    with create_session() as session:
        query = XComModel.get_many(run_id=run_id, key="return_value", dag_ids=dag_id)
        for row in session.scalars(query):
            value = XComModel.deserialize_value(row)
            if row.map_index < 0:
                found[row.task_id] = value
            else:
                found.setdefault(row.task_id, {})[row.map_index] = value
    return {
        name: [value[index] for index in sorted(value)] if isinstance(next(iter(value), None), int) else value
        for name, value in found.items()
    }


def show(stages: dict[str, Any]) -> None:
    """Print the verdict, and the two models beside each other."""
    evaluation = stages["evaluate"]
    candidate, champion = evaluation["candidate"], evaluation["champion"] or {}
    rows = [
        [name, f"{value:.4g}", f"{champion[name]:.4g}" if name in champion else "-"]
        for name, value in candidate.items()
        if value is not None
    ]
    print("\n" + table(["metric", "candidate", "champion"], rows))
    print(f"{stages['gate']['decision']}: {' '.join(stages['gate']['reasons'])}")


def main() -> int:
    """Run the configurations that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", choices=EXAMPLES)
    parser.add_argument("configurations", nargs="*", type=json.loads, help="JSON objects, one a run")
    parser.add_argument("--record", type=Path, help="write what the stages of all runs returned to this file")
    options = parser.parse_intermixed_args()
    os.environ.update(environment())
    os.chdir(STATE)
    log = STATE / "logs" / f"{options.example}.log"
    print(f"State in {STATE}, log in {log}", flush=True)
    records = []
    with logging_to(log) as out:
        migrate()
        sys.path.insert(0, str(REPOSITORY / "dags"))
        dag = importlib.import_module(options.example).dag
        for configuration in options.configurations or EXAMPLES[options.example]:
            print(f"\n{dag.dag_id} {json.dumps(configuration)}", file=out, flush=True)
            with Watcher(dag.dag_id, out).watching():
                run = dag.test(run_conf=configuration)
            if str(run.state) != "success":
                break
            records.append(manifests(dag.dag_id, run.run_id))
    for stages in records:
        show(stages)
    if options.record:
        options.record.write_text(json.dumps(records))
    logging.disable()  # libraries say goodbye at exit
    if str(run.state) != "success":
        print("\n".join(log.read_text(errors="replace").splitlines()[-40:]), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
