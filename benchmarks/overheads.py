"""What the pipeline costs beyond the training itself: `python -m benchmarks.overheads`.

    submit            LocalLauncher.submit to the end of the first training step, a new process included
    poll              processor time of one look at a running and at a finished job
    log lag           a step's line in events.jsonl to the same step in the task's log, over the API of a
                      whole Airflow with scheduler and triggerer
    parse             a DAG of all stages and the modules of all operators, sensors and decorators, beyond
                      `import airflow.sdk`, in a fresh process
    size              what `mxpipe[airflow,mlflow]` installs beyond `apache-airflow` and `mlflow`

Only the log lag needs a running Airflow, which takes a minute to start; `--without-airflow` leaves it out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).parents[1]
REPEATS = 7
STEPS = 400
PACKAGES = (
    "mxpipe",
    "operators/mxpipe_airflow",
    *(f"integrations/mxpipe_{name}" for name in ("dask", "mlflow", "spark")),
)


def specification(folder: Path, steps: int = STEPS) -> dict[str, Any]:
    """A small training on 20,000 rows, of which two columns are numbers and one is text."""
    from mxpipe.data import write_snapshot

    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 20_000))
    kind = [f"kind {number}" for number in random.integers(0, 50, 20_000)]
    columns = {"x": x, "y": y, "kind": kind, "label": (x * y > 0).astype(np.int64)}
    features = {"numeric": ["x", "y"], "categorical": ["kind"], "label": "label"}
    data = {"train": write_snapshot(folder / "rows", columns).uri, "features": features, "batch_size": 256}
    model = {"builder": "wide_and_deep", "arguments": {"hidden_units": [64, 32]}}
    return {"model": model, "data": data, "steps": steps, "threads": 2}


def step_times(run_directory: Path) -> dict[int, float]:
    """When each step's line was written, seconds since the epoch."""
    from mxpipe.train import read_events

    events = read_events(run_directory / "events.jsonl")
    return {event["step"]: event["time"] for event in events if event["event"] == "step"}


def measure_submit(folder: Path) -> list[float]:
    """Seconds from the call of ``submit`` to the end of the first step, for several jobs."""
    from mxpipe.jobs import LocalLauncher
    from mxpipe.train import TrainSpec

    launcher = LocalLauncher(folder / "jobs")
    spec = TrainSpec.from_json(specification(folder))
    seconds = []
    for number in range(REPEATS):
        begun = time.time()
        job = launcher.submit(spec, f"submit {number}")
        launcher.wait(job.id, timeout=120.0)
        seconds.append(step_times(job.run_directory)[1] - begun)
    return seconds


def measure_poll(folder: Path) -> tuple[float, float]:
    """Milliseconds of processor time that one poll takes: of a running job, and of a finished one."""
    from mxpipe.jobs import LocalLauncher
    from mxpipe.train import TrainSpec

    launcher = LocalLauncher(folder / "jobs")
    endless = TrainSpec.from_json(specification(folder, steps=100_000_000))
    job = launcher.submit(endless, "endless")
    while launcher.poll(job.id).step == 0:
        time.sleep(0.05)
    running = processor_time(lambda: launcher.poll(job.id))
    launcher.cancel(job.id)
    return running, processor_time(lambda: launcher.poll(job.id))


def processor_time(call: Callable[[], object], count: int = 1000) -> float:
    """Milliseconds of this process's processor time a call."""
    before = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - before) * 1000 / count


PARSE = """
import importlib, pkgutil, sys, time
sys.path.insert(0, "dags")
import airflow.sdk
import mxpipe_airflow
names = [module.name for module in pkgutil.walk_packages(mxpipe_airflow.__path__, "mxpipe_airflow.")]
kinds = ("operators", "sensors", "decorators", "notifications")
wanted = [name for name in names if name.split(".")[1] in kinds]
begun = time.perf_counter()
import flight_delays
for name in wanted:
    importlib.import_module(name)
print(time.perf_counter() - begun)
"""


