"""``mlflow deployments ... -t mxpipe``: models served on this machine by mxpipe's own server.

What enters: a model's URI, settings. What leaves: a server process that outlives its caller, found again by
the files of its deployment (entry point group ``mlflow.deployments``)::

    <folder>/<name>/deployment.json    what was asked for
    <folder>/<name>/model/             the model folder that is served; a new model takes its place at once
    <folder>/<name>/server.json        the server's state file, see :mod:`mxpipe.serve.process`
    <folder>/<name>/server.log         what it printed

A deployment of ``models:/name@alias`` has no ``model/``: its server follows the alias in the registry.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mlflow.deployments import PredictionsResponse
from mlflow.deployments.base import BaseDeploymentClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
)

from mxpipe.errors import MxpipeError
from mxpipe.model.storage import publish_folder, write_json
from mxpipe.serve import process
from mxpipe.serve.client import direct_opener
from mxpipe_mlflow.client import locked

FOLDER_VARIABLE = "MXPIPE_DEPLOYMENTS"

# Setting -> the server's option; the first three are those of `process.start`.
_STARTED_WITH = {"host": str, "port": int, "timeout": float}
_SERVER_OPTIONS = {
    "threads": int,
    "concurrency": int,
    "queue": int,
    "body_bytes": int,
    "drain_seconds": float,
    "poll_seconds": float,
}
_SETTINGS: Mapping[str, type] = _STARTED_WITH | _SERVER_OPTIONS
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")


def target_help() -> str:
    """What ``mlflow deployments help -t mxpipe`` prints."""
    return f"""Serves mxpipe models on this machine, each in a process of its own.

Target: mxpipe, or mxpipe:/folder for deployments that are kept in a folder of their own. By default that is
${FOLDER_VARIABLE}, or mxpipe/deployments under $XDG_STATE_HOME (~/.local/state).

A model is any URI that MLflow can load (runs:/, models:/name/version, a path). models:/name@alias follows the
alias: whatever it names next is served without losing a request. So does an update to another model.

Settings (-C name=value):
  host           address to listen on (127.0.0.1)
  port           port (a free one, which an update keeps)
  timeout        seconds until it must be ready (120)
  threads        threads of one request
  concurrency    requests computed at once; queue: how many more may wait
  body_bytes     largest request
  drain_seconds  how long an old version may go on with its requests
  poll_seconds   how often an alias is looked at
"""


def run_local(
    name: str, model_uri: str, flavor: str | None = None, config: Mapping[str, Any] | None = None
) -> None:
    """Serve a model in the foreground until Ctrl-C; nothing of it stays.

    Raises:
        MlflowException: There is no such model, or a setting is not known.
    """
    _check_name(name)
    _check_flavor(flavor)
    settings = _settings(config)
    with tempfile.TemporaryDirectory() as folder:
        _fetch(model_uri, Path(folder, "model"))
        command = [sys.executable, "-m", "mxpipe.serve", f"--model={folder}/model", f"--name={name}"]
        command += [f"--{part}={settings[part]}" for part in ("host", "port") if part in settings]
        command += _arguments(settings)
        try:
            subprocess.run(command, check=True)
        except KeyboardInterrupt:  # the server got it as well, and has ended in order
            pass
        except subprocess.CalledProcessError as error:
            raise MlflowException(f"[deployment {name!r}] its server must run; {error}.") from error


class MxpipeDeploymentClient(BaseDeploymentClient):
    """Deployments of this machine.

    Args:
        target_uri: ``mxpipe``, or ``mxpipe:/folder``.

    Example:
        >>> from mlflow.deployments import get_deploy_client
        >>> client = get_deploy_client("mxpipe")  # doctest: +SKIP
        >>> client.create_deployment("flights", "models:/flight_delays@champion")["url"]  # doctest: +SKIP
        'http://127.0.0.1:43127'
    """

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)
        self._folder = _folder_of(target_uri)

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Serve a model under a new name; returns when it answers.

        Raises:
            MlflowException: The name is taken, a setting is not known, or the server did not start.
        """
        _check_flavor(flavor)
        settings = _settings(config)
        with self._changing(name, endpoint) as folder:
            if _read(folder) is not None:
                raise MlflowException(
                    f"[deployment {name!r}] the name must be free; it is taken.",
                    error_code=RESOURCE_ALREADY_EXISTS,
                )
            try:
                self._serve(folder, model_uri, settings)
            except BaseException:
                process.stop(folder / "server.json")
                shutil.rmtree(folder, ignore_errors=True)
                raise
            return self._describe(folder)

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Serve another model, or with other settings; one that is down is started again.

        A new model is swapped in without losing a request; new settings restart the server.

        Raises:
            MlflowException: There is no such deployment, a setting is not known, or the server did not start.
        """
        _check_flavor(flavor)
        changes = _settings(config)
        with self._changing(name, endpoint) as folder:
            known = _require(folder, name)
            settings = known["settings"] | changes
            running, port = process.find(folder / "server.json"), 0
            if running is not None and settings != known["settings"]:
                port = urlparse(running.url).port or 0  # clients know this one
                process.stop(folder / "server.json")
            self._serve(folder, model_uri or known["model_uri"], settings, model_uri is not None, port)
            return self._describe(folder)

    def delete_deployment(
        self, name: str, config: Mapping[str, Any] | None = None, endpoint: str | None = None
    ) -> None:
        """Stop a server and forget its deployment; nothing happens when there is none."""
        del config
        with self._changing(name, endpoint) as folder:
            if folder.exists():
                process.stop(folder / "server.json")
                shutil.rmtree(folder)

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """All deployments, by name."""
        _check_endpoint(endpoint)
        if not self._folder.is_dir():
            return []
        return [self._describe(path) for path in sorted(self._folder.iterdir()) if _read(path) is not None]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """What a deployment serves, and where; its state is READY or DOWN.

        Raises:
            MlflowException: There is no such deployment.
        """
        _check_endpoint(endpoint)
        folder = self._folder / _check_name(name)
        _require(folder, name)
        return self._describe(folder)

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> PredictionsResponse:
        """Ask a deployment for predictions.

        Args:
            deployment_name: Its name.
            inputs: A pandas DataFrame, or columns by name.
            endpoint: Must be None.

        Raises:
            MlflowException: There is no such deployment, it is down, or the inputs do not fit.
        """
        from mlflow.utils.proto_json_utils import dump_input_data

        described = self.get_deployment(str(deployment_name), endpoint)
        if described["state"] != "READY":
            raise MlflowException(
                f"[deployment {deployment_name!r}] must be up; update it to start it again."
            )
        request = urllib.request.Request(
            f"{described['url']}/invocations",
            data=dump_input_data(inputs).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        try:
            with direct_opener.open(request, timeout=60.0) as response:
                return PredictionsResponse.from_json(response.read())
        except urllib.error.HTTPError as error:
            code = INVALID_PARAMETER_VALUE if error.code < 500 else None
            text = json.loads(error.read()).get("error", error.reason)
            raise MlflowException(text, **({"error_code": code} if code else {})) from error
        except OSError as error:
            raise MlflowException(f"[deployment {deployment_name!r}] must answer; {error}.") from error

    @contextmanager
    def _changing(self, name: str, endpoint: str | None) -> Iterator[Path]:
        """The folder of a deployment, for one process at a time; errors as MLflow's."""
        _check_endpoint(endpoint)
        folder = self._folder / _check_name(name)
        try:
            with locked("deployment", str(folder)):
                yield folder
        except MxpipeError as error:
            raise MlflowException(str(error)) from error

    def _serve(
        self, folder: Path, model_uri: str, settings: dict[str, Any], fetches: bool = True, port: int = 0
    ) -> None:
        alias = _ALIAS.fullmatch(model_uri)
        folder.mkdir(parents=True, exist_ok=True)
        if alias is None and fetches:
            _fetch(model_uri, folder / "model")
        source: dict[str, Any] = {"model": folder / "model", "name": folder.name}
        if alias is not None:
            import mlflow

            source = {
                "registry_model": f"{alias['name']}@{alias['alias']}",
                "registry": "mlflow",
                "registry_options": {"tracking_uri": mlflow.get_registry_uri()},
            }
        process.start(
            **source,
            state_file=folder / "server.json",
            **({"port": port} | {part: settings[part] for part in _STARTED_WITH if part in settings}),
            arguments=_arguments(settings),
        )
        write_json(folder / "deployment.json", {"model_uri": model_uri, "settings": settings})

    def _describe(self, folder: Path) -> dict[str, Any]:
        known = _require(folder, folder.name)
        described = {"name": folder.name, "flavor": "mxpipe", "state": "DOWN"} | known
        server = process.find(folder / "server.json")
        if server is None:
            return described
        return described | {
            "state": "READY",
            "url": server.url,
            "version": server.version,
            "digest": server.digest,
        }


