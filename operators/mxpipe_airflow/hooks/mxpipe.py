"""Where things are: one Airflow connection of type ``mxpipe`` says it for all operators of a pipeline."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from mxpipe.errors import MxpipeError, SpecificationError
from mxpipe.redaction import credentials

if TYPE_CHECKING:
    from mxpipe.jobs import Launcher

_PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class MxpipeSettings:
    """What a connection says. Unknown keys of its extra are refused, so that a typing error is seen.

    Attributes:
        root: Directory of run directories, snapshots, evaluations and reports.
        tracking_uri: MLflow's tracking and registry server; MLflow's own default where it is None.
        mlflow_url: Where MLflow's pages are, for links; the tracking server itself where that is one.
        threads: Threads of a training job; None leaves the engine's default.
        launcher: What runs training jobs: a name that :func:`mxpipe.jobs.get_launcher` knows.
        launcher_arguments: What the launcher takes beside the root directory.

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
    mlflow_url: str | None = None
    threads: int | None = None
    launcher: str = "local"
    launcher_arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any]) -> MxpipeSettings:
        """Read a connection's extra; empty fields of the form count as not given.

        Raises:
            SpecificationError: It holds an unknown key, or a value that is none of its key's.
        """
        known = [item.name for item in fields(cls)]
        given = {name: value for name, value in extra.items() if value not in (None, "")}
        if unknown := sorted(set(given) - set(known)):
            raise SpecificationError(
                f"[connection] extra must hold {', '.join(known)} only; got {', '.join(map(repr, unknown))}."
            )
        root = Path(given.pop("root", None) or os.environ.get("MXPIPE_HOME") or Path.home() / ".mxpipe")
        if "threads" in given:
            given["threads"] = _thread_count(given["threads"])
        if "launcher_arguments" in given:
            given["launcher_arguments"] = _json_object(given["launcher_arguments"])
        return cls(root=root.expanduser().absolute(), **given)

    @property
    def jobs(self) -> Path:
        """Directory of the run directories of training jobs."""
        return self.root / "jobs"

    @property
    def mlflow_pages(self) -> str | None:
        """Where a browser finds MLflow, or None where only a database is known.

        Example:
            >>> MxpipeSettings(Path("/data"), tracking_uri="http://user:secret@mlflow:5000/").mlflow_pages
            'http://mlflow:5000'
            >>> MxpipeSettings(Path("/data"), tracking_uri="sqlite:///mlflow.db").mlflow_pages
        """
        from urllib.parse import urlsplit

        url = urlsplit(self.mlflow_url or self.tracking_uri or "")
        if url.scheme not in ("http", "https"):
            return None
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path.rstrip('/')}"


def _thread_count(value: Any) -> int:
    try:
        threads = int(value)
    except (TypeError, ValueError):
        threads = 0
    if threads < 1:
        raise SpecificationError(f"[connection] threads must be a positive number; got {value!r}.")
    return threads


def _json_object(value: Any) -> dict[str, Any]:
    """The form stores an object, or its text."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        # The value itself may hold a secret, and this text goes to logs.
        raise SpecificationError(
            f"[connection] launcher_arguments must be a JSON object; got {type(value).__name__}."
        )
    return parsed


def _settings_of(extra: Mapping[str, Any]) -> MxpipeSettings:
    settings = MxpipeSettings.from_extra(extra)
    # Airflow masks passwords and what is named like one; a client's complaint quotes the whole address.
    for secret in credentials(settings.tracking_uri or "") | credentials(settings.mlflow_url or ""):
        mask_secret(secret)
    return settings


class MxpipeHook(BaseHook):
    """Gives operators their settings and launcher.

    Without the connection, everything lives under ``$MXPIPE_HOME`` (default: ``~/.mxpipe``) on this machine.

    Args:
        conn_id: Id of a connection of type ``mxpipe``; its extra holds what :class:`MxpipeSettings` names.

    Example:
        >>> MxpipeHook("mxpipe_default").get_conn().poll("flights-2013-01")  # doctest: +SKIP
        JobStatus(state=<JobState.RUNNING: 'RUNNING'>, ...)
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
            SpecificationError: There is no such connection, or its extra holds an unknown key.
        """
        try:
            return _settings_of(self.get_connection(self.conn_id).extra_dejson)
        except AirflowNotFoundException as error:
            return self._without_connection(error)

    async def aget_settings(self) -> MxpipeSettings:
        """The same in a trigger, whose loop must not be blocked.

        Raises:
            SpecificationError: There is no such connection, or its extra holds an unknown key.
        """
        try:
            return _settings_of((await self.aget_connection(self.conn_id)).extra_dejson)
        except AirflowNotFoundException as error:
            return self._without_connection(error)

    def _without_connection(self, error: AirflowNotFoundException) -> MxpipeSettings:
        if self.conn_id != self.default_conn_name:
            raise SpecificationError(
                f"[connection] {self.conn_id!r} must be defined, with type {self.conn_type!r}; it is not."
            ) from error
        return _settings_of({})

    def get_conn(self) -> Launcher:
        """The launcher of training jobs.

        Raises:
            SpecificationError: There is no launcher of this name, or it does not take these arguments.
            MissingExtraError: What brings the launcher is not installed.
        """
        from mxpipe.jobs import get_launcher

        settings = self.settings
        return get_launcher(settings.launcher, root=settings.jobs, **settings.launcher_arguments)

    def test_connection(self) -> tuple[bool, str]:
        """Whether the root directory can be written, the launcher made, and a tracking server reached."""
        try:
            root = self.settings.root
            root.mkdir(parents=True, exist_ok=True)
            probe = root / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
            self.get_conn()
            reached = _reach(self.settings.tracking_uri)
        except (OSError, MxpipeError) as error:
            return False, str(error)
        return True, f"{root} can be written{reached}"


def _reach(tracking_uri: str | None) -> str:
    """Ask a tracking server for its health; a database is asked by whoever uses it."""
    import urllib.request

    if not (tracking_uri or "").startswith(("http://", "https://")):
        return ""
    url = MxpipeSettings(Path(), tracking_uri=tracking_uri).mlflow_pages
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=_PROBE_SECONDS):
            return f", and {url} answers"
    except OSError as error:
        raise OSError(f"[mlflow] {url} must answer; {error}") from error