def measure_parse() -> list[float]:
    """Seconds to import a whole pipeline and the modules of all operators, sensors and decorators."""
    command = [sys.executable, "-W", "ignore", "-c", PARSE]
    runs = (
        subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        for _ in range(REPEATS)
    )
    return [float(run.stdout.splitlines()[-1]) for run in runs]


def closure(*requirements: str) -> set[str]:
    """Names of all distributions that these requirements bring into this environment."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    seen: set[tuple[str, str]] = set()
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in requirement.extras | {""}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                needs = importlib.metadata.distribution(name).requires or []
            except importlib.metadata.PackageNotFoundError:
                continue
            found.add(name)
            needed = (Requirement(text) for text in needs)
            waiting += [
                need for need in needed if need.marker is None or need.marker.evaluate({"extra": extra})
            ]
    return found


def installed_bytes(name: str) -> int:
    """Size of a distribution's files; for mxpipe in an editable installation those of its sources too."""
    distribution = importlib.metadata.distribution(name)
    paths = {Path(str(file.locate())) for file in distribution.files or []}
    if name == "mxpipe" and not any(path.name == "fit.py" for path in paths):
        sources = (REPOSITORY / package for package in PACKAGES)
        paths |= {path for source in sources for path in source.rglob("*.py*") if path.suffix != ".pyc"}
    return sum(path.stat().st_size for path in paths if path.exists())


def measure_size() -> dict[str, float]:
    """Megabytes that ``mxpipe[airflow,mlflow]`` installs beyond Airflow and MLflow, by distribution."""
    beyond = closure("mxpipe[airflow,mlflow]") - closure("apache-airflow", "mlflow")
    return {name: installed_bytes(name) / 1e6 for name in sorted(beyond)}


def measure_log_lag(folder: Path, lines: int = 10) -> list[float]:
    """Seconds from a step's end to its line in the task's log, as Airflow's API shows it.

    The DAG is the tests' own: its trigger looks every half second, and writes a line a second at most.
    """
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    from airflow_api import AirflowApi
    from services import Services

    here = REPOSITORY / "tests" / "standalone"
    variables = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(here / "dags"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "PYTHONPATH": str(here),
    }
    conf = {"conn_id": "mxpipe_default", "model": "lag", "partition": "lag", "digest": "lag", "champion": {}}
    conf |= {"spec": specification(folder), "callbacks": {"pace:Pace": {"seconds": 0.2}}}
    with Services(folder / "state", variables=variables) as services:
        api = AirflowApi(services.airflow_url)
        api.trigger("retraining", "lag", conf)
        api.wait("retraining", "lag", "train", ("deferred",))
        shown: dict[int, float] = {}
        while len(shown) < lines:
            for line in api.log("retraining", "lag", "train"):
                if found := re.search(r"step (\d+)/", str(line.get("event"))):
                    shown.setdefault(int(found.group(1)), time.time())
            time.sleep(0.05)
        (run_directory,) = (services.state / "jobs").iterdir()
        written = step_times(run_directory)
        return [seen - written[step] for step, seen in shown.items() if step in written]


def main() -> int:
    """Measure, print a line each, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--without-airflow", action="store_true", help="leave the log lag out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        submit = measure_submit(folder / "submit")
        running, finished = measure_poll(folder / "poll")
        parse = measure_parse()
        size = measure_size()
        lag = [] if options.without_airflow else measure_log_lag(folder / "lag")
    median = statistics.median
    print(f"submit to first step   {median(submit):.2f} s, at most {max(submit):.2f} s (bar: 1.5 s)")
    print(f"poll                   {running:.3f} ms of a running job, {finished:.3f} ms of a finished one")
    if lag:
        print(f"log lag                {median(lag):.2f} s, at most {max(lag):.2f} s")
    print(f"DAG parse              {median(parse):.3f} s beyond `import airflow.sdk` (bar: 0.3 s)")
    parts = ", ".join(f"{name} {megabytes:.1f}" for name, megabytes in size.items())
    print(
        f"size                   {sum(size.values()):.1f} MB beyond Airflow and MLflow ({parts}) (bar: 80 MB)"
    )
    measured = {"submit": submit, "poll": [running, finished], "lag": lag, "parse": parse, "size": size}
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
