"""Close the MLflow run of a job that could not do it itself: its process was killed, or MLflow was away."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mxpipe.redaction import redact

if TYPE_CHECKING:
    from mxpipe.jobs import JobState

_WAIT_SECONDS = 60.0

logger = logging.getLogger(__name__)


def settle_run(
    run_directory: str | Path, state: JobState, tracking_uri: str | None, *, wait: bool = True
) -> None:
    """Tell MLflow how a job ended, where the job could not; costs a look at a file where it could.

    MLflow is imported by a process of its own: it takes seconds and much memory, which neither a triggerer
    nor a worker that is being killed has.

    Args:
        run_directory: The job's.
        state: How it ended.
        tracking_uri: Server or database; None means MLflow's own setting.
        wait: Wait for it, for at most a minute; else it goes on alone.

    Example:
        >>> from mxpipe.jobs import JobState
        >>> settle_run("/no/such/run", JobState.CANCELLED, None)
    """
    from mxpipe_mlflow.settlement import is_settled

    if is_settled(run_directory):
        return
    command = [sys.executable, "-P", "-m", "mxpipe_mlflow.settlement", str(run_directory), state.value]
    # Not among the arguments, which everyone on the machine can read: an address may hold a password.
    environment = os.environ | ({"MLFLOW_TRACKING_URI": tracking_uri} if tracking_uri else {})
    if not wait:
        from mxpipe.jobs import spawn

        log = str(Path(run_directory, "log.txt"))
        command = [sys.executable, "-I", "-S", spawn.__file__, log, *command]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_WAIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        logger.warning("MLflow did not answer in time; the run of %s is still to be closed", run_directory)
        return
    if done.returncode:
        logger.warning(
            "The run of %s is still to be closed in MLflow: %s", run_directory, redact(done.stderr[-1000:])
        )
