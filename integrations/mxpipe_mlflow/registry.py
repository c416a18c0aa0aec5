"""The model registry as a pipeline needs it: calls may be repeated, an alias moves only with a check.

MLflow registers a second version when a task retries, and sets an alias whoever set it before. Here a version
carries its idempotency key as a tag and is searched for before it is made; an alias moves only from the
version that the caller evaluated against. All functions take ``tracking_uri`` (None: MLflow's own setting)
and raise :class:`~mxpipe.errors.TrackingError` when the server refuses or cannot be reached.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe.errors import RegistryConflictError
from mxpipe.model.storage import publish_folder
from mxpipe_mlflow.client import (
    KEY_TAG,
    is_absent,
    locked,
    make_client,
    private_folder,
    quoted,
    tracking_errors,
)
from mxpipe_mlflow.logged_models import find_logged_model, log_folder_once

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

logger = logging.getLogger(__name__)

PREVIOUS_TAG = "mxpipe.previous"
"""Tag of a promoted version: the version that it replaced."""


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model.

    Attributes:
        name: Registered model.
        version: Version, as MLflow writes it.
        run_id: Run that made it, when known.
        source: Where its files are.
        tags: Its tags.
        created: Whether this call made it; False when an earlier one had.
    """

    name: str
    version: str
    run_id: str | None
    source: str
    tags: dict[str, str] = field(default_factory=dict)
    created: bool = False

    @property
    def uri(self) -> str:
        """``models:/name/version``."""
        return f"models:/{self.name}/{self.version}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Promotion:
    """Where an alias points after a move.

    Attributes:
        name: Registered model.
        alias: The alias.
        tracking_uri: Server or database; None means MLflow's own setting.
        version: The version that it names now.
        previous: The version that a rollback would return to, if any.
        changed: Whether this call moved it; False when it pointed there already.
    """

    name: str
    alias: str
    version: str
    previous: str | None
    changed: bool

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dataclasses.asdict(self)


def find_version(name: str, key: str, *, tracking_uri: str | None = None) -> RegisteredVersion | None:
    """The version that was registered under a key, or None."""
    client = make_client(tracking_uri)
    with tracking_errors(f"searching {name} for key {key}"):
        return _find(client, name, key)


def register_once(
    name: str,
    model_uri: str,
    key: str,
    tags: Mapping[str, str] | None = None,
    *,
    tracking_uri: str | None = None,
) -> RegisteredVersion:
    """Register a logged model, or give back the version that this key registered before.

    Args:
        name: Registered model; made when it does not exist.
        model_uri: ``models:/m-...`` or ``runs:/...`` of a logged model.
        key: Idempotency key of the pipeline's run.
        tags: Further tags of a new version.
        tracking_uri: Server or database; None means MLflow's own setting.
    """
    client = make_client(tracking_uri)
    with locked("register", _identity(client), name), tracking_errors(f"registering {name}"):
        known = _find(client, name, key)
        return known or _register(client, name, find_logged_model(client, model_uri), key, tags or {})


def publish_once(
    name: str,
    model_path: str | Path,
    key: str,
    *,
    run_id: str | None = None,
    experiment: str = "Default",
    tags: Mapping[str, str] | None = None,
    input_example: Any = None,
    tracking_uri: str | None = None,
) -> RegisteredVersion:
    """Log a model folder and register it, each at most once for a key: the register stage in one call.

    Args:
        name: Registered model.
        model_path: Folder that :func:`mxpipe.model.save_model` wrote.
        key: Idempotency key of the pipeline's run.
        run_id: Run to log it under; by default the one tagged with the key, in ``experiment``, made if need
            be.
        experiment: Where to look for that run.
        tags: Further tags of a new version.
        input_example: Rows that the model can score (a pandas DataFrame), kept with the model.
        tracking_uri: Server or database; None means MLflow's own setting.

    Raises:
        ModelFormatError: The folder holds no model.
    """
    from mxpipe_mlflow.tracking import find_or_create_run

    client = make_client(tracking_uri)
    with locked("register", _identity(client), name), tracking_errors(f"publishing {name}"):
        known = _find(client, name, key)
        if known is not None:
            return known
        run_id = run_id or find_or_create_run(client, experiment, key)
        logged = log_folder_once(client, Path(model_path), run_id, key, input_example)
        return _register(client, name, logged, key, tags or {})


