"""What the sensors share: a connection, a starting point that a retry keeps, and waiting in the triggerer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue, conf
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from mxpipe_airflow.errors import failing_at_once
from mxpipe_airflow.hooks.mxpipe import MxpipeHook

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseEventTrigger

START = "mxpipe_start"


class MxpipeSensor(BaseSensorOperator):
    """Base of the sensors: :meth:`start` says where to wait from, :meth:`look` whether it has happened.

    Args:
        conn_id: Connection of type ``mxpipe``. Templated.
        deferrable: Wait in the triggerer; Airflow's ``operators.default_deferrable`` by default.

    Example:
        >>> class NeverSensor(MxpipeSensor):
        ...     def start(self): return 0
        ...     def look(self, start): return None
        ...     def trigger(self, start): return None
        >>> NeverSensor(task_id="wait", deferrable=True).conn_id
        'mxpipe_default'
    """

    template_fields: Sequence[str] = ("conn_id",)
    ui_color = "#e6f0ea"

    def __init__(
        self,
        *,
        conn_id: str = MxpipeHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.deferrable = deferrable

    @cached_property
    def hook(self) -> MxpipeHook:
        """The hook of this sensor's connection."""
        return MxpipeHook(self.conn_id)

    @abstractmethod
    def start(self) -> Any:
        """Where to wait from: JSON, not None."""

    @abstractmethod
    def look(self, start: Any) -> dict[str, Any] | None:
        """What has happened since the start, or None."""

    @abstractmethod
    def trigger(self, start: Any) -> BaseEventTrigger:
        """What waits in the triggerer."""

    def _started(self, context: Context) -> Any:
        """The start of the task's first look, whichever try or reschedule this is."""
        store = context["task_state_store"]
        start: Any = store.get(START)
        if start is None:
            start = self.start()
            store.set(START, start, retention=NEVER_EXPIRE)
        return start

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        with failing_at_once():
            found = self.look(self._started(context))
        return PokeReturnValue(found is not None, found)

    def execute(self, context: Context) -> Any:
        """Wait; returns what has happened."""
        if not self.deferrable:
            return super().execute(context)
        if found := self.poke(context):
            return found.xcom_value
        self.defer(
            trigger=self.trigger(self._started(context)),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )
        raise AssertionError("defer() does not return")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Hand on what the trigger saw."""
        self.log.info("%s", event)
        return event
