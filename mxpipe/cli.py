"""The command line: train, watch, cancel, predict, serve, inspect.

An error that has a name ends with one line and exit code 2, without a traceback; an interrupted training
ends with 75, as its worker does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe.errors import MxpipeError, SpecificationError
from mxpipe.redaction import redact

if TYPE_CHECKING:
    from mxpipe.inspection import PlanView
    from mxpipe.jobs import LocalLauncher
    from mxpipe.train import JobStatus

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 75
_POLL_SECONDS = 0.5
_TRAINING_STATISTICS = ("train_statistics", "train_predictions")  # of a model; too long to be read


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code.

    Args:
        arguments: Words of the command line, those of the process by default.

    Example:
        >>> main(["status", "no/such/run"])
        2
    """
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except MxpipeError as error:
        print(redact(f"mxpipe: {type(error).__name__}: {error}"), file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader has enough; say nothing, not even at exit
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mxpipe", description="Train, follow, inspect and serve models.", epilog="mxpipe COMMAND --help"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int] | None, text: str, example: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        return command

    train = add(
        "train", _train, "Train a model in a run directory.", "mxpipe train spec.json --run runs/january"
    )
    train.add_argument("spec", metavar="SPEC.json", help="the training specification")
    train.add_argument("--run", dest="directory", metavar="DIR", required=True, help="the run directory")
    train.add_argument("--key", help="idempotency key; the specification's digest by default")
    train.add_argument("--builder", action="append", default=[], help="package.module:function to allow")
    train.add_argument(
        "--detach", action="store_true", help="train in a process of its own and return at once"
    )

    status = add("status", _status, "Show how a training goes.", "mxpipe status runs/january")
    status.add_argument("directory", metavar="DIR", help="a run directory")
    status.add_argument("--json", action="store_true", help="print the whole status as JSON")

    cancel = add(
        "cancel", _cancel, "End a detached training; it writes a checkpoint.", "mxpipe cancel runs/january"
    )
    cancel.add_argument("directory", metavar="DIR", help="a run directory")
    cancel.add_argument("--timeout", type=float, default=30.0, help="seconds before SIGKILL (default 30)")

    logs = add("logs", _logs, "Print what a detached training printed.", "mxpipe logs -f runs/january")
    logs.add_argument("directory", metavar="DIR", help="a run directory")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the training ends")

    _add_jobs(add)

    predict = add(
        "predict",
        _predict,
        "Predict for the rows of a snapshot, or of files (parquet, arrow, csv or json lines).",
        "mxpipe predict --model runs/january/model --input flights.parquet --output late.csv --key id",
    )
    predict.add_argument(
        "--model", required=True, help="a model folder, models:/name@alias or models:/name/version"
    )
    predict.add_argument("--input", required=True, help="rows with the model's raw columns")
    predict.add_argument(
        "--output",
        required=True,
        help="a file, whose suffix says how; a folder where the input is a snapshot",
    )
    predict.add_argument(
        "--key", action="append", default=[], metavar="COLUMN", help="a column to carry through"
    )
    predict.add_argument(
        "--required", action="append", default=[], metavar="COLUMN", help="refuse rows without a value here"
    )
    predict.add_argument(
        "--errors", metavar="FILE", help="where refused rows go; beside the output by default"
    )

    inspect = add(
        "inspect",
        _inspect,
        "Show what is in a model folder, a snapshot or a run directory.",
        "mxpipe inspect runs/january/model --memory",
    )
    inspect.add_argument("path", help="a model folder, a snapshot or a run directory")
    inspect.add_argument("--graph", action="store_true", help="of a model: print the graph")
    inspect.add_argument("--plan", action="store_true", help="of a model: print the plan's steps")
    inspect.add_argument("--memory", action="store_true", help="of a model: print the plan's memory")
    inspect.add_argument(
        "--profile", type=int, default=0, metavar="N", help="of a model: time N runs of the plan"
    )
    inspect.add_argument("--draw", metavar="FILE", help="of a model: draw plan and memory, .svg or .html")
    inspect.add_argument("--rows", type=int, default=64, help="of a model: batch size of plan and graph")

    _add_serve(add)
    _add_monitor(add)
    return parser


def _add_jobs(add: Callable[..., argparse.ArgumentParser]) -> None:
    from mxpipe.jobs.cli import add_arguments

    text = "List the trainings of a directory, end orphans, give disk space back."
    add_arguments(add("jobs", None, text, "mxpipe jobs reap --root runs --dry-run"))


def _add_serve(add: Callable[..., argparse.ArgumentParser]) -> None:
    from mxpipe.serve.cli import add_arguments, run

    add_arguments(
        add("serve", run, "Serve a model over HTTP.", "mxpipe serve --model runs/january/model --port 8080")
    )


def _add_monitor(add: Callable[..., argparse.ArgumentParser]) -> None:
    text = "Compare what a served model saw in a window with its training."
    example = "mxpipe monitor monitors/late --model model --window W07 --start 2013-02-11 --end 2013-02-18"
    parser = add("monitor", _monitor, text, example)
    parser.add_argument("directory", metavar="DIR", help="the monitor: what serve --monitor was given")
    parser.add_argument("--model", required=True, metavar="FOLDER", help="model folder of the version")
    parser.add_argument("--version", help="the version as the server names it (default: the only one)")
    parser.add_argument("--window", required=True, metavar="ID", help="name of the window, such as 2013-W07")
    parser.add_argument("--start", required=True, help="where it begins, ISO 8601 (UTC without a zone)")
    parser.add_argument("--end", required=True, help="where it ends, exclusive")
    parser.add_argument("--reference", metavar="SNAPSHOT", help="training snapshot, for models without")
    parser.add_argument("--policy", metavar="FILE", help="JSON of a MonitorPolicy")
    parser.add_argument("--labels", metavar="FILE", help="CSV with the columns id and label")
    parser.add_argument("--task", default="binary", help="binary, classes or regression (%(default)s)")


def _monitor(options: argparse.Namespace) -> int:
    from mxpipe.monitor.cli import run

    return run(options)


# --- training


def _train(options: argparse.Namespace) -> int:
    from mxpipe.train import JobState, TrainSpec, fit

    spec = TrainSpec.from_json(_read_json(options.spec))
    if options.detach:
        launcher, job_id = _job(options.directory)
        launcher.submit(spec, options.key or spec.digest(), job_id=job_id, builders=options.builder)
        _print_status(launcher.poll(job_id))
        return 0
    result = fit(spec, options.directory, key=options.key, builders=options.builder)
    _print_status(result.status)
    if result.status.state is not JobState.SUCCEEDED:
        return EXIT_INTERRUPTED
    print(result.model_path)
    return 0


def _job(directory: str) -> tuple[LocalLauncher, str]:
    """A run directory is a job of the launcher whose root is the directory above it."""
    from mxpipe.jobs import LocalLauncher

    path = Path(directory).absolute()
    return LocalLauncher(path.parent), path.name


def _status(options: argparse.Namespace) -> int:
    launcher, job_id = _job(options.directory)
    status = launcher.poll(job_id)
    if options.json:
        print(json.dumps(status.to_json(), indent=2, sort_keys=True))
    else:
        _print_status(status)
    return 0


def _print_status(status: JobStatus) -> None:
    from mxpipe.progress import format_duration

    parts = [f"{status.state}", f"step {status.step}/{status.total_steps or '?'}", f"epoch {status.epoch}"]
    if status.rows_per_second:
        parts.append(f"{status.rows_per_second:,.0f} rows/s")
    if status.state.is_active and status.eta_seconds is not None:
        parts.append(f"ETA {format_duration(status.eta_seconds)}")
    parts += [f"{name} {value:.4g}" for name, value in sorted(status.metrics.items())]
    print(", ".join(parts))
    if status.error:
        print(f"{status.error['type']}: {status.error['message']}")


def _cancel(options: argparse.Namespace) -> int:
    launcher, job_id = _job(options.directory)
    _print_status(launcher.cancel(job_id, timeout=options.timeout))
    return 0


def _logs(options: argparse.Namespace) -> int:
    launcher, job_id = _job(options.directory)
    offset = 0
    while True:
        status = launcher.poll(job_id)  # before the log is read: what an ended job printed is complete then
        text, offset = launcher.logs(job_id, offset)
        print(text, end="", flush=True)
        if not options.follow or not status.state.is_active:
            return 0
        time.sleep(_POLL_SECONDS)


# --- models


def _predict(options: argparse.Namespace) -> int:
    from mxpipe.batch import PredictionOptions, predict_file, predict_snapshot, resolve_model

    model = resolve_model(options.model)
    chosen = PredictionOptions(keys=options.key, required=options.required)
    if (Path(options.input) / "manifest.json").exists():
        done = predict_snapshot(options.input, model, options.output, chosen)
        rows, refused = done.rows, done.refused
        errors = f"{done.uri}/errors"
    else:
        written = predict_file(options.input, model, options.output, chosen, errors=options.errors)
        rows, refused, errors = written.rows, written.refused, str(written.errors)
    print(f"{rows} rows, model {model.digest[:12]}: {options.output}")
    if refused:
        print(f"{sum(refused.values())} of them were refused: {errors}")
        for reason, count in sorted(refused.items(), key=lambda item: -item[1]):
            print(f"  {count:8} {reason}")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    path = Path(options.path)
    if (path / "model.json").exists():
        _inspect_model(path, options)
    elif (path / "manifest.json").exists():
        _inspect_snapshot(path)
    elif (path / "spec.json").exists():
        _inspect_run(path)
    else:
        raise SpecificationError(
            f"[{path}] there must be a model.json, a manifest.json or a spec.json; got none of them."
        )
    return 0


def _inspect_model(path: Path, options: argparse.Namespace) -> None:
    from mxpipe.model import load_model

    model = load_model(path)
    parameters = sum(array.size for array in model.weights.values())
    print(f"model {path}\ndigest {model.digest}\nparameters {parameters:,} in {len(model.weights)} tensors")
    for name, array in model.weights.items():
        print(f"  {name:40} {array.dtype!s:10} {tuple(array.shape)}")
    print("signature")
    for column in model.signature:
        print(f"  {column.name:40} {column.dtype:10} {'required' if column.required else 'optional'}")
    for tensor in model.tensors:
        print(f"  {tensor.name:40} {tensor.dtype:10} {('n', *tensor.shape)}")
    print(f"output {', '.join(model.output_names)}\nmetadata")
    told = {name: value for name, value in model.metadata.items() if name not in _TRAINING_STATISTICS}
    print(json.dumps(told, indent=2, sort_keys=True))
    if options.graph:
        print(f"graph of {options.rows} rows\n{model.graph_for(options.rows)}")
    if options.plan or options.memory or options.profile or options.draw:
        _inspect_plan(model.inspect(options.rows, runs=options.profile), options)


def _inspect_plan(plan: PlanView, options: argparse.Namespace) -> None:
    from mxpipe.inspection import summary

    if options.plan or options.profile:
        print(f"plan of {options.rows} rows\n{plan.table(by_time=bool(options.profile))}")
    if options.profile:
        print(plan.kinds())
    if options.memory or options.profile:
        print(f"memory of {options.rows} rows\n{summary(plan)}")
    if options.draw:
        plan.draw(options.draw, f"{options.path}, {options.rows} rows")
        print(f"drawn to {options.draw}")


def _inspect_snapshot(path: Path) -> None:
    from mxpipe.data import Snapshot

    snapshot = Snapshot.open(str(path))
    print(f"snapshot {path}\ndigest {snapshot.digest}")
    print(f"rows {snapshot.num_rows:,} in {len(snapshot.shards)} shards")
    for name, kind in snapshot.column_types.items():
        column = snapshot.statistics[name]
        facts = f"{column.nulls} null"
        if column.mean is not None:
            facts += f", mean {column.mean:.4g}, std {column.std or 0.0:.4g}"
        if column.categories is not None:
            facts += f", {len(column.categories)} categories"
        print(f"  {name:30} {kind:12} {facts}")


def _inspect_run(path: Path) -> None:
    from mxpipe.train import RunDirectory, read_history

    run = RunDirectory(path)
    spec, key = run.read_spec()
    print(f"run {path}\nkey {key}")
    launcher, job_id = _job(str(path))
    _print_status(launcher.poll(job_id))
    for event in read_history(run.events_path, "epoch"):
        shown = "  ".join(f"{name} {value:.4f}" for name, value in event["metrics"].items())
        print(f"  epoch {event['epoch']:3d}  step {event['step']:6d}  {shown}")
    checkpoints = sorted(entry.name for entry in run.checkpoints_path.glob("step-*"))
    print(f"checkpoints {', '.join(checkpoints) or 'none'}\nspecification")
    print(json.dumps(spec.to_json(), indent=2, sort_keys=True))


def _read_json(path: str) -> Any:
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise SpecificationError(f"[{path}] the file must be readable; got {error.strerror}.") from error
    except ValueError as error:
        raise SpecificationError(f"[{path}] the file must be JSON; got {error}.") from error
