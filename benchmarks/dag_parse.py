"""Seconds to parse a DAG file that uses every operator, against the bare import of Airflow's SDK.

``python -m benchmarks.dag_parse [RUNS]`` starts fresh interpreters in turn and prints the medians of their
processor time, which neighbours on the machine disturb least; both import and wait for nothing.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DAGS = REPOSITORY / "tests" / "adapters" / "airflow" / "dags"
SCRIPTS = {
    "import airflow.sdk": "import airflow.sdk; from airflow.sdk import DAG, Asset, task",
    "a DAG of every operator": f"import sys; sys.path.insert(0, {str(DAGS)!r}); import every_operator",
}


def seconds(script: str, home: str) -> float:
    """One fresh interpreter's processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {"AIRFLOW_HOME": home, "PATH": "", "AIRFLOW__CORE__UNIT_TEST_MODE": "False"}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=environment, check=True, cwd=REPOSITORY
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure in turn, so that a busy moment hits both."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as home:
        for script in SCRIPTS.values():  # configuration is written, byte code compiled
            seconds(script, home)
        times = {name: [] for name in SCRIPTS}
        for _ in range(runs):
            for name, script in SCRIPTS.items():
                times[name].append(seconds(script, home))
    bare, ours = (statistics.median(times[name]) for name in SCRIPTS)
    for name, measured in times.items():
        print(f"{name:26} {statistics.median(measured):6.3f} s  (best {min(measured):.3f})")
    print(f"{'beyond the SDK':26} {ours - bare:6.3f} s  (at most 0.300)")


if __name__ == "__main__":
    main()
