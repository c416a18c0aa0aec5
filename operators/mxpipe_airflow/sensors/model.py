"""Wait for a new version of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxpipe_airflow.sensors.base import MxpipeSensor
from mxpipe_airflow.triggers.model import MxpipeModelVersionTrigger
from mxpipe_airflow.watching import NO_VERSION, newest_version


class MxpipeModelVersionSensor(MxpipeSensor):
    """Wait until a model has another version, or an alias of it names another one.

    Args:
        model_name: Name in the registry. Templated.
        alias: Wait for this alias to move; for any new version where it is None. Templated.
        known: The version to start from, ``"none"`` for none; by default what there is at the first look of
            the task's first try. Templated.

    Returns:
        ``model_name, alias, version, previous``.

    Example:
        >>> MxpipeModelVersionSensor(task_id="wait", model_name="flights", alias="champion").poke_interval
        60.0
    """

    template_fields: Sequence[str] = ("conn_id", "model_name", "alias", "known")

    def __init__(
        self, *, model_name: str, alias: str | None = None, known: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.alias = alias
        self.known = known

    def start(self) -> str:
        """The version that is known already."""
        if self.known:
            return self.known
        return newest_version(self.hook.settings, self.model_name, self.alias) or NO_VERSION

    def look(self, start: str) -> dict[str, Any] | None:
        """The version, where it is another one than the known."""
        version = newest_version(self.hook.settings, self.model_name, self.alias)
        if version is None or version == start:
            return None
        previous = None if start == NO_VERSION else start
        return {
            "model_name": self.model_name,
            "alias": self.alias,
            "version": version,
            "previous": previous,
        }

    def trigger(self, start: str) -> MxpipeModelVersionTrigger:
        """Looks from the known version on."""
        return MxpipeModelVersionTrigger(
            self.model_name, self.alias, self.conn_id, float(self.poke_interval), start
        )
