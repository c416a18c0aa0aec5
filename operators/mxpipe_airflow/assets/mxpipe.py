"""Assets with ``mxpipe://`` addresses: models, their aliases, snapshots and monitors.

=====================================  ============================================
``mxpipe://models/flights``            a registered model: any new version
``mxpipe://models/flights/champion``   what an alias of it names
``mxpipe://snapshots/flights``         the snapshots of a pipeline
``mxpipe://monitors/flights``          the drift that a monitor of a model has found
=====================================  ============================================
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlunsplit

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.sdk import Asset

KINDS = ("models", "snapshots", "monitors")
_DEPTH = {"models": 2, "snapshots": 1, "monitors": 1}


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check an ``mxpipe://`` address and write it in its one form (Airflow's asset handler).

    Raises:
        ValueError: It names nothing that there is.

    Example:
        >>> from urllib.parse import urlsplit
        >>> sanitize_uri(urlsplit("mxpipe://Models//flight delays/")).geturl()
        'mxpipe://models/flight%20delays'
    """
    kind = uri.netloc.lower()
    if kind not in KINDS:
        raise ValueError(
            f"[asset] mxpipe:// must be followed by one of {', '.join(KINDS)}; got {uri.netloc!r}."
        )
    if uri.query or uri.fragment:
        raise ValueError(f"[asset] an mxpipe:// address must have no query; got {uri.query!r}.")
    names = [unquote(part) for part in uri.path.split("/") if part]
    if not 1 <= len(names) <= _DEPTH[kind]:
        raise ValueError(
            f"[asset] mxpipe://{kind}/ must be followed by 1 to {_DEPTH[kind]} names; got {uri.path!r}."
        )
    if any(name in (".", "..") or re.search(r"[\x00-\x1f]", name) for name in names):
        raise ValueError(f"[asset] a name must be one of a thing, not of a place; got {uri.path!r}.")
    return uri._replace(netloc=kind, path="/" + "/".join(quote(name, safe="@:+") for name in names))


def asset_uri(kind: str, name: str, alias: str | None = None) -> str:
    """The address of a thing by its names, without anything of Airflow.

    Example:
        >>> asset_uri("models", "flight delays", "champion")
        'mxpipe://models/flight%20delays/champion'
    """
    path = "/".join(quote(part, safe="@:+") for part in (name, alias) if part is not None)
    return urlunsplit(sanitize_uri(SplitResult("mxpipe", kind, f"/{path}", "", "")))


def create_asset(
    *, kind: str, name: str, alias: str | None = None, extra: dict[str, Any] | None = None
) -> Asset:
    """An asset by its parts (Airflow's asset factory).

    Example:
        >>> create_asset(kind="models", name="flights", alias="champion").uri
        'mxpipe://models/flights/champion'
    """
    from airflow.sdk import Asset

    return Asset(uri=asset_uri(kind, name, alias), extra=extra or {})


def model_asset(name: str, alias: str | None = None) -> Asset:
    """A registered model, or what an alias of it names.

    Example:
        >>> model_asset("flights").uri
        'mxpipe://models/flights'
    """
    return create_asset(kind="models", name=name, alias=alias)


def snapshot_asset(name: str) -> Asset:
    """The snapshots that a pipeline makes.

    Example:
        >>> snapshot_asset("flights").uri
        'mxpipe://snapshots/flights'
    """
    return create_asset(kind="snapshots", name=name)


def monitor_asset(name: str) -> Asset:
    """The drift that a monitor finds.

    Example:
        >>> monitor_asset("flights").uri
        'mxpipe://monitors/flights'
    """
    return create_asset(kind="monitors", name=name)


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:
    """OpenLineage's dataset of an asset.

    Example:
        >>> found = convert_asset_to_openlineage(model_asset("flights", "champion"), None)  # doctest: +SKIP
        >>> found.namespace, found.name  # doctest: +SKIP
        ('mxpipe://models', 'flights/champion')
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    from mxpipe_airflow.lineage import Data

    return Dataset(*Data(asset.uri).name)
