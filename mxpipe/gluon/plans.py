"""Compiled plans and the cache that keeps one for each signature."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from mxpipe._native import Array

from .parameter import Parameter

__all__ = ["Plan", "PlanCache"]


@dataclass(frozen=True)
class Plan:
    """A compiled signature, valid while the parameters still are the arrays that it captured.

    Attributes:
        compiled: Called with arrays, returns a tuple of arrays.
        structure: Nesting of the results.
        captured: Parameters with the arrays that they had.
    """

    compiled: Any
    structure: Hashable
    captured: tuple[tuple[Parameter, Array], ...]

    def is_current(self) -> bool:
        """Whether the parameters still are the captured arrays."""
        # all() of a generator takes three times as long.
        for parameter, array in self.captured:  # noqa: SIM110
            if parameter._data is not array:
                return False
        return True


class PlanCache:
    """The newest plans by signature.

    Args:
        capacity: How many are kept; a plan holds memory for its intermediate results.
    """

    def __init__(self, capacity: int = 32) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()  # of changes; look-ups of several threads need none
        self._plans: dict[Hashable, Plan] = {}

    def get(self, key: Hashable, make: Callable[[], Plan]) -> Plan:
        """The plan for a signature, made when there is none that is current."""
        plan = self._plans.get(key)
        if plan is None or not plan.is_current():
            plan = make()
            with self._lock:
                self._plans.pop(key, None)
                self._plans[key] = plan
                while len(self._plans) > self._capacity:
                    del self._plans[next(iter(self._plans))]
        return plan

    def newest(self) -> Iterator[tuple[Hashable, Plan]]:
        """Current plans with their signatures, the last one made first."""
        return iter([(key, plan) for key, plan in reversed(self._plans.items()) if plan.is_current()])

    def clear(self) -> None:
        """Forget all plans."""
        self._plans.clear()

    def __len__(self) -> int:
        return len(self._plans)
