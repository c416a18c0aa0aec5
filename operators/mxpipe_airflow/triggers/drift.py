"""Wait for a monitor to report drift."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from mxpipe_airflow.deferral import until_reported
from mxpipe_airflow.hooks.mxpipe import MxpipeHook
from mxpipe_airflow.watching import Place, drift_events, later_than


class MxpipeDriftTrigger(BaseEventTrigger):
    """Fires for each drift event that a monitor appends to its file.

    It serves an ``AssetWatcher`` as well as a deferred sensor. What stands in the file at its first look
    starts nothing, unless ``offset`` says otherwise. A watcher that is restarted goes on from the place it
    has come to; an event may then come twice, and carries its window's id.

    The event is what :meth:`mxpipe.monitor.events.DriftEvent.to_json` gives.

    Args:
        monitor: Name of the monitor.
        conn_id: Connection of type ``mxpipe``, under whose root the monitor writes.
        poll_interval: Seconds between two looks.
        since: Leave out windows that end until then: ISO 8601.
        offset: Bytes of the file to leave out; None leaves out what is there at the first look.

    Example:
        >>> from airflow.sdk import AssetWatcher
        >>> from mxpipe_airflow.assets.mxpipe import monitor_asset
        >>> drift = monitor_asset("flights")
        >>> drift.watchers.append(AssetWatcher("flights drift", MxpipeDriftTrigger("flights")))
    """

    def __init__(
        self,
        monitor: str,
        conn_id: str = MxpipeHook.default_conn_name,
        poll_interval: float = 30.0,
        since: str | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__()
        self.monitor = monitor
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.since = since
        self.offset = offset

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Import path and arguments, as Airflow stores them."""
        names = ("monitor", "conn_id", "poll_interval", "since", "offset")
        path = "mxpipe_airflow.triggers.drift.MxpipeDriftTrigger"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read what is appended, and fire for each event."""
        begun = time.monotonic()
        settings = await MxpipeHook(self.conn_id).aget_settings()
        place = Place(self, "offset")
        offset = await place.read(self.offset)
        if offset is None:
            _, offset = await asyncio.to_thread(drift_events, settings, self.monitor, 0)
            await place.write(offset)
        while True:
            events, end = await asyncio.to_thread(drift_events, settings, self.monitor, offset)
            for event in later_than(events, self.since):
                if self.task_instance is not None:  # a sensor's, and not a watcher's
                    await until_reported(begun)
                yield TriggerEvent(event.to_json())
            moved, offset = end != offset, end
            await asyncio.sleep(self.poll_interval)
            if moved:  # only now: an event that Airflow has not stored yet comes again
                await place.write(offset)
