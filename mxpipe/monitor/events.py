"""The drift events of a monitor: ``events.jsonl``, one JSON object a line, only ever appended to.

Where: ``ROOT/monitors/NAME/events.jsonl``. A line is a :class:`DriftEvent` as JSON. It is written once for
each window id, by one ``write`` under a lock, so that writers may race and repeat themselves. A kill can tear
the last line and nothing else: readers leave it out, and the next writer ends it before it appends.

The cool-down is counted between the ends of the windows that the events speak of. No clock is asked: one that
jumps back, a window that is looked at late or twice, and a backfill give the same events.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from mxpipe.errors import DataError
from mxpipe.model.storage import storage_errors

EVENTS_FILE = "events.jsonl"
DRIFT = "drift"


@dataclass(frozen=True)
class DriftEvent:
    """One window in which a monitor's threshold held.

    Attributes:
        monitor: Name of the monitor.
        window: Id of the window, unique within the monitor.
        start: Where the window begins, ISO 8601.
        end: Where it ends, exclusive, ISO 8601. Cool-downs are counted from it.
        rows: Rows that were compared.
        reasons: What held, in words.
        model: Name of the monitored model.
        version: Its version.
        columns: PSI of the columns that have drifted.
        report: Where the report is.

    Example:
        >>> event = DriftEvent("late", "2013-W07", "2013-02-11", "2013-02-18", 6000, ("temp: PSI 0.4",))
        >>> DriftEvent.from_json(event.to_json()) == event
        True
    """

    monitor: str
    window: str
    start: str
    end: str
    rows: int
    reasons: tuple[str, ...] = ()
    model: str | None = None
    version: str | None = None
    columns: Mapping[str, float] = field(default_factory=dict)
    report: str | None = None

    @property
    def ends(self) -> datetime:
        """The window's end; without a time zone where it was written without one.

        Raises:
            DataError: It is not ISO 8601.
        """
        return parse_time(self.end)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; ``event`` is always "drift"."""
        return {"event": DRIFT} | dataclasses.asdict(self) | {"reasons": list(self.reasons)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DriftEvent:
        """The event that :meth:`to_json` wrote; fields that a later version may add are left out.

        Raises:
            DataError: It is not a drift event.
        """
        try:
            known = {item.name: value[item.name] for item in dataclasses.fields(cls) if item.name in value}
            event = cls(**{**known, "reasons": tuple(known.get("reasons", ()))})
        except TypeError as error:
            raise DataError(f"[event] it must have the fields of a drift event; got {error}.") from error
        if value.get("event") != DRIFT:
            raise DataError(f"[event] 'event' must be {DRIFT!r}; got {value.get('event')!r}.")
        return event


class Outcome(StrEnum):
    """What became of an event that was to be appended."""

    APPENDED = "appended"
    PRESENT = "present"  # this window has its event already
    COOLING_DOWN = "cooling_down"  # another window's event lies too close


class EventLog:
    """The events of one monitor. Any number of processes may read and append at the same time.

    Args:
        path: The ``events.jsonl``; it appears, with its folder, with the first event.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> log = EventLog(Path(folder.name, EVENTS_FILE))
        >>> event = DriftEvent("late", "2013-W07", "2013-02-11", "2013-02-18", 6000)
        >>> str(log.append(event)), str(log.append(event))
        ('appended', 'present')
        >>> events, offset = log.read()
        >>> events[0].window, log.read(offset)[0]
        ('2013-W07', [])
        >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def read(self, offset: int = 0) -> tuple[list[DriftEvent], int]:
        """The whole events from a place on, in the order in which they were appended.

        Args:
            offset: Bytes to leave out: 0, or what an earlier call returned. One beyond the file's end (the
                file was replaced by a shorter one) starts over.

        Returns:
            The events, and the offset from which the next call goes on.
        """
        try:
            with open(self.path, "rb") as file:
                if offset > os.fstat(file.fileno()).st_size:
                    offset = 0
                file.seek(offset)
                content = file.read()
        except FileNotFoundError:
            return [], 0
        whole = content[: content.rfind(b"\n") + 1]
        return list(_parse(whole)), offset + len(whole)

    def find(self, window: str) -> DriftEvent | None:
        """The event of a window, if there is one."""
        return next((event for event in self.read()[0] if event.window == window), None)

    def append(self, event: DriftEvent, cool_down: timedelta = timedelta(0)) -> Outcome:
        """Append an event, unless its window has one or one of another window lies too close.

        Args:
            event: The event.
            cool_down: Least time between the ends of two windows that have events, in either direction.

        Raises:
            StorageError: The disk is full or read-only.
            DataError: The event's end is no time.
        """
        ends = event.ends
        with storage_errors(self.path), self._locked() as descriptor:
            known = self.read()[0]
            if any(other.window == event.window for other in known):
                return Outcome.PRESENT
            if any(_distance(other.ends, ends) < cool_down for other in known):
                return Outcome.COOLING_DOWN
            size = os.fstat(descriptor).st_size
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
            line = json.dumps(event.to_json(), sort_keys=True, allow_nan=False) + "\n"
            content = (b"\n" if torn else b"") + line.encode()
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        return Outcome.APPENDED

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def parse_time(text: str) -> datetime:
    """A time or a day as ISO 8601 writes it.

    Raises:
        DataError: It is none.

    Example:
        >>> parse_time("2013-02-18")
        datetime.datetime(2013, 2, 18, 0, 0)
    """
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise DataError(f"[window] a time must be ISO 8601; got {text!r}.") from error


def _distance(first: datetime, second: datetime) -> timedelta:
    """How far two times lie apart; where one has no zone, both are read without."""
    if (first.tzinfo is None) != (second.tzinfo is None):
        first, second = first.replace(tzinfo=None), second.replace(tzinfo=None)
    return abs(first - second)


def _parse(content: bytes) -> Iterator[DriftEvent]:
    for line in content.splitlines():
        try:
            yield DriftEvent.from_json(json.loads(line))
        except (ValueError, AttributeError):  # torn by a kill, or no drift event
            continue
