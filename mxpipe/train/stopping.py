"""A wish to stop, from a signal, that the training loop reads between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """While active, SIGTERM and Ctrl-C ask the training to stop after the step it is in, with a checkpoint.

    A second Ctrl-C does what it did before. Only the main thread can handle signals; elsewhere `request` is
    the one way to ask.

    Example:
        >>> with StopRequest() as stop:
        ...     stop.request()
        ...     stop.is_requested
        True
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._former: dict[signal.Signals, Any] = {}

    @property
    def is_requested(self) -> bool:
        """Whether someone asked."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask the training to stop."""
        self._event.set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._former[signal.SIGINT])
        self._event.set()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