def _folder_of(target_uri: str) -> Path:
    path = urlparse(target_uri).path if ":" in target_uri else ""
    if path:
        return Path(path)
    if FOLDER_VARIABLE in os.environ:
        return Path(os.environ[FOLDER_VARIABLE])
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "mxpipe", "deployments")


def _fetch(model_uri: str, target: Path) -> None:
    """A copy of a model's folder under a name that stays, so that a server can be told to load it again."""
    from mlflow.tracking.artifact_utils import _download_artifact_from_uri

    from mxpipe.model import load_model
    from mxpipe_mlflow.flavor import model_folder

    with tempfile.TemporaryDirectory() as aside:
        source = model_folder(_download_artifact_from_uri(model_uri, output_path=aside))
        load_model(source)  # a damaged one must not take the place of what is served
        with publish_folder(target) as new:
            shutil.copytree(source, new, dirs_exist_ok=True)


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        known: dict[str, Any] = json.loads((folder / "deployment.json").read_text())
    except (OSError, ValueError):
        return None
    return known


def _require(folder: Path, name: str) -> dict[str, Any]:
    known = _read(folder)
    if known is None:
        raise MlflowException(
            f"[deployment {name!r}] must exist; there is none in {folder.parent}.",
            error_code=RESOURCE_DOES_NOT_EXIST,
        )
    return known


def _settings(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings of the right types: the command line gives text."""
    settings = {}
    for name, value in (config or {}).items():
        if name not in _SETTINGS:
            raise _refused(f"[config] a setting must be one of {', '.join(_SETTINGS)}; got {name!r}.")
        try:
            settings[name] = _SETTINGS[name](value)
        except (TypeError, ValueError):
            kind = _SETTINGS[name].__name__
            raise _refused(f"[config] {name} must be of type {kind}; got {value!r}.") from None
    return settings


def _arguments(settings: Mapping[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')}={settings[name]}" for name in _SERVER_OPTIONS if name in settings]


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise _refused(f"[deployment] a name must be letters, digits, dots and dashes; got {name!r}.")
    return name


def _check_flavor(flavor: str | None) -> None:
    if flavor not in (None, "mxpipe"):
        raise _refused(f"[flavor] it must be mxpipe; got {flavor!r}.")


def _check_endpoint(endpoint: str | None) -> None:
    if endpoint is not None:
        raise _refused(f"[endpoint] this target has no endpoints; got {endpoint!r}.")


def _refused(text: str) -> MlflowException:
    return MlflowException(text, error_code=INVALID_PARAMETER_VALUE)
