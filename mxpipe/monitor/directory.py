"""Where a monitor keeps what it knows, on disk.

::

    ROOT/monitors/NAME/
        statistics/VERSION/START-WRITER.json    statistics of one writer's window, replaced as it grows
        predictions/VERSION/START-WRITER.jsonl  predictions by request id, for labels that come later
        reports/WINDOW.json, WINDOW.html        what was found in a window
        events.jsonl                            see :mod:`mxpipe.monitor.events`

Each writer (a server process, a partition of a batch prediction) has files of its own, so that no two write
one, and readers merge them. Files are written aside and renamed: a killed writer loses what it had not yet
written, and nothing else. A file belongs to a window by the time at which its own begins.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from mxpipe.errors import DataError, SpecificationError
from mxpipe.model.storage import storage_errors, write_aside
from mxpipe.monitor.events import EVENTS_FILE, EventLog, parse_time
from mxpipe.monitor.statistics import PredictionStatistics

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


@dataclass(frozen=True)
class Window:
    """A span of time that is looked at as a whole.

    Attributes:
        id: Its name, unique within a monitor: letters, digits and ``._+-``.
        start: Where it begins; without a time zone, UTC is meant.
        end: Where it ends, exclusive.

    Raises:
        SpecificationError: The name has other characters, or the window ends before it begins.

    Example:
        >>> Window.of("2013-W07", "2013-02-11", "2013-02-18").end.isoformat()
        '2013-02-18T00:00:00+00:00'
    """

    id: str
    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            object.__setattr__(self, name, value.replace(tzinfo=value.tzinfo or UTC))
        if not _NAME.fullmatch(self.id):
            raise SpecificationError(
                f"[window] an id must be letters, digits and ._+-, 128 at most; got {self.id!r}."
            )
        if self.start >= self.end:
            raise SpecificationError(f"[window {self.id}] it must end after {self.start}; got {self.end}.")

    @classmethod
    def of(cls, id: str, start: str, end: str) -> Window:
        """A window from ISO 8601 text.

        Raises:
            DataError: A time cannot be read.
        """
        return cls(id, parse_time(start), parse_time(end))


class MonitorDirectory:
    """The files of one monitor.

    Args:
        path: ``ROOT/monitors/NAME``. It appears with the first file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def name(self) -> str:
        """Name of the monitor."""
        return self.path.name

    @property
    def events(self) -> EventLog:
        """Its events."""
        return EventLog(self.path / EVENTS_FILE)

    def report_path(self, window: str, suffix: str) -> Path:
        """Where a window's report lies; ``suffix`` is ``.json`` or ``.html``."""
        return self.path / "reports" / f"{window}{suffix}"

    def write(
        self, version: str, start: datetime, end: datetime, writer: str, statistics: PredictionStatistics
    ) -> Path:
        """Write one writer's statistics of a window, or replace those that it wrote before.

        Args:
            version: Version of the model that predicted.
            start: Where the writer's own window begins.
            end: Where it ends.
            writer: Unique among all that write: a server's process, a partition's name.
            statistics: All that it has seen in this window.

        Raises:
            StorageError: The disk is full or read-only; the file is as it was.
        """
        path = self._file("statistics", version, start, writer, ".json")
        content = {
            "start": start.isoformat(),
            "end": end.isoformat(),
            "writer": writer,
            "statistics": statistics.to_json(),
        }
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with write_aside(path) as file:
            # Compact, and by the encoder in C: a server writes this beside its requests.
            file.write(json.dumps(content, allow_nan=False).encode())
        return path

    def collect(self, version: str, window: Window) -> PredictionStatistics | None:
        """Merge what all writers saw in a window; None where there is nothing.

        A damaged file is left out, with a warning.
        """
        merged: PredictionStatistics | None = None
        for path in self._files("statistics", version, window):
            try:
                part = PredictionStatistics.from_json(json.loads(path.read_bytes())["statistics"])
                if merged is None:
                    merged = part
                else:
                    merged.merge(part)
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s is left out: %s", path, error)
        return merged

    def versions(self) -> list[str]:
        """Versions of which there are statistics."""
        found = sorted(self.path.glob("statistics/*/*.json"))
        return list(dict.fromkeys(unquote(path.parent.name) for path in found))

    def append_predictions(
        self, version: str, start: datetime, writer: str, rows: dict[str, list[float]]
    ) -> None:
        """Keep predictions by id, so that labels which come later can be joined to them.

        Args:
            version: Version of the model that predicted.
            start: Where the writer's window begins.
            writer: Unique among all that write.
            rows: The prediction, one value an output, by id of the row.

        Raises:
            StorageError: The disk is full or read-only.
        """
        path = self._file("predictions", version, start, writer, ".jsonl")
        lines = "".join(json.dumps({"id": key, "prediction": row}) + "\n" for key, row in rows.items())
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                file.write(lines.encode())

    def predictions(self, version: str, window: Window) -> dict[str, list[float]]:
        """The kept predictions of a window by id. An id that came twice has its last prediction."""
        found: dict[str, list[float]] = {}
        for path in self._files("predictions", version, window):
            for line in path.read_bytes().splitlines():
                try:
                    row = json.loads(line)
                    found[row["id"]] = row["prediction"]
                except (ValueError, KeyError, TypeError):  # torn by a kill
                    continue
        return found

    def remove_before(self, time: datetime) -> int:
        """Remove statistics and predictions of windows that began before a time; returns how many files."""
        removed = 0
        for path in [*self.path.glob("statistics/*/*.json"), *self.path.glob("predictions/*/*.jsonl")]:
            start = _start_of(path)
            if start is not None and start < time:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _file(self, kind: str, version: str, start: datetime, writer: str, suffix: str) -> Path:
        if not _NAME.fullmatch(writer):
            raise DataError(f"[monitor] a writer must be letters, digits and ._+-; got {writer!r}.")
        stamp = start.astimezone(UTC).strftime("%Y%m%dT%H%M%S")
        return self.path / kind / quote(version, safe="") / f"{stamp}-{writer}{suffix}"

    def _files(self, kind: str, version: str, window: Window) -> Iterator[Path]:
        for path in sorted((self.path / kind / quote(version, safe="")).glob("[0-9]*.json*")):
            start = _start_of(path)
            if start is not None and window.start <= start < window.end:
                yield path


def _start_of(path: Path) -> datetime | None:
    try:
        return datetime.strptime(path.name.partition("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def label_pairs(
    predictions: dict[str, list[float]], labels: dict[str, Any]
) -> tuple[list[Any], list[list[float]]]:
    """Labels and predictions of the ids that both have, in the order of the ids.

    Example:
        >>> label_pairs({"a": [0.2], "b": [0.9]}, {"b": 1, "c": 0})
        ([1], [[0.9]])
    """
    both = sorted(predictions.keys() & labels.keys())
    return [labels[key] for key in both], [predictions[key] for key in both]
