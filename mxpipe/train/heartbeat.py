"""A sign of life that does not depend on what the training is doing.

The beat is the time of the lease's file. Nothing is written, so a full disk does not stop it, and it does not
get in the way of the status, which only the training itself writes.
"""

from __future__ import annotations

import contextlib
import os
import threading

from mxpipe.train.run_directory import Lease

BEAT_SECONDS = 1.0


class Heartbeat:
    """While active, touches the lease once a second from a thread of its own.

    A validation, the reading of data or a checkpoint may keep the training's thread for minutes;
    `JobStatus.heartbeat` says all the while that its process is alive.

    Example:
        >>> import tempfile
        >>> from mxpipe.train.run_directory import RunDirectory
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RunDirectory(folder).acquire_lease() as lease, Heartbeat(lease):
        ...         pass  # a long silent epoch
    """

    def __init__(self, lease: Lease, seconds: float = BEAT_SECONDS) -> None:
        self._lease, self._seconds = lease, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError):  # a disk that goes away is the training's to notice
                os.utime(self._lease.descriptor)
            if self._ended.wait(self._seconds):
                return

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
