"""Wait for a monitor to report drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxpipe_airflow.sensors.base import MxpipeSensor
from mxpipe_airflow.triggers.drift import MxpipeDriftTrigger
from mxpipe_airflow.watching import drift_events, later_than


class MxpipeDriftSensor(MxpipeSensor):
    """Wait until a monitor has appended a drift event.

    Args:
        monitor: Name of the monitor. Templated.
        since: Look at all events whose window ends after this time (ISO 8601), those that are there already
            included; by default only at events that come after the first look of the task's first try.
            Templated.

    Returns:
        The event: ``monitor, window, start, end, rows, reasons, model, version, columns, report``.

    Example:
        >>> MxpipeDriftSensor(task_id="wait", monitor="flights", since="{{ data_interval_start }}").monitor
        'flights'
    """

    template_fields: Sequence[str] = ("conn_id", "monitor", "since")

    def __init__(self, *, monitor: str, since: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.monitor = monitor
        self.since = since

    def start(self) -> int:
        """Bytes of the file that are known already."""
        return 0 if self.since else drift_events(self.hook.settings, self.monitor, 0)[1]

    def look(self, start: int) -> dict[str, Any] | None:
        """The first event from there on."""
        events = later_than(drift_events(self.hook.settings, self.monitor, start)[0], self.since)
        return events[0].to_json() if events else None

    def trigger(self, start: int) -> MxpipeDriftTrigger:
        """Reads on from there."""
        return MxpipeDriftTrigger(self.monitor, self.conn_id, float(self.poke_interval), self.since, start)
