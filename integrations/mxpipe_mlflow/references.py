"""What the model registry refers to, so that `mxpipe jobs prune` leaves it alone.

Entry point of the group ``mxpipe.references``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from mxpipe_mlflow.client import make_client, tracking_errors

_VARIABLES = ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")


def registered(tracking_uri: str | None = None) -> Iterator[str]:
    """Sources and tags of all registered versions: model digests, keys, paths of snapshots among them.

    Args:
        tracking_uri: Server or database. None means the environment's; without one there is no registry to
            ask, and MLflow must not make one in the working directory.

    Yields:
        Texts; what is no path or digest refers to nothing.

    Raises:
        TrackingError: The registry cannot be reached. Then nothing may be removed.
    """
    if tracking_uri is None:
        tracking_uri = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), None)
    if tracking_uri is None:
        return
    client = make_client(tracking_uri)
    token = None
    with tracking_errors("listing registered versions"):
        while True:
            versions = client.search_model_versions(max_results=1000, page_token=token)
            for version in versions:
                yield str(version.source)
                yield from version.tags.values()
            token = versions.token
            if not token:
                return
