"""The model being served: warm before it answers, swapped in at once, the one before it drained.

What enters: a :class:`~mxpipe.serve.sources.ModelSource`. What leaves: leases on an immutable loaded version.
A request holds one lease from its first check to its answer, so that it never sees two versions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mxpipe.errors import MxpipeError, ServingError
from mxpipe.serve.columns import Signature
from mxpipe.serve.sources import ModelSource

if TYPE_CHECKING:
    from mxpipe.model import Model

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class LoadedVersion:
    """One immutable version, loaded and warm.

    Attributes:
        version: Version text of its source.
        model: The model.
        signature: Its raw columns as rules.
        leases: Requests that work with it now; guarded by the slot's lock.
    """

    version: str
    model: Model
    signature: Signature
    leases: int = 0

    @staticmethod
    def load(version: str, folder: Path) -> LoadedVersion:
        """Load a model folder and run the model once.

        Raises:
            ModelFormatError: The folder cannot be read.
            ServingError: The warm-up failed, or gave numbers that no client could be sent.
        """
        from mxpipe.model import load_model

        model = load_model(folder)
        try:
            output = model.warm_up()
        except MxpipeError as error:
            raise ServingError(f"[model {folder}] the warm-up must succeed; {error}") from error
        if not np.isfinite(output).all():
            raise ServingError(
                f"[model {folder}] the warm-up must give finite predictions; got {output.tolist()}."
            )
        return LoadedVersion(version, model, Signature.of(model))


class ModelSlot:
    """Holds the version that answers, and replaces it.

    Args:
        source: Where versions come from.
        drain_seconds: How long a refresh waits for requests on the old version.
        on_change: Called with each version once it answers.
    """

    def __init__(
        self,
        source: ModelSource,
        drain_seconds: float = 30.0,
        on_change: Callable[[LoadedVersion], None] = lambda version: None,
    ) -> None:
        self.source = source
        self.load_failures = 0
        self._drain_seconds = drain_seconds
        self._on_change = on_change
        self._current: LoadedVersion | None = None
        self._leases_changed = threading.Condition()
        self._refreshing = threading.Lock()

    @property
    def current(self) -> LoadedVersion | None:
        """The version that answers, or None before the first one is warm."""
        return self._current

    @contextmanager
    def lease(self) -> Iterator[LoadedVersion]:
        """Hold the current version for one request.

        Raises:
            ServingError: No version is warm yet.
        """
        with self._leases_changed:
            loaded = self._current
            if loaded is None:
                raise ServingError(
                    f"[model {self.source.name!r}] must be warm before it answers; it is loading."
                )
            loaded.leases += 1
        try:
            yield loaded
        finally:
            with self._leases_changed:
                loaded.leases -= 1
                self._leases_changed.notify_all()

    def refresh(self) -> bool:
        """Serve what the source names now; on any failure the version before keeps answering.

        Returns:
            Whether another version answers than before. True comes only after the old one is drained, or
            after the drain time is over (its last requests then still end on the old version).

        Raises:
            MxpipeError: The source cannot be asked, or the new version cannot be loaded.
        """
        with self._refreshing:
            try:
                return self._refresh()
            except Exception:
                self.load_failures += 1
                raise

    def _refresh(self) -> bool:
        wanted = self.source.current_version()
        if self._current is not None and self._current.version == wanted:
            return False
        started = time.monotonic()
        loaded = LoadedVersion.load(wanted, self.source.fetch(wanted))
        with self._leases_changed:
            old, self._current = self._current, loaded
        logger.info("serving %s version %s (%.2f s)", self.source.name, wanted, time.monotonic() - started)
        self._on_change(loaded)
        if old is not None:
            self._drain(old)
        return True

    def _drain(self, old: LoadedVersion) -> None:
        with self._leases_changed:
            if not self._leases_changed.wait_for(lambda: old.leases == 0, timeout=self._drain_seconds):
                logger.warning("version %s still answers %d requests", old.version, old.leases)
