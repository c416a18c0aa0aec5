"""Where things are: one Airflow connection of type ``mxpipe`` says it for all operators of a pipeline."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from mxpipe.errors import SpecificationError

if TYPE_CHECKING:
    from mxpipe.jobs import LocalLauncher


@dataclass(frozen=True)
class MxpipeSettings:
    """What a connection says. Unknown keys of its extra are refused, so that a typing error is seen.

    Attributes:
        root: Directory of run directories, snapshots, evaluations and reports.
        tracking_uri: MLflow's tracking and registry server; MLflow's own default where it is None.
        threads: Threads of a training job; None leaves the engine's default.

    Example:
        >>> MxpipeSettings.from_extra({"root": "/data", "threads": 2}).jobs
        PosixPath('/data/jobs')
        >>> MxpipeSettings.from_extra({"rooot": "/data"})
        Traceback (most recent call last):
        ...
        mxpipe.errors.SpecificationError: [connection] extra must hold root, tracking_uri, ... only; got
        'rooot'.
    """

    root: Path
    tracking_uri: str | None = None
    threads: int | None = None

    @classmethod
    def from_extra(cls, extra: dict[str, Any]) -> MxpipeSettings:
        """Read a connection's extra.

        Raises:
            SpecificationError: It holds an unknown key.
        """
        known = [item.name for item in fields(cls)]
        given = {name: value for name, value in extra.items() if value not in (None, "")}
        if unknown := sorted(set(given) - set(known)):
            raise SpecificationError(
                f"[connection] extra must hold {', '.join(known)} only; got {', '.join(map(repr, unknown))}."
            )
        root = Path(given.pop("root", None) or os.environ.get("MXPIPE_HOME") or Path.home() / ".mxpipe")
        if "threads" in given:
            given["threads"] = int(given["threads"])
        return cls(root=root.expanduser().absolute(), **given)

    @property
    def jobs(self) -> Path:
        """Directory of the run directories of training jobs."""
        return self.root / "jobs"


class MxpipeHook(BaseHook):
    """Gives operators their settings and launcher.

    Without the connection, everything lives under ``$MXPIPE_HOME`` (default: ``~/.mxpipe``) on this machine.

    Args:
        conn_id: Id of a connection of type ``mxpipe``; its extra holds ``root, tracking_uri, threads``.
    """

    conn_name_attr = "conn_id"
    default_conn_name = "mxpipe_default"
    conn_type = "mxpipe"
    hook_name = "mxpipe"

    def __init__(self, conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    @cached_property
    def settings(self) -> MxpipeSettings:
        """What the connection says.

        Raises:
            SpecificationError: Its extra holds an unknown key.
        """
        try:
            extra = self.get_connection(self.conn_id).extra_dejson
        except AirflowNotFoundException:
            if self.conn_id != self.default_conn_name:
                raise
            extra = {}
        return MxpipeSettings.from_extra(extra)

    def get_conn(self) -> LocalLauncher:
        """The launcher of training jobs on this machine."""
        from mxpipe.jobs import LocalLauncher

        return LocalLauncher(self.settings.jobs)

    def test_connection(self) -> tuple[bool, str]:
        """Whether the root directory can be written."""
        try:
            root = self.settings.root
            root.mkdir(parents=True, exist_ok=True)
            probe = root / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except (OSError, SpecificationError) as error:
            return False, str(error)
        return True, f"{root} can be written"
