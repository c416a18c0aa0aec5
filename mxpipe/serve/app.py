"""The HTTP face: routes, admission, and one error form ``{"error": "..."}``.

Starlette without FastAPI: a request is one JSON object of columns, checked by :mod:`mxpipe.serve.columns` in
our own words, so that a second validation layer would only cost time and start-up.

=======================================================  ==================================================
``GET  /v2``                                              server metadata
``GET  /v2/health/live``, ``/v2/health/ready``            200, or 503 until a warm model answers
``GET  /v2/models/{m}[/versions/{v}]``                    model metadata: its raw columns
``GET  /v2/models/{m}[/versions/{v}]/ready``              200, or 503
``POST /v2/models/{m}[/versions/{v}]/infer``              inference
``POST /v2/repository/index``                             the model served
``POST /v2/repository/models/{m}/load``                   serve what the source names now (no body)
``GET  /v2/models/{m}/split``                             the split, and measures of its versions since then
``PUT  /v2/models/{m}/split``                             ``{canary, share, shadow, lease_seconds}``
``POST /invocations``                                     MLflow's scoring protocol, JSON and CSV
``GET  /ping``, ``/health``, ``/version``, ``/metrics``   MLflow's health routes; Prometheus text
=======================================================  ==================================================

Statuses for a client's fault: 400 (does not fit), 404 (no such model, version or route), 405, 408 (body too
slow), 413 (body too large), 415 (content type), 429 (queue full, with ``Retry-After``). 503: no warm model
yet.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mxpipe.errors import DataError, MxpipeError, RequestError, ServingError
from mxpipe.serve import invocations, open_inference
from mxpipe.serve.columns import ColumnValues
from mxpipe.serve.metrics import ServerMetrics
from mxpipe.serve.router import Router
from mxpipe.serve.slot import LoadedVersion, ModelSlot
from mxpipe.serve.split import Split

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
"""Header by which a client names its request: for the split, and for labels that come later."""


@dataclass(frozen=True)
class Limits:
    """What one server takes on at a time.

    Attributes:
        concurrency: Requests computed at once; each has a thread.
        queue: Requests that may wait behind them; more are answered 429.
        body_bytes: Largest request body; more is answered 413.
        body_seconds: Time in which a body must have arrived; else 408.
    """

    concurrency: int = 2
    queue: int = 64
    body_bytes: int = 32 * 2**20
    body_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, least in (("concurrency", 1), ("queue", 0), ("body_bytes", 1)):
            value = getattr(self, name)
            if value < least:
                raise ServingError(f"[server] {name} must be at least {least}; got {value}.")


class RefusedError(RequestError):
    """A request that is refused with a certain status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """What a worker thread hands back, encoded there so that it never holds up the event loop."""

    body: bytes
    rows: int


