"""The command line of the server: ``mxpipe serve``, and ``python -m mxpipe.serve``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mxpipe.errors import MxpipeError, require
from mxpipe.serve.sources import OPTIONS_VARIABLE, FolderSource, ModelSource, RegistrySource, load_resolver

if TYPE_CHECKING:
    from mxpipe.monitor import RecorderSettings

_DESCRIPTION = """Serve one model over HTTP: Open Inference Protocol V2 and MLflow's /invocations.
The model is ready once it is warm; POST /v2/repository/models/NAME/load serves what the source names now."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``mxpipe serve`` to a parser."""
    parser.description = _DESCRIPTION
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="FOLDER", help="model folder to serve")
    source.add_argument(
        "--models-from-registry", metavar="NAME@ALIAS", help="follow an alias of a model registry"
    )
    parser.add_argument(
        "--registry", metavar="NAME", help="installed registry resolver (default: the only one)"
    )
    parser.add_argument(
        "--registry-option", metavar="KEY=VALUE", action="append", default=[], help="option of the resolver"
    )
    parser.add_argument("--name", help="name under which a folder is served (default: the folder's name)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8080, help="port, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--state-file", type=Path, metavar="FILE", help="write pid, url and model version here"
    )
    parser.add_argument(
        "--candidate",
        metavar="FOLDER",
        action="append",
        default=[],
        help="with --model: another folder whose version a canary or a shadow may name",
    )
    parser.add_argument(
        "--split-file", type=Path, metavar="FILE", help="keep canary and shadow here (default: by the state)"
    )
    parser.add_argument(
        "--monitor", type=Path, metavar="DIR", help="count what is asked and answered into this monitor"
    )
    parser.add_argument(
        "--monitor-window", type=int, default=3600, metavar="SECONDS", help="length of a window (%(default)s)"
    )
    parser.add_argument(
        "--monitor-write", type=float, default=10.0, metavar="SECONDS", help="write that often (%(default)s)"
    )
    parser.add_argument("--poll-seconds", type=float, help="look for a new version that often (registry: 30)")
    parser.add_argument("--drain-seconds", type=float, default=30.0, help="wait so long for running requests")
    parser.add_argument("--concurrency", type=int, default=2, help="requests computed at once (%(default)s)")
    parser.add_argument(
        "--queue", type=int, default=64, help="requests that may wait; more get 429 (%(default)s)"
    )
    parser.add_argument("--body-bytes", type=int, default=32 * 2**20, help="largest body; more gets 413")
    parser.add_argument("--threads", type=int, help="threads of one request (default: cores / concurrency)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal.

    Args:
        arguments: What :func:`add_arguments` parsed.

    Returns:
        The exit status: 0 after SIGTERM or SIGINT, 1 when the model could not be served.

    Raises:
        MissingExtraError: The extra ``serve`` is not installed.
    """
    require("starlette", extra="serve")
    require("uvicorn", extra="serve")
    import mxpipe
    from mxpipe.serve.app import Limits
    from mxpipe.serve.server import InferenceServer, ServerSettings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    poll_seconds = arguments.poll_seconds
    if poll_seconds is None:
        poll_seconds = 30.0 if arguments.models_from_registry else 0.0
    try:
        settings = ServerSettings(
            host=arguments.host,
            port=arguments.port,
            state_file=arguments.state_file,
            poll_seconds=poll_seconds,
            drain_seconds=arguments.drain_seconds,
            limits=Limits(arguments.concurrency, arguments.queue, arguments.body_bytes),
            split_file=arguments.split_file,
            monitor=arguments.monitor,
            recording=_recording(arguments),
        )
        mxpipe.set_num_threads(arguments.threads or _threads_of_a_request(arguments.concurrency))
        InferenceServer(_source(arguments), settings).run()
    except MxpipeError as error:
        print(f"mxpipe serve: {error}", file=sys.stderr)
        return 1
    return 0


def _recording(arguments: argparse.Namespace) -> RecorderSettings | None:
    if arguments.monitor is None:
        return None
    from mxpipe.monitor import RecorderSettings

    return RecorderSettings(arguments.monitor_window, arguments.monitor_write)


def _threads_of_a_request(concurrency: int) -> int:
    """So many that requests computed at once share the cores instead of waiting for each other's threads."""
    return max(1, len(os.sched_getaffinity(0)) // concurrency)


def _source(arguments: argparse.Namespace) -> ModelSource:
    if arguments.model is not None:
        return FolderSource(arguments.model, arguments.name, arguments.candidate)
    options = json.loads(os.environ.get(OPTIONS_VARIABLE, "{}"))
    options |= dict(option.partition("=")[::2] for option in arguments.registry_option)
    return RegistrySource(arguments.models_from_registry, load_resolver(arguments.registry, options))
