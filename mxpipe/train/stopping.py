"""A wish to stop, from a signal, that the training loop reads between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """While active, SIGTERM asks the training to stop after the step it is in, instead of ending the process.

    Signals can be handled in the main thread only; elsewhere `request` is the one way to ask.

    Example:
        >>> with StopRequest() as stop:
        ...     stop.request()
        ...     stop.is_requested
        True
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._former: Any = None
        self._installed = False

    @property
    def is_requested(self) -> bool:
        """Whether someone asked."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask the training to stop."""
        self._event.set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._event.set()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGTERM, self._handle)
            self._installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._former)