def find_by_tags(
    name: str, tags: Mapping[str, str], *, tracking_uri: str | None = None
) -> RegisteredVersion | None:
    """The newest version that carries all these tags, or None."""
    client = make_client(tracking_uri)
    with tracking_errors(f"searching {name} by tags"):
        versions = _search(client, name, tags)
        return versions[-1] if versions else None


def get(name: str, version: str, *, tracking_uri: str | None = None) -> RegisteredVersion:
    """One version by its number.

    Raises:
        TrackingError: There is no such version, or the server cannot be reached.
    """
    client = make_client(tracking_uri)
    with tracking_errors(f"reading {name} version {version}"):
        return _as_registered(client.get_model_version(name, version), created=False)


def resolve(
    name: str, alias: str = "champion", *, tracking_uri: str | None = None
) -> RegisteredVersion | None:
    """The version that an alias names now; None when there is no such model or alias."""
    client = make_client(tracking_uri)
    with tracking_errors(f"resolving {name}@{alias}"):
        return _resolve(client, name, alias)


def promote(
    name: str, version: str, expected: str | None, alias: str = "champion", *, tracking_uri: str | None = None
) -> Promotion:
    """Move an alias to a version, if it still names the version that the candidate was compared with.

    The version before stays reachable by the alias ``previous``. Moving to where it points already changes
    nothing.

    Args:
        name: Registered model.
        version: Version to promote.
        expected: Version that the alias must name now; None when there must be no such alias yet.
        alias: The alias.
        tracking_uri: Server or database; None means MLflow's own setting.

    Raises:
        RegistryConflictError: The alias names another version: evaluate against that one.
    """
    client = make_client(tracking_uri)
    with locked("alias", _identity(client), name), tracking_errors(f"promoting {name} version {version}"):
        current = _alias_version(client, name, alias)
        if current == version:
            return Promotion(name, alias, version, _alias_version(client, name, previous_alias(alias)), False)
        if current != expected:
            raise RegistryConflictError(
                f"[{name}@{alias}] must still name {_shown(expected)} to be moved to version {version}; "
                f"got {_shown(current)}."
            )
        # `previous` first: a kill between the two writes leaves the champion untouched and a retry complete.
        if current is not None:
            client.set_registered_model_alias(name, previous_alias(alias), current)
            client.set_model_version_tag(name, version, PREVIOUS_TAG, current)
        _move(client, name, alias, version)
        return Promotion(name, alias, version, current, True)


def rollback(name: str, alias: str = "champion", *, tracking_uri: str | None = None) -> Promotion:
    """Move an alias back to the version before its last promotion; a second call changes nothing.

    Raises:
        RegistryConflictError: There is no version to return to.
    """
    client = make_client(tracking_uri)
    with locked("alias", _identity(client), name), tracking_errors(f"rolling back {name}@{alias}"):
        current = _alias_version(client, name, alias)
        previous = _alias_version(client, name, previous_alias(alias))
        if previous is None:
            raise RegistryConflictError(
                f"[{name}@{alias}] must have a version before it to return to; got none."
            )
        if current == previous:
            return Promotion(name, alias, previous, previous, False)
        _move(client, name, alias, previous)
        return Promotion(name, alias, previous, previous, True)


