"""The status of a job, as one small JSON file that is replaced as a whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mxpipe.errors import JobError


class JobState(StrEnum):
    """Where a job stands."""

    SUBMITTED = "SUBMITTED"  # accepted; its process may not have started to work
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"  # the model is published: the only state that nothing follows
    FAILED = "FAILED"  # ended with an error of its own
    CANCELLED = "CANCELLED"  # ended because someone asked for it
    INTERRUPTED = "INTERRUPTED"  # was ended from outside; the same key resumes it

    @property
    def is_active(self) -> bool:
        """Whether a process should be at work."""
        return self in (JobState.SUBMITTED, JobState.RUNNING)


_FOLLOWERS: Mapping[JobState, frozenset[JobState]] = {
    JobState.SUBMITTED: frozenset(set(JobState) - {JobState.SUCCEEDED}),
    JobState.RUNNING: frozenset(set(JobState) - {JobState.SUBMITTED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset((JobState.SUBMITTED, JobState.RUNNING)),
    JobState.CANCELLED: frozenset((JobState.SUBMITTED, JobState.RUNNING)),
    JobState.INTERRUPTED: frozenset((JobState.SUBMITTED, JobState.RUNNING, JobState.CANCELLED)),
}


@dataclass(frozen=True)
class JobStatus:
    """What is known about a job from outside.

    Attributes:
        state: See :class:`JobState`.
        key: The idempotency key it was submitted under.
        pid: Process id of the worker of the latest attempt.
        start_time: When that attempt began to work, seconds since the epoch.
        heartbeat: When the worker last gave a sign of life, seconds since the epoch: once a second, whatever
            it is doing.
        step: Optimizer steps done.
        total_steps: Optimizer steps planned, when known.
        epoch: Epochs done.
        rows_per_second: Training rows a second over this attempt.
        eta_seconds: Expected seconds to the end.
        metrics: The latest values by name.
        error: Of a failure, its `type` (the class's name), `message`, and whether a retry may help
            (`retryable`).
        attempt: 1 for the first start, one more for each resumption.
    """

    state: JobState
    key: str
    pid: int | None = None
    start_time: float | None = None
    heartbeat: float | None = None
    step: int = 0
    total_steps: int | None = None
    epoch: int = 0
    rows_per_second: float | None = None
    eta_seconds: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    attempt: int = 0

    def replace(self, **changes: Any) -> JobStatus:
        """A copy with some fields changed.

        Raises:
            JobError: The change of state is not one that a job can make.
        """
        changed = dataclasses.replace(self, **changes)
        if changed.state is not self.state and changed.state not in _FOLLOWERS[self.state]:
            raise JobError(f"[job {self.key}] a state must follow from {self.state}; got {changed.state}.")
        return changed

    def to_json(self) -> dict[str, Any]:
        """The status as JSON values."""
        return dataclasses.asdict(self) | {"state": self.state.value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JobStatus:
        """Make a status from parsed JSON; fields that a newer version added are left out.

        Raises:
            JobError: The state or the key is missing or unknown.
        """
        names = {item.name for item in dataclasses.fields(cls)}
        known = {name: item for name, item in value.items() if name in names}
        try:
            return cls(**(known | {"state": JobState(known["state"]), "key": known["key"]}))
        except (KeyError, ValueError) as error:
            raise JobError(f"[status.json] state and key must be present and known; got {error}.") from error
