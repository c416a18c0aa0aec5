"""What sensors and event triggers look at: a registry and the files of monitors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mxpipe_airflow.hooks.mxpipe import MxpipeSettings

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger

    from mxpipe.monitor.events import DriftEvent

NO_VERSION = "none"


def newest_version(settings: MxpipeSettings, model_name: str, alias: str | None) -> str | None:
    """The version that an alias names, or the newest one without an alias; None where there is none.

    Raises:
        TrackingError: The registry cannot be reached.
    """
    from mxpipe_mlflow import registry

    uri = settings.tracking_uri
    if alias:
        found = registry.resolve(model_name, alias, tracking_uri=uri)
    else:
        found = registry.find_by_tags(model_name, {}, tracking_uri=uri)
    return found.version if found else None


def drift_events(settings: MxpipeSettings, monitor: str, offset: int) -> tuple[list[DriftEvent], int]:
    """What a monitor has reported from a place of its file on, and the place to go on from.

    Example:
        >>> from pathlib import Path
        >>> drift_events(MxpipeSettings(Path("/no/such/root")), "flights", 0)
        ([], 0)
    """
    from mxpipe.monitor.events import EVENTS_FILE, EventLog

    return EventLog(settings.root / "monitors" / monitor / EVENTS_FILE).read(offset)


def later_than(events: Iterable[DriftEvent], since: str | None) -> list[DriftEvent]:
    """The events whose window ends after a time; all of them without one.

    Raises:
        DataError: It is no time.

    Example:
        >>> from mxpipe.monitor.events import DriftEvent
        >>> week = DriftEvent("flights", "2013-W07", "2013-02-11", "2013-02-18", 6000)
        >>> [len(later_than([week], since)) for since in (None, "2013-02-17T00:00:00+00:00", "2013-02-18")]
        [1, 1, 0]
    """
    from mxpipe.monitor.events import parse_time

    if not since:
        return list(events)
    start = parse_time(since).replace(tzinfo=None)
    return [event for event in events if event.ends.replace(tzinfo=None) > start]


class Place:
    """Where a watcher has come to, kept with the one asset that it watches: a restart goes on from there.

    Without an asset (a deferred sensor), or with several, it is known to this trigger alone.

    Args:
        trigger: The watcher.
        key: Name of the entry.
    """

    def __init__(self, trigger: BaseEventTrigger, key: str) -> None:
        self._trigger = trigger
        self._key = key

    async def read(self, default: Any) -> Any:
        """What was written last."""
        store = self._trigger.asset_state_store
        try:
            return default if store is None else await store.aget(self._key, default)
        except ValueError:  # several assets share this trigger
            return default

    async def write(self, value: Any) -> None:
        """Keep a place."""
        store = self._trigger.asset_state_store
        try:
            if store is not None:
                await store.aset(self._key, value)
        except ValueError:
            pass
