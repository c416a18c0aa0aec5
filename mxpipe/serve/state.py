"""The state file: by which a pipeline finds a running server again, or sees that it is gone.

One small JSON object, replaced as a whole and removed by a server that ends in order. A process id alone may
be reused by another process, so the file also holds when the process started, as the kernel counts it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mxpipe.model.storage import write_json


@dataclass(frozen=True)
class ServerState:
    """A server as its state file describes it.

    Attributes:
        pid: Its process.
        start_ticks: When that process started, in the kernel's ticks since boot (0: not known on this
            system).
        host: Address it listens on.
        port: Port it listens on.
        model: Name of the served model.
        reference: What it was told to serve: a folder, or ``name@alias``.
        version: The version that answers; None until the first one is warm.
        digest: Digest of that version's model.
    """

    pid: int
    start_ticks: int
    host: str
    port: int
    model: str
    reference: str
    version: str | None = None
    digest: str | None = None

    @property
    def url(self) -> str:
        """Root of its HTTP interface."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def write(self, path: Path) -> None:
        """Replace the state file by this state."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dataclasses.asdict(self) | {"url": self.url}, durable=False)

    @staticmethod
    def read(path: Path) -> ServerState | None:
        """Read a state file; None when there is none, or when it is not one of ours."""
        try:
            content: dict[str, Any] = json.loads(path.read_text())
            return ServerState(
                **{field.name: content[field.name] for field in dataclasses.fields(ServerState)}
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return process_ticks(self.pid) == self.start_ticks


def process_ticks(pid: int) -> int | None:
    """When a process started, in the kernel's ticks since boot; None when it does not run.

    A zombie does not run. Where there is no ``/proc``, a running process has 0 ticks.
    """
    try:
        # The command name, in parentheses, may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else int(fields[19])
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0