class InferenceApp:
    """The routes over one slot. ``application`` is the ASGI callable.

    Args:
        slot: The model.
        limits: Bounds on what is taken on.
        metrics: Counters; a new set by default.
        router: Canary, shadow and monitoring; all requests go to the slot's version by default.
    """

    def __init__(
        self,
        slot: ModelSlot,
        limits: Limits | None = None,
        metrics: ServerMetrics | None = None,
        router: Router | None = None,
    ) -> None:
        self._slot = slot
        self._router = router or Router(slot)
        self._limits = limits or Limits()
        self._metrics = metrics or ServerMetrics()
        self._in_flight = 0  # touched on the event loop only
        self._workers = ThreadPoolExecutor(self._limits.concurrency, thread_name_prefix="infer")
        self.application = Starlette(
            routes=self._routes(),
            exception_handlers={MxpipeError: _on_error, HTTPException: _on_http_error, Exception: _on_crash},
        )

    def _routes(self) -> list[Route]:
        model = "/v2/models/{model}"
        routes = [
            Route("/v2", self._server_metadata),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
            Route("/v2/repository/index", self._index, methods=["POST"]),
            Route("/v2/repository/models/{model}/load", self._load, methods=["POST"]),
            Route("/invocations", self._invocations, methods=["POST"]),
            Route("/ping", self._ping),
            Route("/health", self._ping),
            Route("/version", self._version),
            Route("/metrics", self._metrics_text),
            Route(model + "/split", self._show_split),
            Route(model + "/split", self._set_split, methods=["PUT"]),
        ]
        for prefix in (model, model + "/versions/{version}"):
            routes += [
                Route(prefix, self._model_metadata),
                Route(prefix + "/ready", self._model_ready),
                Route(prefix + "/infer", self._infer, methods=["POST"]),
            ]
        return routes

    # Health and metadata: answered on the event loop, whatever the workers are doing.

    async def _server_metadata(self, request: Request) -> Response:
        return JSONResponse({"name": "mxpipe", "version": _own_version(), "extensions": ["model_repository"]})

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        ready = self._slot.current is not None
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    async def _ping(self, request: Request) -> Response:
        return PlainTextResponse("\n", status_code=200 if self._slot.current is not None else 503)

    async def _version(self, request: Request) -> Response:
        return PlainTextResponse(_own_version())

    async def _model_metadata(self, request: Request) -> Response:
        with self._lease(request) as (primary, named):
            loaded = named or primary
            body = open_inference.metadata(self._slot.source.name, loaded.version, loaded.signature)
        return JSONResponse(body)

    async def _model_ready(self, request: Request) -> Response:
        self._check_model(request)
        current, wanted = self._slot.current, request.path_params.get("version")
        ready = current is not None and (not wanted or self._router.find(current, wanted) is not None)
        body = {"name": self._slot.source.name, "ready": ready}
        return JSONResponse(body, status_code=200 if ready else 503)

    async def _index(self, request: Request) -> Response:
        current = self._slot.current
        entry = {"name": self._slot.source.name, "state": "READY" if current else "LOADING", "reason": ""}
        if current is not None:
            entry["version"] = current.version
        return JSONResponse([entry])

    async def _metrics_text(self, request: Request) -> Response:
        current = self._slot.current
        gauges = {
            "mxpipe_ready": float(current is not None),
            "mxpipe_requests_in_flight": float(self._in_flight),
            "mxpipe_load_failures": float(self._slot.load_failures),
        }
        model = {"name": self._slot.source.name, "version": current.version} if current else {}
        if (recorder := self._router.recorder) is not None:
            gauges |= {
                "mxpipe_monitor_recorded_rows": float(recorder.recorded),
                "mxpipe_monitor_dropped_rows": float(recorder.dropped),
                "mxpipe_monitor_failed_writes": float(recorder.failed_writes),
            }
        text = self._metrics.render(gauges, model) + "\n".join(self._router.measures.render()) + "\n"
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def _load(self, request: Request) -> Response:
        self._check_model(request)
        try:
            changed = await asyncio.to_thread(self._slot.refresh)
        except MxpipeError as error:
            # The source's fault, not the client's; the version before keeps answering.
            return _error(503, str(error))
        current = self._slot.current
        assert current is not None  # a refresh that returns has loaded one
        return JSONResponse({"name": self._slot.source.name, "version": current.version, "changed": changed})

    async def _show_split(self, request: Request) -> Response:
        self._check_model(request)
        return JSONResponse(await asyncio.to_thread(self._router.report))

    async def _set_split(self, request: Request) -> Response:
        self._check_model(request)
        body = _parse_json(await self._read_body(request))
        seconds = body.pop("lease_seconds", None) if isinstance(body, dict) else None
        split = Split.from_json(body)
        try:
            before = await asyncio.to_thread(self._router.change, split, seconds)
        except RequestError:
            raise
        except MxpipeError as error:
            # The version's or the disk's fault; the split is as it was.
            return _error(503, str(error))
        return JSONResponse({"split": split.to_json(), "before": before.to_json()})

    # Inference: admitted, read, then checked, computed and encoded in a worker thread.

    async def _infer(self, request: Request) -> Response:
        if "inference-header-content-length" in request.headers:
            raise RefusedError(415, "[content] must be JSON: the binary tensor extension is not spoken.")

        def compute(body: bytes) -> Answer:
            with self._lease(request) as (primary, named):
                signature = (named or primary).signature
                wanted = open_inference.parse_request(_parse_json(body), signature)
                request_id = wanted.id or request.headers.get(REQUEST_ID)
                predictions, version = self._predict(primary, named, wanted.columns, request_id)
                response = open_inference.format_response(
                    self._slot.source.name, version, wanted, signature, predictions
                )
            return Answer(_encode(response), len(predictions))

        return await self._answer(request, "infer", compute)

    async def _invocations(self, request: Request) -> Response:
        content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if content_type not in ("application/json", "text/csv"):
            raise RefusedError(
                415, f"[content-type] must be application/json or text/csv; got {content_type!r}."
            )

        def compute(body: bytes) -> Answer:
            with self._lease(request) as (primary, named):
                if content_type == "text/csv":
                    columns = invocations.parse_csv(_decode(body), primary.signature)
                else:
                    columns = invocations.parse_json(_parse_json(body), primary.signature)
                request_id = request.headers.get(REQUEST_ID)
                predictions, _ = self._predict(primary, named, columns, request_id)
            return Answer(_encode(invocations.format_response(predictions)), len(predictions))

        return await self._answer(request, "invocations", compute)

    async def _answer(self, request: Request, endpoint: str, compute: Callable[[bytes], Answer]) -> Response:
        started = time.perf_counter()
        status, rows = 500, 0
        try:
            answer = await self._admitted(request, compute)
            status, rows = 200, answer.rows
            return Response(answer.body, media_type="application/json")
        except MxpipeError as error:
            status = _status_of(error)
            raise
        finally:
            self._metrics.observe(endpoint, status, time.perf_counter() - started, rows)

    async def _admitted(self, request: Request, compute: Callable[[bytes], Answer]) -> Answer:
        limits = self._limits
        if self._slot.current is None:
            raise ServingError(
                f"[model {self._slot.source.name!r}] must be warm before it answers; it is loading."
            )
        if self._in_flight >= limits.concurrency + limits.queue:
            raise RefusedError(429, f"[queue] at most {limits.queue} requests may wait; try again shortly.")
        self._in_flight += 1
        try:
            body = await self._read_body(request)
            return await asyncio.get_running_loop().run_in_executor(self._workers, compute, body)
        finally:
            self._in_flight -= 1

    async def _read_body(self, request: Request) -> bytes:
        """Read the body within the limits of size and time."""
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise RefusedError(415, "[content-encoding] must be identity.")
        largest = self._limits.body_bytes
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > largest:
            raise RefusedError(413, f"[body] must be at most {largest} bytes; got {declared}.")
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > largest:
                        raise RefusedError(413, f"[body] must be at most {largest} bytes; got more.")
        except TimeoutError:
            raise RefusedError(408, f"[body] must arrive within {self._limits.body_seconds:g} s.") from None
        except ClientDisconnect:
            raise RefusedError(400, "[body] must be sent whole; the connection was closed.") from None
        return bytes(body)

    def _check_model(self, request: Request) -> None:
        name = request.path_params.get("model", self._slot.source.name)
        if name != self._slot.source.name:
            raise RefusedError(
                404, f"[model] must be {self._slot.source.name!r}, the one served here; got {name!r}."
            )

    def _predict(
        self,
        primary: LoadedVersion,
        named: LoadedVersion | None,
        columns: Mapping[str, ColumnValues],
        request_id: str | None,
    ) -> tuple[Any, str]:
        """Predictions and their version: the one that the route names, else as the split says."""
        if named is not None:
            return self._router.ask(named, columns, request_id), named.version
        return self._router.predict(primary, columns, request_id)

    @contextmanager
    def _lease(self, request: Request) -> Iterator[tuple[LoadedVersion, LoadedVersion | None]]:
        """Hold the served version; beside it the one that the route names, or None where it names none."""
        self._check_model(request)
        with self._slot.lease() as loaded:
            wanted = request.path_params.get("version")
            named = self._router.find(loaded, wanted) if wanted else None
            if wanted and named is None:
                raise RefusedError(
                    404, f"[version] must be {loaded.version!r}, the one served now; got {wanted!r}."
                )
            yield loaded, named


