"""Judge a canary by what was measured beside the version that the source names. A pure function."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mxpipe.errors import SpecificationError


@dataclass(frozen=True)
class CanaryPolicy:
    """What a canary must hold to.

    Attributes:
        minimum_rows: Rows that it must have answered.
        minimum_requests: Requests that it must have answered.
        max_error_rate: Greatest share of its requests that may fail by its own fault.
        max_latency_ratio: Its latency at ``latency_quantile`` over that of the version beside it.
        latency_floor_seconds: Latencies below this are all well: a ratio of microseconds says nothing.
        latency_quantile: 0.5, 0.95 or 0.99.
        max_prediction_shift: Greatest distance between the two versions' mean predictions; None to not ask.

    Raises:
        SpecificationError: A value does not make sense.

    Example:
        >>> CanaryPolicy.from_json({"minimum_rows": 500}).max_error_rate
        0.0
    """

    minimum_rows: int = 200
    minimum_requests: int = 20
    max_error_rate: float = 0.0
    max_latency_ratio: float = 2.0
    latency_floor_seconds: float = 0.005
    latency_quantile: float = 0.95
    max_prediction_shift: float | None = None

    def __post_init__(self) -> None:
        if self.minimum_rows < 1 or self.minimum_requests < 1:
            raise SpecificationError("[canary] minimum_rows and minimum_requests must be at least 1.")
        if self.latency_quantile not in (0.5, 0.95, 0.99):
            raise SpecificationError(
                f"[canary] latency_quantile must be 0.5, 0.95 or 0.99; got {self.latency_quantile}."
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CanaryPolicy:
        """A policy from a dictionary.

        Raises:
            SpecificationError: A field is unknown, or does not make sense.
        """
        try:
            return cls(**value)
        except TypeError as error:
            raise SpecificationError(
                f"[canary] a policy must have the documented fields; got {error}."
            ) from error


@dataclass(frozen=True)
class CanaryVerdict:
    """What the measures say by now.

    Attributes:
        enough: Whether the sample is large enough to pass.
        failures: What does not hold, in words; one is enough to end the canary at once.
        measured: Figures of both versions, for a manifest.
    """

    enough: bool
    failures: tuple[str, ...]
    measured: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether the canary has answered enough, and well."""
        return self.enough and not self.failures


def judge_canary(report: Mapping[str, Any], version: str, policy: CanaryPolicy) -> CanaryVerdict:
    """Judge a canary by a server's report.

    Args:
        report: What :func:`mxpipe.serve.client.read_split` returned.
        version: The canary's version.
        policy: What it must hold to.

    Example:
        >>> calm = {"requests": 50, "errors": 0, "rows": 500,
        ...         "seconds": {"quantiles": {"0.95": 0.002}}, "predictions": {"mean": 0.2}}
        >>> report = {"version": "3", "versions": {"3": calm, "4": {**calm, "errors": 5}}}
        >>> judge_canary(report, "4", CanaryPolicy()).failures
        ('5 of 55 requests failed by the fault of version 4, at most a share of 0 may',)
        >>> judge_canary(report, "3", CanaryPolicy()).passed
        True
    """
    versions = report["versions"]
    canary, beside = versions.get(version, _NOTHING), versions.get(report["version"], _NOTHING)
    enough = canary["rows"] >= policy.minimum_rows and canary["requests"] >= policy.minimum_requests
    failures = []
    asked = canary["requests"] + canary["errors"]
    if canary["errors"] > policy.max_error_rate * asked:
        failures.append(
            f"{canary['errors']} of {asked} requests failed by the fault of version {version}, "
            f"at most a share of {policy.max_error_rate:g} may"
        )
    if enough:
        failures += _latency_failures(canary, beside, policy)
        failures += _shift_failures(canary, beside, policy)
    measured = {name: _figures(item) for name, item in (("canary", canary), ("beside", beside))}
    return CanaryVerdict(enough, tuple(failures), measured)


_NOTHING: dict[str, Any] = {
    "requests": 0,
    "errors": 0,
    "rows": 0,
    "seconds": {"quantiles": {}},
    "predictions": {"mean": None},
}


def _latency_failures(
    canary: Mapping[str, Any], beside: Mapping[str, Any], policy: CanaryPolicy
) -> list[str]:
    key = f"{policy.latency_quantile:g}"
    ours, theirs = (item["seconds"]["quantiles"].get(key) for item in (canary, beside))
    if ours is None or theirs is None or ours <= policy.latency_floor_seconds:
        return []
    if ours <= policy.max_latency_ratio * theirs:
        return []
    return [
        f"the latency at {key} is {1000 * ours:.1f} ms, at most {policy.max_latency_ratio:g} times the"
        f" {1000 * theirs:.1f} ms beside it may be"
    ]


def _shift_failures(canary: Mapping[str, Any], beside: Mapping[str, Any], policy: CanaryPolicy) -> list[str]:
    ours, theirs = canary["predictions"]["mean"], beside["predictions"]["mean"]
    limit = policy.max_prediction_shift
    if limit is None or ours is None or theirs is None or abs(ours - theirs) <= limit:
        return []
    return [f"the mean prediction is {ours:.4g} beside {theirs:.4g}, at most {limit:g} apart they may be"]


def _figures(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "requests": item["requests"],
        "errors": item["errors"],
        "rows": item["rows"],
        "seconds": item["seconds"]["quantiles"],
        "mean_prediction": item["predictions"]["mean"],
    }
