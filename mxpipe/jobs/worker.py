"""The worker's entry: `python -m mxpipe.jobs.worker RUN_DIRECTORY`.

Exit codes: 0 finished; 1 failed, and status.json says why; 75 interrupted or cancelled, with a checkpoint
written: starting again goes on from it.

Only what stands in the arguments is ever imported by name, never what stands in a file alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys

from mxpipe.errors import MxpipeError
from mxpipe.jobs.process import TOKEN_VARIABLE, ProcessIdentity
from mxpipe.model.storage import write_json
from mxpipe.train.fit import fit_in, recording_failure
from mxpipe.train.imports import import_callable
from mxpipe.train.run_directory import Lease, RunDirectory
from mxpipe.train.status import JobState

EXIT_SUCCEEDED, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 75


def main(arguments: list[str] | None = None) -> int:
    """Train what the run directory's specification says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="mxpipe.jobs.worker", description=__doc__)
    parser.add_argument("run_directory")
    parser.add_argument("--lease", type=int, help="descriptor of the lease that the launcher took")
    parser.add_argument("--builder", action="append", default=[], help="package.module:function to allow")
    parser.add_argument("--callback", action="append", default=[], help="package.module:function to call")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run = RunDirectory(options.run_directory)
    if options.lease is None:
        lease = run.acquire_lease()
    else:
        lease = Lease(options.lease)
        os.set_inheritable(options.lease, False)  # the lease is ours, not our children's
    with lease:
        identity = ProcessIdentity.of(os.getpid(), os.environ.get(TOKEN_VARIABLE, ""))
        write_json(run.process_path, identity.to_json())
        try:
            with recording_failure(run):
                callbacks = [import_callable(text)(str(run.path)) for text in options.callback]
                spec, key = run.read_spec()
            result = fit_in(run, lease, spec, key, callbacks=callbacks, builders=options.builder)
        except MxpipeError as error:
            logging.error("%s: %s", type(error).__name__, error)
            return EXIT_FAILED
    return EXIT_SUCCEEDED if result.status.state is JobState.SUCCEEDED else EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
