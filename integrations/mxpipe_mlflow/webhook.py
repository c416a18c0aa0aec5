"""A receiver of MLflow's webhooks: when an alias moves, the server that follows it swaps its model at once.

What enters: signed HTTP requests of MLflow's event ``model_version_alias.created``. What leaves: a server of
:mod:`mxpipe.serve` on this machine that serves what the alias names now, without waiting for its next poll;
one that is down is started. A server is named by its state file, as everywhere::

    $ export MXPIPE_WEBHOOK_SECRET=...            # the secret that the webhook was created with
    $ python -m mxpipe_mlflow.webhook --port 9000 --server flight_delays@champion=/var/lib/flights/server.json

An example to build on: the standard library's HTTP server, behind a proxy that speaks TLS. A request is
answered when the swap is done; an answer of 5xx makes MLflow send it again, and a repetition changes nothing.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mxpipe.errors import MxpipeError, RequestError
from mxpipe.serve import process
from mxpipe.serve.sources import split_reference

logger = logging.getLogger(__name__)

SECRET_VARIABLE = "MXPIPE_WEBHOOK_SECRET"

_SIGNATURE, _TIMESTAMP, _DELIVERY = "X-MLflow-Signature", "X-MLflow-Timestamp", "X-MLflow-Delivery-Id"
_MAX_AGE_SECONDS = 300.0
_MAX_BODY_BYTES = 64 * 1024


class SignatureError(RequestError):
    """A request that was not signed with the shared secret, or too long ago."""


def verify(headers: Mapping[str, str], body: bytes, secret: str, now: float | None = None) -> None:
    """Check MLflow's signature: HMAC-SHA256 over delivery id, time and body.

    Args:
        headers: The request's headers.
        body: Its body, as it came.
        secret: The secret of the webhook.
        now: Present time in seconds; the clock's by default.

    Raises:
        SignatureError: A header is missing, the signature is another, or the time is more than five minutes
            off: a request that someone recorded cannot be sent again for ever.

    Example:
        >>> verify({}, b"{}", "secret")
        Traceback (most recent call last):
        mxpipe_mlflow.webhook.SignatureError: [webhook] the request must have X-MLflow-Signature, ...
    """
    signature, timestamp, delivery = (headers.get(name, "") for name in (_SIGNATURE, _TIMESTAMP, _DELIVERY))
    if not signature or not timestamp or not delivery:
        raise SignatureError(f"[webhook] the request must have {_SIGNATURE}, {_TIMESTAMP} and {_DELIVERY}.")
    content = f"{delivery}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), content, hashlib.sha256).digest()
    expected = f"v1,{base64.b64encode(digest).decode()}"
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        raise SignatureError("[webhook] the signature must be made with the shared secret; it is not.")
    age = (time.time() if now is None else now) - float(timestamp)  # signed, so that it is a number
    if abs(age) > _MAX_AGE_SECONDS:
        raise SignatureError(
            f"[webhook] the request must be of the last five minutes; it is {age:.0f} s old."
        )


def moved_alias(body: bytes) -> tuple[str, str] | None:
    """Model and version alias that an event says was set: ``("flight_delays@champion", "7")``.

    Returns:
        None when the event is another one.

    Raises:
        RequestError: The body is not an event of MLflow's.

    Example:
        >>> data = {"name": "flights", "alias": "champion", "version": "7"}
        >>> event = {"entity": "model_version_alias", "action": "created", "data": data}
        >>> moved_alias(json.dumps(event).encode())
        ('flights@champion', '7')
    """
    try:
        event = json.loads(body)
        if (event["entity"], event["action"]) != ("model_version_alias", "created"):
            return None
        data = event["data"]
        return f"{data['name']}@{data['alias']}", str(data["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"[webhook] the body must be an event of MLflow's; {error!r}.") from error


def swap(reference: str, state_file: Path, tracking_uri: str | None = None) -> process.ServerHandle:
    """Have a server up that serves what an alias names now.

    Args:
        reference: ``name@alias``.
        state_file: The server's.
        tracking_uri: The registry; None means MLflow's own setting.

    Raises:
        ServingError: The server could not load it; what it served before it goes on serving.
    """
    options = {} if tracking_uri is None else {"tracking_uri": tracking_uri}
    return process.start(
        registry_model=reference, registry="mlflow", registry_options=options, state_file=state_file
    )


class WebhookReceiver(ThreadingHTTPServer):
    """Listens for alias moves. ``serve_forever()`` runs it, ``shutdown()`` ends it.

    Args:
        address: Host and port; port 0 takes a free one.
        secret: The shared secret of the webhook.
        servers: State file by ``name@alias``.
        on_move: Called with a reference and its state file; :func:`swap` by default.
    """

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        secret: str,
        servers: Mapping[str, Path],
        on_move: Callable[[str, Path], Any] = swap,
    ) -> None:
        for reference in servers:
            split_reference(reference)
        if not secret:
            raise RequestError(f"[webhook] a secret must be given, in {SECRET_VARIABLE}.")
        self._secret, self._servers, self._on_move = secret, dict(servers), on_move
        self._moving = threading.Lock()
        super().__init__(address, _Handler)

    def receive(self, headers: Mapping[str, str], body: bytes) -> str:
        """Do what a request asks for; returns what was done."""
        verify(headers, body, self._secret)
        moved = moved_alias(body)
        if moved is None or moved[0] not in self._servers:
            return "nothing to do"
        reference, version = moved
        with self._moving:  # events come in any order: what the alias names by now is what counts
            self._on_move(reference, self._servers[reference])
        logger.info("%s moved to version %s", reference, version)
        return f"{reference} is served"


class _Handler(BaseHTTPRequestHandler):
    server: WebhookReceiver
    timeout = 30.0

    def do_POST(self) -> None:
        """Answer one event."""
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 <= length <= _MAX_BODY_BYTES:
                return self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "[webhook] the body is too large.")
            done = self.server.receive(dict(self.headers.items()), self.rfile.read(length))
        except SignatureError as error:
            return self._answer(HTTPStatus.UNAUTHORIZED, str(error))
        except RequestError as error:
            return self._answer(HTTPStatus.BAD_REQUEST, str(error))
        except ValueError:
            return self._answer(HTTPStatus.LENGTH_REQUIRED, "[webhook] Content-Length must be given.")
        except MxpipeError as error:
            logger.warning("%s", error)
            return self._answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        return self._answer(HTTPStatus.OK, done)

    def _answer(self, status: HTTPStatus, text: str) -> None:
        body = json.dumps({"error" if status >= HTTPStatus.BAD_REQUEST else "done": text}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """To the log rather than to standard error."""
        logger.info(format, *arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Receive webhooks until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="mxpipe_mlflow.webhook", description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=9000, help="port (%(default)s)")
    parser.add_argument(
        "--server", metavar="NAME@ALIAS=STATE_FILE", action="append", required=True, help="may be repeated"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    servers = {name: Path(path) for name, _, path in (given.partition("=") for given in options.server)}
    try:
        receiver = WebhookReceiver((options.host, options.port), os.environ.get(SECRET_VARIABLE, ""), servers)
    except MxpipeError as error:
        parser.error(str(error))
    with receiver, contextlib.suppress(KeyboardInterrupt):
        receiver.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
