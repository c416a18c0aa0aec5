"""Read and set a running server's split. Standard library only: cheap to import in a pipeline's task."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from mxpipe.errors import RequestError, ServingError

# A server is on this or another machine's loopback: no proxy of the environment stands between.
direct_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def read_split(url: str, model: str, timeout: float = 30.0) -> dict[str, Any]:
    """A server's split, and what was measured of each version since it was set.

    Args:
        url: Root of the server's HTTP interface.
        model: Name of the served model.
        timeout: Seconds to wait for the answer.

    Returns:
        ``model, version`` (the one that the source names), ``split`` (``canary, share, shadow``), ``before``
        (the split that comes back when a lease runs out, or None), and ``versions``: ``requests, errors,
        rows, skipped, seconds, predictions, shadow_difference`` by version.

    Raises:
        ServingError: The server does not answer.
    """
    return _ask("GET", url, model, None, timeout)


def write_split(url: str, model: str, split: Mapping[str, Any], timeout: float = 120.0) -> dict[str, Any]:
    """Set a server's split; it is in force, and written down, when this returns.

    Args:
        url: Root of the server's HTTP interface.
        model: Name of the served model.
        split: ``canary, share, shadow``; ``{}`` ends both. With ``lease_seconds``, the split before comes
            back after this time, unless the same split is set again until then.
        timeout: Seconds to wait, the loading of versions included.

    Returns:
        ``split``, and ``before``, the split that it replaced, or that its lease would bring back.

    Raises:
        RequestError: The server refused it, because it is no split or the versions do not fit each other.
        ServingError: A version cannot be loaded, or the server does not answer; the split is as it was.
    """
    return _ask("PUT", url, model, dict(split), timeout)


def _ask(method: str, url: str, model: str, body: Any, timeout: float) -> dict[str, Any]:
    place = f"{url}/v2/models/{quote(model, safe='')}/split"
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        place, data=content, headers={"Content-Type": "application/json"}, method=method
    )
    try:
        with direct_opener.open(request, timeout=timeout) as response:
            found: dict[str, Any] = json.loads(response.read())
            return found
    except urllib.error.HTTPError as error:
        text = error.read()[:2000].decode(errors="replace")
        kind = RequestError if error.code == 400 else ServingError
        raise kind(f"[server] {method} {place} must answer 200; got {error.code}: {text}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServingError(f"[server] {place} must answer; {error}.") from error