def download(name: str, version: str, *, tracking_uri: str | None = None) -> Path:
    """A local folder with the mxpipe model (``model.json``, ``weights.safetensors``) of one version.

    Files of a local artifact store are used in place; others are downloaded once, for all processes of this
    user on this machine: a version never changes.
    """
    from mxpipe_mlflow.flavor import model_folder

    client = make_client(tracking_uri)
    with tracking_errors(f"fetching {name} version {version}"):
        location = client.get_model_version(name, version).source
        if location.startswith("models:/"):  # registered by its logged model
            location = find_logged_model(client, location).artifact_location
        return model_folder(_local_copy(client, location))


def previous_alias(alias: str) -> str:
    """The alias that keeps what another one named before its last promotion.

    Example:
        >>> previous_alias("champion"), previous_alias("canary")
        ('previous', 'previous_canary')
    """
    return "previous" if alias == "champion" else f"previous_{alias}"


def _local_copy(client: MlflowClient, location: str) -> Path:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    if is_local_uri(location):
        return Path(local_file_uri_to_path(location))
    copy = private_folder("models") / hashlib.sha256(location.encode()).hexdigest()[:32]
    with locked("download", location):
        if not copy.exists():
            with publish_folder(copy) as aside:
                repository = get_artifact_repository(location, client.tracking_uri, _identity(client))
                repository.download_artifacts("", dst_path=str(aside))
    return copy


def _move(client: MlflowClient, name: str, alias: str, version: str) -> None:
    client.set_registered_model_alias(name, alias, version)
    written = _alias_version(client, name, alias)
    if written != version:
        raise RegistryConflictError(
            f"[{name}@{alias}] must name version {version} after the move; got {_shown(written)}: "
            "someone on another machine moved it at the same time."
        )
    logger.info("%s@%s now names version %s", name, alias, version)


def _shown(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"


def _identity(client: MlflowClient) -> str:
    return str(client._registry_uri)


def _resolve(client: MlflowClient, name: str, alias: str) -> RegisteredVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return _as_registered(client.get_model_version_by_alias(name, alias), created=False)
    except MlflowException as error:
        # SQL stores say "invalid parameter" for an alias that a known model lacks.
        if is_absent(error) or ("alias" in str(error).lower() and "not found" in str(error).lower()):
            return None
        raise


def _alias_version(client: MlflowClient, name: str, alias: str) -> str | None:
    found = _resolve(client, name, alias)
    return None if found is None else found.version


def _find(client: MlflowClient, name: str, key: str) -> RegisteredVersion | None:
    versions = _search(client, name, {KEY_TAG: key})
    # Two machines may have registered at once: the oldest is the one that everybody takes.
    return versions[0] if versions else None


def _search(client: MlflowClient, name: str, tags: Mapping[str, str]) -> list[RegisteredVersion]:
    """The versions that carry all these tags, oldest first."""
    query = " and ".join(
        [f"name = {quoted(name)}"] + [f"tags.`{tag}` = {quoted(text)}" for tag, text in tags.items()]
    )
    versions = sorted(client.search_model_versions(query), key=lambda version: int(version.version))
    return [_as_registered(version, created=False) for version in versions]


def _register(
    client: MlflowClient, name: str, logged: LoggedModel, key: str, tags: Mapping[str, str]
) -> RegisteredVersion:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # The location itself as the source: MLflow would resolve `models:/m-...` by its process-wide setting.
    version = client.create_model_version(
        name,
        source=logged.artifact_location,
        run_id=logged.source_run_id,
        tags={**tags, KEY_TAG: key},
        model_id=logged.model_id,
    )
    winner = _find(client, name, key)
    if winner is not None and winner.version != str(version.version):
        # Another machine registered between the search and here: its version is older, ours goes away.
        client.delete_model_version(name, str(version.version))
        return winner
    logger.info("registered %s version %s", name, version.version)
    return _as_registered(version, created=True)


def _as_registered(version: ModelVersion, created: bool) -> RegisteredVersion:
    return RegisteredVersion(
        name=version.name,
        version=str(version.version),
        run_id=version.run_id or None,
        source=version.source or "",
        tags=dict(version.tags or {}),
        created=created,
    )
