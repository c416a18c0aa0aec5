"""The history of a run: `events.jsonl`, one JSON object a line, only ever appended to.

A kill can tear the last line and nothing else: the reader leaves a torn last line out, and the next writer
ends it before it appends. A resumed run repeats the steps after its checkpoint; :func:`read_history` gives
each step once.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mxpipe.model.storage import storage_errors
from mxpipe.redaction import redact_json


class EventWriter:
    """Appends events to a file; one write call a line, so that lines of a killed process are whole or last.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with EventWriter(Path(folder, "events.jsonl")) as events:
        ...         events.write("step", step=1, loss=0.5)
        ...     [(event["event"], event["loss"]) for event in read_events(Path(folder, "events.jsonl"))]
        [('step', 0.5)]
    """

    def __init__(self, path: Path) -> None:
        """Open the file at its end, ending a torn line first.

        Raises:
            StorageError: The file cannot be written.
        """
        self._path = path
        self._is_torn = False
        with storage_errors(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                os.write(self._descriptor, b"\n")

    def write(self, event: str, **fields: Any) -> None:
        """Append one event with the present time; credentials inside of addresses are taken out.

        Raises:
            StorageError: The disk is full.
        """
        line = json.dumps({"event": event, "time": round(time.time(), 3)} | redact_json(fields)) + "\n"
        data = ("\n" + line if self._is_torn else line).encode()
        with storage_errors(self._path):
            self._is_torn = True
            if os.write(self._descriptor, data) < len(data):  # the last room of a disk takes a part of a line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._is_torn = False

    def flush(self) -> None:
        """See that what was written outlives the machine, not only the process.

        Raises:
            StorageError: The disk failed.
        """
        with storage_errors(self._path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a file in order, without lines that a kill or a full disk tore."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event


def read_history(path: Path, event: str = "step") -> list[dict[str, Any]]:
    """The events of one kind with each step once: what a resumed run repeated replaces what it did before.

    Args:
        path: An `events.jsonl`.
        event: "step" for the training loss over time, "epoch" for validation metrics.

    Returns:
        The events in order of their steps.
    """
    history: list[dict[str, Any]] = []
    for entry in read_events(path):
        if entry["event"] == "start":
            history = [known for known in history if known["step"] <= entry["step"]]
        elif entry["event"] == event:
            history.append(entry)
    return history
