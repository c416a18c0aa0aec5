"""What a trigger must know of the task that waits for it."""

from __future__ import annotations

import asyncio
import time

from airflow.sdk import conf


async def until_reported(begun: float) -> None:
    """Wait until Airflow must have noticed that the task has deferred.

    A supervisor may report that its task has deferred as much as a heartbeat's interval after the fact. Were
    the task at work again by then, the scheduler would take the report for the end of that work, and fail the
    attempt.

    Args:
        begun: When the trigger began to run: seconds of ``time.monotonic()``.

    Example:
        >>> asyncio.run(until_reported(time.monotonic() - 60.0))
    """
    reported = conf.getint("workers", "min_heartbeat_interval", fallback=5) + 1
    await asyncio.sleep(max(0.0, begun + reported - time.monotonic()))
