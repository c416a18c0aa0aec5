"""Counts what a server answers, beside its requests and never in their way.

A request hands over references to its columns and predictions and goes on; one thread counts them, many
requests at a time, and writes what it has every few seconds. When requests come faster than they are counted,
some are left out, and the number of their rows is written down.

The clock only says to which window a request belongs. One that jumps back starts another file for that
window.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from mxpipe.errors import MxpipeError
from mxpipe.monitor.directory import MonitorDirectory
from mxpipe.monitor.statistics import PredictionStatistics

if TYPE_CHECKING:
    from mxpipe.model import Model

logger = logging.getLogger(__name__)

Columns = Mapping[str, Any]


@dataclass(frozen=True)
class RecorderSettings:
    """How a server's requests are counted.

    Attributes:
        window_seconds: Length of a window; each has a file of its own.
        write_seconds: A killed server loses at most so much.
        pending_rows: Rows that may wait to be counted; those of further requests are dropped.
    """

    window_seconds: int = 3600
    write_seconds: float = 10.0
    pending_rows: int = 65536


@dataclass(frozen=True)
class _Request:
    version: str
    window: int
    model: Model
    columns: Columns
    predictions: np.ndarray[Any, Any]
    request_id: str | None

    @property
    def form(self) -> tuple[str, int, tuple[str, ...]]:
        """Requests of one form are counted together."""
        return self.version, self.window, tuple(self.columns)


@dataclass
class _Open:
    """A window that is being filled."""

    statistics: PredictionStatistics
    writer: str
    predictions: dict[str, list[float]]
    changed: bool = False


class StatisticsRecorder:
    """Counts requests in a thread of its own.

    Args:
        directory: The monitor's files.
        settings: How.
        clock: Seconds since 1970.

    Attributes:
        recorded: Rows counted since the start.
        dropped: Rows left out since the start.
        failed_writes: Writes that a full disk refused; they are tried again with all that came meanwhile.
    """

    def __init__(
        self,
        directory: MonitorDirectory,
        settings: RecorderSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self._settings = settings or RecorderSettings()
        self._clock = clock
        self.recorded = self.dropped = self.failed_writes = 0
        self._pending: deque[_Request] = deque()
        self._pending_rows = 0
        self._dropped: dict[tuple[str, int], tuple[Model, int]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._open: dict[tuple[str, int], _Open] = {}
        # A process id may be used again; a writer's name may not.
        self._writer = f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._parts = 0
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._thread.start()

    def record(
        self,
        version: str,
        model: Model,
        columns: Columns,
        predictions: np.ndarray[Any, Any],
        request_id: str | None = None,
    ) -> bool:
        """Hand a request over; takes microseconds, whatever the disk does.

        Args:
            version: The version that answered.
            model: Its model.
            columns: What it was asked. The caller must not change them any more.
            predictions: What it answered, shape (n,) or (n, outputs).
            request_id: The client's name for the request. With it, the predictions are kept for labels that
                come later: under this name, or ``name/0``, ``name/1``, ... where there are several rows.

        Returns:
            Whether it will be counted; False where too much is waiting already.
        """
        window = int(self._clock() // self._settings.window_seconds)
        rows = len(predictions)
        with self._lock:
            if self._pending_rows and self._pending_rows + rows > self._settings.pending_rows:
                self.dropped += rows
                known = self._dropped.get((version, window), (model, 0))[1]
                self._dropped[version, window] = model, known + rows
                return False
            self._pending.append(_Request(version, window, model, columns, predictions, request_id))
            self._pending_rows += rows
        return True

    def close(self, timeout: float = 30.0) -> None:
        """Count and write what waits, and end the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout)

    def flush(self) -> None:
        """Count what waits and write everything now; for tests and for the end."""
        self._count()
        self._write()

    def _run(self) -> None:
        written = time.monotonic()
        while not self._stopping:
            # Often enough that little waits, seldom enough that single rows are counted many at a time.
            self._wake.wait(0.2)
            with self._survived():
                self._count()
                if time.monotonic() - written >= self._settings.write_seconds:
                    written = time.monotonic()
                    self._write()
        with self._survived():
            self.flush()

    @contextlib.contextmanager
    def _survived(self) -> Iterator[None]:
        """Whatever goes wrong in counting must not end the counting, nor touch the serving."""
        try:
            yield
        except MxpipeError as error:
            self.failed_writes += 1
            logger.warning("monitoring goes on without a write: %s", error)
        except Exception:
            logger.exception("monitoring goes on")

    def _count(self) -> None:
        with self._lock:
            taken, self._pending = self._pending, deque()
            dropped, self._dropped = self._dropped, {}
        try:
            for _, group in groupby(taken, key=lambda request: request.form):
                with self._survived():
                    self._count_alike(list(group))
            for (version, window), (model, rows) in dropped.items():
                opened = self._opened(version, window, model)
                opened.statistics.dropped += rows
                opened.changed = True
        finally:
            with self._lock:
                self._pending_rows = sum(len(request.predictions) for request in self._pending)

    def _count_alike(self, requests: list[_Request]) -> None:
        """Count requests of one form."""
        first = requests[0]
        predictions = np.concatenate([request.predictions for request in requests])
        columns = {name: _joined([r.columns[name] for r in requests]) for name in first.columns}
        opened = self._opened(first.version, first.window, first.model)
        opened.statistics.update(columns, predictions)
        opened.changed = True
        self.recorded += len(predictions)
        for request in requests:
            if request.request_id is not None:
                opened.predictions |= _by_id(request.request_id, request.predictions)

    def _opened(self, version: str, window: int, model: Model) -> _Open:
        found = self._open.get((version, window))
        if found is None:
            writer = f"{self._writer}-{self._parts}"
            self._parts += 1
            found = self._open[version, window] = _Open(PredictionStatistics.of_model(model), writer, {})
        return found

    def _write(self) -> None:
        seconds = self._settings.window_seconds
        now = int(self._clock() // seconds)
        for (version, window), opened in list(self._open.items()):
            if opened.changed:
                start = datetime.fromtimestamp(window * seconds, UTC)
                end = datetime.fromtimestamp((window + 1) * seconds, UTC)
                # Let go first: where the disk is full, they must not pile up here.
                kept, opened.predictions = opened.predictions, {}
                if kept:
                    self.directory.append_predictions(version, start, opened.writer, kept)
                self.directory.write(version, start, end, opened.writer, opened.statistics)
                opened.changed = False
            if window != now:
                del self._open[version, window]


def _joined(parts: list[Any]) -> Any:
    """The same column of several requests as one; lists hold None where a value is missing."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return [value for part in parts for value in (part.tolist() if isinstance(part, np.ndarray) else part)]


def _by_id(request_id: str, predictions: np.ndarray[Any, Any]) -> dict[str, list[float]]:
    rows = predictions.reshape(len(predictions), -1).tolist()
    if len(rows) == 1:
        return {request_id: rows[0]}
    return {f"{request_id}/{row}": values for row, values in enumerate(rows)}