def _parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise RequestError("[body] must not be nested deeper than tensors are.") from None
    except ValueError as error:  # malformed JSON, bytes that are not UTF-8, an integer of thousands of digits
        raise RequestError(f"[body] must be JSON; {error}.") from None


def _decode(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"[body] must be UTF-8; {error}.") from None


def _encode(response: Any) -> bytes:
    return json.dumps(response, allow_nan=False, separators=(",", ":")).encode()


def _status_of(error: MxpipeError) -> int:
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, RequestError | DataError):  # the model's own checks of columns raise DataError
        return 400
    return 503 if isinstance(error, ServingError) else 500


def _error(status: int, text: str) -> Response:
    headers = {"Retry-After": "1"} if status in (429, 503) else None
    return JSONResponse({"error": text}, status_code=status, headers=headers)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MxpipeError)  # registered for nothing else
    status = _status_of(error)
    if status == 500:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _error(status, str(error))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for nothing else
    response = _error(error.status_code, f"[route] {request.method} {request.url.path}: {error.detail}.")
    response.headers.update(error.headers or {})
    return response


async def _on_crash(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this answer, so that the traceback reaches the log.
    return _error(500, "[server] an internal error occurred; the server's log says more.")


def _own_version() -> str:
    try:
        return version("mxpipe")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0"
