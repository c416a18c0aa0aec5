"""Close the MLflow run of a training that could not do it itself: its process was killed, or MLflow was away.

The training's own thread closes its run. Where it could not, whoever finds the job ended calls
:func:`settle`, as often as they like. It takes seconds, most of them MLflow's import; a process that has not
got them runs ``python -m mxpipe_mlflow.settlement RUN_DIRECTORY STATE`` instead, which reads
``MLFLOW_TRACKING_URI``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from mxpipe.errors import LeaseHeldError, MxpipeError, StorageError
from mxpipe.jobs import JobState
from mxpipe.redaction import log_without_credentials
from mxpipe.train.run_directory import RunDirectory
from mxpipe_mlflow.spool import Spool
from mxpipe_mlflow.tracking import _STATUS, end_run, replay

logger = logging.getLogger(__name__)

_TAIL_BYTES = 65536


def is_settled(run_directory: str | Path) -> bool:
    """Whether MLflow has been told how a training ended, or never heard of it. Imports no MLflow.

    Example:
        >>> is_settled("/no/such/run")
        True
    """
    last = _last_record(Path(run_directory))
    return last is None or (last == "end" and not Spool(run_directory).pending(limit=1))


def settle(run_directory: str | Path, state: JobState, *, tracking_uri: str | None = None) -> bool:
    """Tell MLflow how a training ended, and everything else that an outage left in its run directory.

    Args:
        run_directory: Of a job that has ended.
        state: How; a job that was killed hard is INTERRUPTED or CANCELLED.
        tracking_uri: Server or database; None means what the training itself was told, or MLflow's own
            setting where that held a password.

    Returns:
        Whether something had to be sent. A run that has gone on meanwhile is left alone.

    Raises:
        TrackingError: The server is away; what it has not got stays on disk.
    """
    if is_settled(run_directory):
        return False
    run = RunDirectory(run_directory)
    begun = Spool(run.path).first().fields
    tracking_uri = tracking_uri or begun.get("tracking_uri")
    status = None if begun.get("run_id") else _STATUS.get(state, "KILLED")  # else its owner ends it
    try:
        with run.acquire_lease():  # held for the writing only: a new attempt waits that long
            if _last_record(run.path) != "end":
                spool = Spool(run.path)
                spool.append("end", status=status, error=None)
                spool.close()
        return replay(run.path, tracking_uri=tracking_uri) > 0
    except LeaseHeldError:
        return False
    except StorageError as error:  # the disk is full: the end is told without it, the metrics must wait
        logger.warning("%s", error)
        if status is None:
            return False
        return end_run(begun["experiment"], begun["key"], status, tracking_uri=tracking_uri)


def _last_record(run_directory: Path) -> str | None:
    """The kind of the last whole record of the spool."""
    try:
        with open(run_directory / "mlflow.jsonl", "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            tail = file.read()
    except FileNotFoundError:
        return None
    for line in reversed(tail.splitlines()):
        try:
            return str(json.loads(line)["event"])
        except (ValueError, KeyError, TypeError):
            continue  # torn by a kill
    return None


def main(arguments: list[str] | None = None) -> int:
    """Settle one run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="mxpipe_mlflow.settlement", description=__doc__)
    parser.add_argument("run_directory")
    parser.add_argument("state", choices=[state.value for state in JobState])
    options = parser.parse_args(arguments)
    log_without_credentials()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        settle(options.run_directory, JobState(options.state))
    except MxpipeError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
