"""Wait for a registry: a new version of a model, or an alias that has moved."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from mxpipe.errors import TrackingError
from mxpipe_airflow.deferral import until_reported
from mxpipe_airflow.hooks.mxpipe import MxpipeHook
from mxpipe_airflow.watching import NO_VERSION, Place, newest_version


class MxpipeModelVersionTrigger(BaseEventTrigger):
    """Fires whenever a model has a new version, or an alias of it names another one.

    It serves an ``AssetWatcher`` as well as a deferred sensor. What it finds at its first look is where it
    starts from, and no event. A watcher that is restarted goes on from the version it has seen last; an event
    may then come twice, and carries the version by which it is recognised.

    The event is ``{"model_name": ..., "alias": ..., "version": ..., "previous": ...}``.

    Args:
        model_name: Name in the registry.
        alias: Watch what this alias names; any new version where it is None.
        conn_id: Connection of type ``mxpipe``.
        poll_interval: Seconds between two looks.
        known: The version to start from; ``"none"`` for a model that has none yet.

    Example:
        >>> from airflow.sdk import AssetWatcher
        >>> from mxpipe_airflow.assets.mxpipe import model_asset
        >>> champion = model_asset("flights", "champion")
        >>> champion.watchers.append(
        ...     AssetWatcher("champion moved", MxpipeModelVersionTrigger("flights", "champion"))
        ... )
    """

    def __init__(
        self,
        model_name: str,
        alias: str | None = None,
        conn_id: str = MxpipeHook.default_conn_name,
        poll_interval: float = 30.0,
        known: str | None = None,
    ) -> None:
        super().__init__()
        self.model_name = model_name
        self.alias = alias
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.known = known

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Import path and arguments, as Airflow stores them."""
        names = ("model_name", "alias", "conn_id", "poll_interval", "known")
        path = "mxpipe_airflow.triggers.model.MxpipeModelVersionTrigger"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, and fire at each change."""
        begun = time.monotonic()
        settings = await MxpipeHook(self.conn_id).aget_settings()
        place = Place(self, "version")
        known = await place.read(self.known)
        while True:
            try:
                version = await asyncio.to_thread(newest_version, settings, self.model_name, self.alias)
            except TrackingError as error:
                self.log.warning("The registry could not be asked, trying again: %s", error)
                await asyncio.sleep(self.poll_interval)
                continue
            current = version or NO_VERSION
            changed = current != known
            if changed and known is not None and version is not None:
                if self.task_instance is not None:  # a sensor's, and not a watcher's
                    await until_reported(begun)
                yield TriggerEvent(
                    {
                        "model_name": self.model_name,
                        "alias": self.alias,
                        "version": version,
                        "previous": None if known == NO_VERSION else known,
                    }
                )
            known = current
            await asyncio.sleep(self.poll_interval)
            if changed:  # only now: an event that Airflow has not stored yet comes again
                await place.write(known)
