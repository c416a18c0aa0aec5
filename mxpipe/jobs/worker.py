"""The worker's entry: `python -m mxpipe.jobs.worker RUN_DIRECTORY`.

Exit codes: 0 finished; 1 failed, and status.json says why; 75 interrupted or cancelled, with a checkpoint
written: starting again goes on from it.

Only what stands in the arguments is ever imported by name, never what stands in a file alone.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.metadata
import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from mxpipe.errors import LeaseHeldError, MxpipeError, SpecificationError
from mxpipe.jobs.process import CALLBACKS_VARIABLE, TOKEN_VARIABLE, ProcessIdentity
from mxpipe.model.storage import write_json
from mxpipe.redaction import log_without_credentials
from mxpipe.train.callbacks import Callback
from mxpipe.train.fit import fit_in, recording_failure
from mxpipe.train.imports import import_callable
from mxpipe.train.run_directory import Lease, RunDirectory
from mxpipe.train.status import JobState

EXIT_SUCCEEDED, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 75
CALLBACK_GROUP = "mxpipe.callbacks"


def main(arguments: list[str] | None = None) -> int:
    """Train what the run directory's specification says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="mxpipe.jobs.worker", description=__doc__)
    parser.add_argument("run_directory")
    parser.add_argument("--lease", type=int, help="descriptor of the lease that the launcher took")
    parser.add_argument("--builder", action="append", default=[], help="package.module:function to allow")
    options = parser.parse_args(arguments)
    faulthandler.enable()  # a crash in native code says where in the log
    log_without_credentials()
    try:
        run = RunDirectory(options.run_directory)
        with _take_lease(run, options.lease) as lease:
            return _work(run, lease, options.builder)
    except LeaseHeldError as error:
        logging.error("%s", error)
        return EXIT_FAILED
    except MxpipeError:  # the log and the status have it
        return EXIT_FAILED
    except Exception:  # Python's own last words would go past the log's formatter
        logging.critical("the worker ends", exc_info=True)
        return EXIT_FAILED


def _work(run: RunDirectory, lease: Lease, builders: list[str]) -> int:
    identity = ProcessIdentity.of(os.getpid(), os.environ.get(TOKEN_VARIABLE, ""))
    write_json(run.process_path, identity.to_json())
    with recording_failure(run):
        callbacks = make_callbacks(json.loads(os.environ.pop(CALLBACKS_VARIABLE, "{}")))
        spec, key = run.read_spec()
    result = fit_in(run, lease, spec, key, callbacks=callbacks, builders=builders)
    return EXIT_SUCCEEDED if result.status.state is JobState.SUCCEEDED else EXIT_INTERRUPTED


def _take_lease(run: RunDirectory, descriptor: int | None) -> Lease:
    if descriptor is None:
        return run.acquire_lease()
    os.set_inheritable(descriptor, False)  # the lease is ours, not our children's
    return Lease(descriptor)


def make_callbacks(configurations: Mapping[str, Mapping[str, Any]]) -> list[Callback]:
    """Make callbacks from their names and configurations.

    Args:
        configurations: Name of an entry point of the group `mxpipe.callbacks`, or `package.module:function`,
            to what its factory is called with.

    Raises:
        SpecificationError: There is no callback of this name.
    """
    if not configurations:
        return []  # looking through what is installed takes a moment
    installed = {entry.name: entry for entry in importlib.metadata.entry_points(group=CALLBACK_GROUP)}
    callbacks: list[Callback] = []
    for name, configuration in configurations.items():
        if name in installed:
            factory = installed[name].load()
        elif ":" in name:
            factory = import_callable(name)
        else:
            raise SpecificationError(f"[callback] the name must be one of {sorted(installed)}; got {name!r}.")
        callbacks.append(factory(dict(configuration)))
    return callbacks


if __name__ == "__main__":
    sys.exit(main())
