"""Progress for people: a bar that redraws itself on a terminal, plain lines with a rate in a log."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

_BAR_WIDTH, _LEAST_BAR_WIDTH = 24, 8
_REDRAW_SECONDS = 0.1


def format_duration(seconds: float | None) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> format_duration(3725.2), format_duration(None)
        ('1:02:05', '-:--')
    """
    if seconds is None:
        return "-:--"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class Rate:
    """Steps and rows a second since the start of this process, and the time that is left.

    The first step is left out of the measure: it holds the one-time planning.
    """

    def __init__(self, step: int, total_steps: int) -> None:
        """Begin at `step` of `total_steps`."""
        self._first, self._step, self._rows, self._total = step, step, 0, total_steps
        self._start: float | None = None

    def update(self, step: int, rows: int) -> None:
        """Say that `step` was reached with `rows` more rows."""
        if self._start is None:
            self._start, self._first = time.monotonic(), step
        else:
            self._rows += rows
        self._step = step

    @property
    def _seconds(self) -> float | None:
        return None if self._start is None or self._step == self._first else time.monotonic() - self._start

    @property
    def rows_per_second(self) -> float | None:
        """Rows a second, or None before the second step."""
        seconds = self._seconds
        return self._rows / seconds if seconds else None

    @property
    def eta_seconds(self) -> float | None:
        """Expected seconds to the last step, or None before the second step."""
        seconds = self._seconds
        return (self._total - self._step) * seconds / (self._step - self._first) if seconds else None


class ProgressReporter:
    """Shows one line of progress.

    Args:
        total: Number of steps.
        label: What is going on.
        stream: Where to show it; standard error by default. A terminal gets a bar, anything else plain lines.
        interval: Seconds between plain lines.

    Example:
        >>> with ProgressReporter(total=2, label="training", stream=sys.stdout) as progress:
        ...     progress.update(2, "loss 0.5")
        training 100% 2/2 steps, loss 0.5
    """

    def __init__(
        self, total: int, label: str = "", stream: TextIO | None = None, interval: float = 5.0
    ) -> None:
        self._total, self._label = max(total, 1), label
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._interval = _REDRAW_SECONDS if self._is_terminal else interval
        self._next = 0.0
        self._shown = -1
        self._latest = (0, "")

    def update(self, step: int, text: str = "") -> None:
        """Show a step if it is time for it; the last step is always shown."""
        self._latest = (step, text)
        now = time.monotonic()
        if now >= self._next or step >= self._total:
            self._next = now + self._interval
            self._show()

    def _show(self) -> None:
        step, text = self._latest
        if step == self._shown and not self._is_terminal:
            return
        self._shown = step
        counts = f"{step * 100 // self._total:3d}% {step}/{self._total} steps"
        if self._is_terminal:
            columns = shutil.get_terminal_size().columns - 1
            rest = f" {counts}  {text}"
            width = max(_LEAST_BAR_WIDTH, min(_BAR_WIDTH, columns - len(self._label) - 1 - len(rest)))
            filled = min(width, step * width // self._total)
            bar = "━" * filled + "─" * (width - filled)
            self._stream.write("\r\x1b[K" + f"{self._label} {bar}{rest}"[:columns])
        else:
            self._stream.write(f"{self._label} {counts}{', ' if text else ''}{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Show the latest step and end the line."""
        if self._latest[0] != self._shown:
            self._show()
        if self._is_terminal and self._shown >= 0:
            self._stream.write("\n")
            self._stream.flush()

    def __enter__(self) -> ProgressReporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
