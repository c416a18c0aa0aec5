"""The server process: socket, signals, refresh thread and state file around the app.

Readiness follows the model: the socket answers ``live`` at once and ``ready`` once the first version is warm;
a first version that cannot be loaded ends the process with its error. SIGTERM and SIGINT stop listening, let
admitted requests end, remove the state file and exit 0.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from mxpipe.errors import MxpipeError, ServingError, StorageError
from mxpipe.serve.app import InferenceApp, Limits
from mxpipe.serve.router import Router
from mxpipe.serve.slot import LoadedVersion, ModelSlot
from mxpipe.serve.sources import ModelSource
from mxpipe.serve.state import ServerState, process_ticks

if TYPE_CHECKING:
    from mxpipe.monitor import RecorderSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerSettings:
    """How a server runs.

    Attributes:
        host: Address to listen on; loopback unless someone decides otherwise.
        port: Port; 0 takes a free one.
        state_file: Where to write :class:`~mxpipe.serve.state.ServerState`.
        poll_seconds: Time between looks at the source; 0 looks only when ``load`` is asked.
        drain_seconds: How long a swap, and the end, wait for requests.
        limits: Bounds on what is taken on.
        split_file: By which canary and shadow survive a restart; beside the state file by default.
        monitor: Directory of a monitor that counts what is asked and answered; None counts nothing.
        recording: How it counts.
    """

    host: str = "127.0.0.1"
    port: int = 0
    state_file: Path | None = None
    poll_seconds: float = 0.0
    drain_seconds: float = 30.0
    limits: Limits = field(default_factory=Limits)
    split_file: Path | None = None
    monitor: Path | None = None
    recording: RecorderSettings | None = None


class InferenceServer:
    """One server over one model.

    Args:
        source: Where the model's versions come from.
        settings: How to run.
    """

    def __init__(self, source: ModelSource, settings: ServerSettings) -> None:
        self._settings = settings
        self._slot = ModelSlot(source, settings.drain_seconds, on_change=self._note_version)
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._socket = _listen(settings.host, settings.port)
        self._recorder = None
        if settings.monitor is not None:
            # Only here: the server starts sooner without all that compares.
            from mxpipe.monitor import MonitorDirectory, StatisticsRecorder

            self._recorder = StatisticsRecorder(MonitorDirectory(settings.monitor), settings.recording)
        split_file = settings.split_file
        if split_file is None and settings.state_file is not None:
            split_file = settings.state_file.with_suffix(".split.json")
        self._router = Router(self._slot, split_file, self._recorder)
        config = uvicorn.Config(
            InferenceApp(self._slot, settings.limits, router=self._router).application,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
            timeout_keep_alive=30,
        )
        self._server = uvicorn.Server(config)

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._socket.getsockname()[1]
        return port

    def run(self) -> None:
        """Serve until a signal; call it on the main thread.

        Raises:
            MxpipeError: The first version could not be loaded.
        """
        # uvicorn raises the signal that ended it once more when it is done; without this the process would
        # die of it here, before the state file is removed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self._write_state(None)
        logger.info("listening on %s", self._state(None).url)
        threading.Thread(target=self._follow_source, name="refresh", daemon=True).start()
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._stopping.set()
            if self._recorder is not None:
                self._recorder.close()
            self._remove_state()
        if self._failure is not None:
            raise self._failure

    def _follow_source(self) -> None:
        try:
            self._router.restore()  # before the first answer, so that a restart does not end a canary
            self._slot.refresh()
        except Exception as error:  # whatever it is, it must end the process rather than this thread alone
            self._failure = error
            self._server.should_exit = True
            return
        poll_seconds = self._settings.poll_seconds
        while poll_seconds and not self._stopping.wait(poll_seconds):
            try:
                self._slot.refresh()
            except MxpipeError as error:
                logger.warning("kept the version before: %s", error)
            except Exception:
                logger.exception("kept the version before")

    def _note_version(self, loaded: LoadedVersion) -> None:
        try:
            self._write_state(loaded)
        except StorageError as error:  # a full disk is no reason to stop answering
            logger.warning("the state file keeps the version before: %s", error)

    def _write_state(self, loaded: LoadedVersion | None) -> None:
        if self._settings.state_file is not None:
            self._state(loaded).write(self._settings.state_file)

    def _state(self, loaded: LoadedVersion | None) -> ServerState:
        pid = os.getpid()
        return ServerState(
            pid=pid,
            start_ticks=process_ticks(pid) or 0,
            host=self._settings.host,
            port=self.port,
            model=self._slot.source.name,
            reference=self._slot.source.reference,
            version=loaded.version if loaded else None,
            digest=loaded.model.digest if loaded else None,
        )

    def _remove_state(self) -> None:
        path = self._settings.state_file
        # Another server may have taken the file over meanwhile.
        if path is not None and (state := ServerState.read(path)) is not None and state.pid == os.getpid():
            path.unlink(missing_ok=True)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ServingError(f"[server] {host}:{port} must be free to listen on; {error}.") from error
    return listener
