"""``mxpipe monitor``: compare a window of a monitor's statistics with the training of a version.

Its options stand in :mod:`mxpipe.cli`, which every command loads, and which loads little.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from mxpipe.errors import DataError, SpecificationError
from mxpipe.monitor.check import check_window
from mxpipe.monitor.compare import Labelled, MonitorPolicy, Reference
from mxpipe.monitor.directory import MonitorDirectory, Window, label_pairs


def run(arguments: argparse.Namespace) -> int:
    """Compare, write the report, print a summary.

    Args:
        arguments: What :mod:`mxpipe.cli` parsed.

    Returns:
        The exit status: 0, or 3 where the window has drifted.

    Raises:
        MxpipeError: There is nothing to compare, or a file cannot be read.
    """
    from mxpipe.data import Snapshot
    from mxpipe.model import load_model

    directory = MonitorDirectory(arguments.directory)
    window = Window.of(arguments.window, arguments.start, arguments.end)
    version = arguments.version or _only_version(directory)
    current = directory.collect(version, window)
    if current is None:
        raise DataError(f"[monitor] {directory.path} must have statistics of {window.id}; got none.")
    if arguments.reference:
        reference = Reference.of_snapshot(Snapshot.open(arguments.reference))
    else:
        reference = Reference.of_model(load_model(arguments.model))
    policy = MonitorPolicy.from_json(_read(arguments.policy) if arguments.policy else {})
    labelled = None
    if arguments.labels:
        pairs = label_pairs(directory.predictions(version, window), _labels(arguments.labels))
        labelled = Labelled(*pairs, task=arguments.task)
    checked = check_window(directory, window, current, reference, policy, labelled=labelled, version=version)
    print(json.dumps(checked.to_json(), indent=2))
    return 3 if checked.event is not None or checked.comparison.verdict == "drift" else 0


def _only_version(directory: MonitorDirectory) -> str:
    versions = directory.versions()
    if len(versions) != 1:
        raise SpecificationError(
            f"[monitor] --version must name one of {', '.join(versions) or 'none'} in {directory.path}."
        )
    return versions[0]


def _read(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise SpecificationError(f"[{path}] the file must be readable JSON; got {error}.") from error


def _labels(path: str) -> dict[str, float]:
    try:
        with open(path, newline="") as file:
            return {row["id"]: float(row["label"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"[{path}] it must be CSV with the columns id and label; got {error!r}.") from error
