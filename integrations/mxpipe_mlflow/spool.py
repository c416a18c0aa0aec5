"""What a training wants to tell MLflow, on disk first: an outage delays it and a kill does not lose it.

::

    mlflow.jsonl   records in order, only ever appended to (written by the training's thread)
    mlflow.json    how many bytes of it have been sent, and the run they went to (replaced as a whole)
    mlflow.lock    held by whoever sends

A record is sent at least once: a kill between sending and noting it sends it again. The sender makes that
exactly
once: for each metric it knows the last step that MLflow holds, and leaves out what is not later. The same
rule leaves out the steps that a resumed training repeats.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mxpipe.errors import TrackingError
from mxpipe.model.storage import write_json
from mxpipe.train.events import EventWriter


class Record(NamedTuple):
    """One line of the spool.

    Attributes:
        kind: ``start``, ``metrics`` or ``end``.
        fields: The line itself; ``time`` is in seconds since the epoch.
        end: Byte position after it.
    """

    kind: str
    fields: Mapping[str, Any]
    end: int


class Spool:
    """The queue of one run directory: one process appends, one thread anywhere sends.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._records_path = Path(directory, "mlflow.jsonl")
        self._cursor_path = Path(directory, "mlflow.json")
        self._lock_path = Path(directory, "mlflow.lock")
        self._writer: EventWriter | None = None
        self.sent, self.run_id = self._read_cursor()

    def _read_cursor(self) -> tuple[int, str | None]:
        try:
            cursor = json.loads(self._cursor_path.read_text())
            return int(cursor["sent"]), cursor["run_id"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0, None  # nothing sent yet, or not known: what MLflow holds already is left out anyway

    def append(self, kind: str, **fields: Any) -> None:
        """Add a record.

        Raises:
            StorageError: The disk is full.
        """
        if self._writer is None:
            self._writer = EventWriter(self._records_path)
        self._writer.write(kind, **fields)

    def close(self) -> None:
        """Close the file that records are appended to."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def pending(self, limit: int = 200) -> list[Record]:
        """The next records that were not sent yet; what a kill tore is passed over."""
        records: list[Record] = []
        if not self._records_path.exists():
            return records
        with open(self._records_path, "rb") as file:
            position = file.seek(self.sent)
            for line in file:
                if not line.endswith(b"\n") or len(records) == limit:
                    break
                position += len(line)
                try:
                    fields = json.loads(line)
                    records.append(Record(fields["event"], fields, position))
                except (ValueError, KeyError, TypeError):
                    continue
        return records

    def first(self) -> Record:
        """The record that everything begins with: ``start``.

        Raises:
            TrackingError: Nothing was ever queued.
        """
        everything = Spool(self._records_path.parent)
        everything.sent = 0
        for record in everything.pending(limit=1):
            return record
        raise TrackingError(f"[{self._records_path}] a spool must begin with a start; got an empty one.")

    def mark_sent(self, position: int, run_id: str | None) -> None:
        """Note that everything before a byte position has been sent.

        Raises:
            StorageError: The disk is full; the records will be looked at again.
        """
        self.sent, self.run_id = position, run_id
        write_json(self._cursor_path, {"sent": position, "run_id": run_id}, durable=False)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Be the only one that sends.

        Raises:
            TrackingError: Another live process does.
        """
        with open(self._lock_path, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TrackingError(
                    f"[{self._lock_path}] one process may send at a time; another does."
                ) from None
            self.sent, self.run_id = self._read_cursor()
            yield
