"""MLflow's registry behind ``mxpipe serve`` (entry point group ``mxpipe.model_resolvers``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mxpipe.errors import ServingError
from mxpipe_mlflow import registry


class MlflowResolver:
    """The two questions that a server asks a registry.

    Args:
        tracking_uri: Server or database; None means MLflow's own setting (``MLFLOW_TRACKING_URI``).
    """

    def __init__(self, tracking_uri: str | None = None) -> None:
        self._tracking_uri = tracking_uri

    def current_version(self, name: str, alias: str) -> str:
        """The version that an alias names now.

        Raises:
            ServingError: There is no such model or alias.
            TrackingError: The registry cannot be reached.
        """
        found = registry.resolve(name, alias, tracking_uri=self._tracking_uri)
        if found is None:
            raise ServingError(
                f"[model] {name}@{alias} must name a version in MLflow's registry; it names none."
            )
        return found.version

    def fetch(self, name: str, version: str) -> Path:
        """A local model folder of one version."""
        return registry.download(name, version, tracking_uri=self._tracking_uri)


def create(options: Mapping[str, str]) -> MlflowResolver:
    """Make a resolver from options of the command line: ``tracking_uri``.

    Raises:
        ServingError: An option is not known.
    """
    unknown = sorted(set(options) - {"tracking_uri"})
    if unknown:
        raise ServingError(f"[registry] options must be among tracking_uri; got {', '.join(unknown)}.")
    return MlflowResolver(options.get("tracking_uri"))
