"""The trigger by itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest


def test_an_event_waits_until_airflow_has_noticed_the_deferral(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is done at once: the supervisor of the deferring task may not have reported its end yet."""
    from mxpipe_airflow.triggers.job import GONE, MxpipeJobTrigger

    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "1")
    trigger = MxpipeJobTrigger(str(root / "jobs"), "no-such-job", poll_interval=0.05)

    async def first_event() -> Any:
        return await anext(trigger.run())

    begun = time.monotonic()
    event = asyncio.run(first_event())
    assert event.payload == {"job_id": "no-such-job", "state": GONE}
    assert time.monotonic() - begun >= 2.0
