"""Versions behind one endpoint: the one that the source names, a canary, and a shadow.

Enters: a slot, checked columns. Leaves: predictions, and the version that made them. A request reads the
routes once and keeps them, so that a change of the split happens between requests: none is lost, none sees
half of it. A canary that fails is counted, and the request is answered by the version that the source names.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mxpipe.errors import MxpipeError, RequestError, ServingError
from mxpipe.serve.columns import ColumnValues
from mxpipe.serve.measure import VersionMeasures
from mxpipe.serve.slot import LoadedVersion, ModelSlot
from mxpipe.serve.split import Lease, Split, bucket_of_id, buckets, read_split, write_split

if TYPE_CHECKING:
    from mxpipe.monitor import StatisticsRecorder

logger = logging.getLogger(__name__)

Columns = Mapping[str, ColumnValues]
Predictions = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Routes:
    """A split with its versions loaded and warm, and how long it holds; replaced as a whole."""

    split: Split = field(default_factory=Split)
    loaded: Mapping[str, LoadedVersion] = field(default_factory=dict)
    lease: Lease | None = None

    @property
    def canary(self) -> LoadedVersion | None:
        """The canary, if there is one."""
        return self.loaded[self.split.canary] if self.split.canary else None


class Router:
    """Sends each row to its version.

    Its versions are kept alive by the requests that work with them: a canary that is taken away answers those
    that it has.

    Args:
        slot: Holds the version that the source names.
        split_file: By which a split survives a restart; None forgets it.
        recorder: Counts what is asked and answered, by version.
        shadow_requests: Requests that may wait for the shadow; further ones are not compared.
    """

    def __init__(
        self,
        slot: ModelSlot,
        split_file: Path | None = None,
        recorder: StatisticsRecorder | None = None,
        shadow_requests: int = 64,
    ) -> None:
        self.slot = slot
        self.measures = VersionMeasures()
        self.recorder = recorder
        self._split_file = split_file
        self._routes = Routes()
        self._changing = threading.Lock()
        self._timer: threading.Timer | None = None
        self._shadow_queue: deque[tuple[LoadedVersion, Columns, Predictions]] = deque()
        self._shadow_limit = shadow_requests
        self._shadow_wake = threading.Condition()
        self._shadow_thread: threading.Thread | None = None

    @property
    def split(self) -> Split:
        """How requests are split now."""
        return self._routes.split

    # Changing the split.

    def restore(self) -> None:
        """Take up the split that the server before left; without one whose versions cannot be loaded."""
        if self._split_file is None:
            return
        split, lease = read_split(self._split_file, self.slot.source.reference)
        if not split.versions:
            return
        try:
            with self._changing:
                self._routes = self._load(split, lease)
                self._keep_time()
        except MxpipeError as error:
            logger.warning("the split of the server before is left out: %s", error)

    def change(self, split: Split, lease_seconds: float | None = None) -> Split:
        """Load and warm what the split names, write it down, then let requests see it.

        Args:
            split: The split from now on.
            lease_seconds: Where it is given, the split that held without a lease comes back after this time,
                unless the same split is set again before.

        Returns:
            The split before, or the one that a lease would have brought back.

        Raises:
            MxpipeError: A version cannot be loaded or written down; the split is as it was.
        """
        with self._changing:
            held = self._routes
            before = held.lease.before if held.lease else held.split
            lease = Lease(before, lease_seconds) if lease_seconds is not None else None
            routes = self._load(split, lease)
            current = self.slot.current
            for version in routes.loaded.values():
                if current is not None and version.signature != current.signature:
                    raise RequestError(
                        f"[split] version {version.version!r} must take the columns of version "
                        f"{current.version!r} and give its outputs; they differ."
                    )
            if (split, lease) != (held.split, held.lease):
                self._write(split, lease)
            self._routes = routes
            if split != held.split:
                self.measures.restart()
                logger.info("split: %s", split.to_json())
            self._keep_time()
        return before

    def _write(self, split: Split, lease: Lease | None) -> None:
        if self._split_file is not None:
            write_split(self._split_file, self.slot.source.reference, split, lease)

    def _keep_time(self) -> None:
        """Let the time of the present lease begin, and that of the one before end."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, lease = None, self._routes.lease
        if lease is not None:
            self._timer = threading.Timer(lease.seconds, lambda: self._lapse(timer))
            timer = self._timer
            timer.daemon = True
            timer.start()

    def _lapse(self, timer: threading.Timer) -> None:
        with self._changing:
            held = self._routes
            if self._timer is not timer or held.lease is None:
                return  # renewed at the last moment
            before = held.lease.before
            logger.warning("nobody renewed the split %s: %s again", held.split, before)
            try:
                self._routes = self._load(before)
                self._write(before, None)
            except MxpipeError as error:
                # Whatever cannot be loaded or written: no version that nobody watches goes on answering.
                logger.warning("all requests go to the version that the source names: %s", error)
                self._routes = Routes()
            self.measures.restart()
            self._keep_time()

    def _load(self, split: Split, lease: Lease | None = None) -> Routes:
        loaded = {}
        for version in split.versions:
            known = self._routes.loaded.get(version)
            loaded[version] = known or LoadedVersion.load(version, self.slot.source.fetch(version))
        return Routes(split, loaded, lease)

    # Requests.

    def find(self, primary: LoadedVersion, version: str) -> LoadedVersion | None:
        """The version that a route names, if it answers here."""
        if version == primary.version:
            return primary
        canary = self._routes.canary
        return canary if canary is not None and canary.version == version else None

    def predict(
        self, primary: LoadedVersion, columns: Columns, request_id: str | None = None
    ) -> tuple[Predictions, str]:
        """Predict every row by its version.

        Args:
            primary: The version that the source names, leased by the caller.
            columns: Checked columns.
            request_id: The client's name for the request: all of its rows go to one version then.

        Returns:
            Predictions, float32 (n,) or (n, k), and the version of (most of) them.

        Raises:
            RequestError: The columns do not fit.
        """
        routes = self._routes
        canary = routes.canary
        if canary is None or canary.signature != primary.signature or routes.split.share == 0.0:
            predictions, version = self.ask(primary, columns, request_id), primary.version
        else:
            predictions, version = self._divide(primary, canary, columns, request_id, routes.split.share)
        shadow = routes.loaded[routes.split.shadow] if routes.split.shadow else None
        if shadow is not None and shadow.signature == primary.signature:
            self._shadow(shadow, columns, predictions)
        return predictions, version

    def _divide(
        self,
        primary: LoadedVersion,
        canary: LoadedVersion,
        columns: Columns,
        request_id: str | None,
        share: float,
    ) -> tuple[Predictions, str]:
        rows = len(next(iter(columns.values()))) if columns else 0
        if request_id is not None:
            chosen = np.full(rows, bucket_of_id(request_id) < share)
        else:
            chosen = buckets(columns, rows) < share
        if chosen.all():
            return self._ask_canary(primary, canary, columns, request_id)
        if not chosen.any():
            return self.ask(primary, columns, request_id), primary.version
        theirs, _ = self._ask_canary(primary, canary, _taken(columns, chosen), request_id)
        ours = self.ask(primary, _taken(columns, ~chosen), request_id)
        predictions = np.empty((rows, *ours.shape[1:]), dtype=ours.dtype)
        predictions[chosen], predictions[~chosen] = theirs, ours
        return predictions, (canary if chosen.mean() > 0.5 else primary).version

    def _ask_canary(
        self, primary: LoadedVersion, canary: LoadedVersion, columns: Columns, request_id: str | None
    ) -> tuple[Predictions, str]:
        try:
            predictions = self.ask(canary, columns, request_id)
            if np.isfinite(predictions).all():
                return predictions, canary.version
            self.measures.count_error(canary.version)
            logger.warning("canary %s gave no finite prediction; %s answers", canary.version, primary.version)
        except Exception:  # counted by ask(); whatever the canary does, the client gets its answer
            logger.exception("canary %s failed; %s answers", canary.version, primary.version)
        return self.ask(primary, columns, request_id), primary.version

    def ask(self, loaded: LoadedVersion, columns: Columns, request_id: str | None = None) -> Predictions:
        """Predict all rows by one version, measured and counted.

        Raises:
            RequestError: The columns do not fit.
        """
        started = time.perf_counter()
        try:
            predictions = loaded.model.predict(columns)
        except RequestError:
            raise  # the client's fault
        except Exception:
            self.measures.count_error(loaded.version)
            raise
        self.measures.observe(loaded.version, time.perf_counter() - started, predictions)
        if self.recorder is not None:
            self.recorder.record(loaded.version, loaded.model, columns, predictions, request_id)
        return predictions

    # The shadow: asked by a thread of its own, after the answer.

    def _shadow(self, shadow: LoadedVersion, columns: Columns, predictions: Predictions) -> None:
        with self._shadow_wake:
            if len(self._shadow_queue) >= self._shadow_limit:
                self.measures.count_skipped(shadow.version)
                return
            self._shadow_queue.append((shadow, columns, predictions))
            if self._shadow_thread is None:
                self._shadow_thread = threading.Thread(target=self._ask_shadow, name="shadow", daemon=True)
                self._shadow_thread.start()
            self._shadow_wake.notify()

    def _ask_shadow(self) -> None:
        while True:
            with self._shadow_wake:
                self._shadow_wake.wait_for(lambda: self._shadow_queue)
                shadow, columns, predictions = self._shadow_queue.popleft()
            try:
                other = self.ask(shadow, columns, None)
                self.measures.compare(shadow.version, predictions, other)
            except Exception:
                logger.exception("shadow %s failed", shadow.version)

    def report(self) -> dict[str, Any]:
        """The split, and what was measured of each version since it was set."""
        current, routes = self.slot.current, self._routes
        if current is None:
            raise ServingError(f"[model {self.slot.source.name!r}] must be warm; it is loading.")
        return {
            "model": self.slot.source.name,
            "version": current.version,
            "split": routes.split.to_json(),
            "before": routes.lease.before.to_json() if routes.lease else None,
            "versions": self.measures.report(),
        }


def _taken(columns: Columns, rows: npt.NDArray[np.bool_]) -> dict[str, ColumnValues]:
    places = np.flatnonzero(rows)
    return {
        name: values[places] if isinstance(values, np.ndarray) else [values[place] for place in places]
        for name, values in columns.items()
    }
