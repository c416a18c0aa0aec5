"""Does a candidate take the champion's place? A pure function of their metrics and a policy.

Enters: metrics of both on the same rows and their paired comparison. Leaves: PROMOTE, HOLD or REJECT, with
the reasons in words. The same inputs give the same decision, so a repeated stage decides as before.

::

    too few rows             HOLD
    a bound is broken        REJECT
    no champion yet          PROMOTE     bootstrap mode: the bounds alone decide, and the reasons say so
    worse beyond chance      REJECT      the whole interval of the gain lies below zero
    better beyond chance     PROMOTE     the whole interval lies above `minimum_gain`
    neither                  `when_undecided`: HOLD keeps the champion, PROMOTE prefers the fresher model
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mxpipe.errors import DataError, SpecificationError
from mxpipe.train.bootstrap import Comparison
from mxpipe.train.metrics import IS_MORE_BETTER


class Decision(StrEnum):
    """What becomes of a candidate."""

    PROMOTE = "PROMOTE"
    HOLD = "HOLD"
    REJECT = "REJECT"


@dataclass(frozen=True)
class GatePolicy:
    """When a candidate is promoted.

    Attributes:
        metric: What the models are compared by, as in :mod:`mxpipe.train.metrics`; the comparison's too.
        minimum_gain: The gain over the champion must lie above this beyond chance, in the metric's unit.
        when_undecided: "HOLD" or "PROMOTE", where the interval of the gain holds `minimum_gain`.
        minimum_rows: With fewer rows nothing is promoted.
        at_least: Bounds for the candidate alone: metrics that must not be below.
        at_most: Bounds for the candidate alone: metrics that must not be above.
        may_worsen: How far further metrics may fall behind the champion's, e.g. ``{"log_loss": 0.01}``.

    Raises:
        SpecificationError: A value is out of range.

    Example:
        >>> GatePolicy.from_json({"at_least": {"auc": 0.6}}).at_least
        {'auc': 0.6}
    """

    metric: str = "auc"
    minimum_gain: float = 0.0
    when_undecided: str = "HOLD"
    minimum_rows: int = 500
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    may_worsen: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.metric not in IS_MORE_BETTER:
            raise SpecificationError(
                f"[gate] metric must be one of {', '.join(IS_MORE_BETTER)}; got {self.metric!r}."
            )
        if self.when_undecided not in (Decision.HOLD, Decision.PROMOTE):
            raise SpecificationError(
                f"[gate] when_undecided must be HOLD or PROMOTE; got {self.when_undecided!r}."
            )
        if not self.minimum_gain >= 0:
            raise SpecificationError(f"[gate] minimum_gain must be at least 0; got {self.minimum_gain}.")
        for name, margin in self.may_worsen.items():
            if not margin >= 0:
                raise SpecificationError(f"[gate] may_worsen.{name} must be at least 0; got {margin}.")

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> GatePolicy:
        """A policy from a dictionary, as ``to_json`` wrote it or as a person did.

        Raises:
            SpecificationError: A field is unknown or out of range.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        for name in value:
            if name not in known:
                raise SpecificationError(f"[gate] a policy must have known fields; got {name!r}.")
        try:
            return cls(**value)
        except (TypeError, AttributeError) as error:
            raise SpecificationError(
                f"[gate] a policy must have the documented types; got {error}."
            ) from error


@dataclass(frozen=True)
class GateDecision:
    """The verdict.

    Attributes:
        decision: PROMOTE, HOLD or REJECT.
        reasons: Why, in sentences; never empty.
    """

    decision: Decision
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary."""
        return {"decision": str(self.decision), "reasons": list(self.reasons)}


def decide(
    candidate: Mapping[str, Any],
    champion: Mapping[str, Any] | None,
    comparison: Comparison | Mapping[str, Any] | None,
    policy: GatePolicy | Mapping[str, Any] | None = None,
    *,
    candidate_digest: str | None = None,
    champion_digest: str | None = None,
) -> GateDecision:
    """Decide whether the candidate takes the champion's place.

    Args:
        candidate: Metrics of the candidate, as :func:`~mxpipe.train.evaluation.evaluate` gives them.
        champion: Metrics of the champion on the same rows; None where there is no champion yet.
        comparison: Their paired bootstrap; None only without a champion.
        policy: What is asked of a candidate.
        candidate_digest: Digest of the candidate's model, if known.
        champion_digest: Digest of the champion's model. Equal digests are one model: there is nothing to do.

    Raises:
        SpecificationError: The policy does not fit, or the comparison is missing or of another metric.
        DataError: The two were not measured on the same rows, or a metric is missing.

    Example:
        >>> print(*decide({"rows": 900, "auc": 0.7}, None, None).reasons)
        There is no champion yet: the candidate is judged by the bounds alone.
    """
    given = policy if isinstance(policy, GatePolicy) else GatePolicy.from_json(policy or {})
    if champion is not None and candidate_digest is not None and candidate_digest == champion_digest:
        return GateDecision(Decision.HOLD, ("The candidate is the champion itself: nothing to promote.",))
    rows = _number(candidate, "rows")
    if rows < given.minimum_rows:
        sentence = f"Too few rows for a verdict: {rows:g} of at least {given.minimum_rows}."
        return GateDecision(Decision.HOLD, (sentence,))
    broken = _broken_bounds(candidate, given)
    if champion is None:
        reasons = ("There is no champion yet: the candidate is judged by the bounds alone.", *broken)
        return GateDecision(Decision.REJECT if broken else Decision.PROMOTE, reasons)
    if comparison is None:
        raise SpecificationError("[gate] a comparison must be given where there is a champion; got None.")
    values = comparison.to_json() if isinstance(comparison, Comparison) else comparison
    _require_same_rows(candidate, champion, values, given)
    broken += _fallen_behind(candidate, champion, given)
    verdict, sentence = _verdict_of(values, given)
    if broken:
        return GateDecision(Decision.REJECT, (*broken, sentence))
    return GateDecision(verdict, (sentence,))


def _verdict_of(comparison: Mapping[str, Any], policy: GatePolicy) -> tuple[Decision, str]:
    """The verdict of the comparison alone, and the sentence that tells it."""
    metric = policy.metric
    low, high = _number(comparison, "low"), _number(comparison, "high")
    if not IS_MORE_BETTER[metric]:
        low, high = -high, -low
    told = (
        f"{metric} {_number(comparison, 'candidate'):.4f} against the champion's "
        f"{_number(comparison, 'champion'):.4f}, a gain between {low:+.4f} and {high:+.4f} "
        f"({_number(comparison, 'confidence'):.0%} interval)"
    )
    if low > policy.minimum_gain:
        return Decision.PROMOTE, f"Better beyond chance: {told}."
    if high < 0:
        return Decision.REJECT, f"Worse beyond chance: {told}."
    wanted = f"gain above {policy.minimum_gain:g}" if policy.minimum_gain else "gain"
    if policy.when_undecided == Decision.PROMOTE:
        return Decision.PROMOTE, f"No {wanted} beyond chance, and the fresher model is preferred: {told}."
    return Decision.HOLD, f"No {wanted} beyond chance, so the champion stays: {told}."


def _broken_bounds(candidate: Mapping[str, Any], policy: GatePolicy) -> tuple[str, ...]:
    broken = []
    for name, bound in policy.at_least.items():
        if not _number(candidate, name) >= bound:
            broken.append(f"{name} must be at least {bound:g}; got {_number(candidate, name):.4f}.")
    for name, bound in policy.at_most.items():
        if not _number(candidate, name) <= bound:
            broken.append(f"{name} must be at most {bound:g}; got {_number(candidate, name):.4f}.")
    return tuple(broken)


def _fallen_behind(
    candidate: Mapping[str, Any], champion: Mapping[str, Any], policy: GatePolicy
) -> tuple[str, ...]:
    behind = []
    for name, margin in policy.may_worsen.items():
        ours, theirs = _number(candidate, name), _number(champion, name)
        loss = theirs - ours if IS_MORE_BETTER.get(name, False) else ours - theirs
        if not loss <= margin:
            behind.append(
                f"{name} may fall at most {margin:g} behind the champion's {theirs:.4f}; got {ours:.4f}."
            )
    return tuple(behind)


def _require_same_rows(
    candidate: Mapping[str, Any],
    champion: Mapping[str, Any],
    comparison: Mapping[str, Any],
    policy: GatePolicy,
) -> None:
    if comparison.get("metric") != policy.metric:
        raise SpecificationError(
            f"[gate] the comparison must be of {policy.metric}; got {comparison.get('metric')!r}."
        )
    rows = [_number(part, "rows") for part in (candidate, champion, comparison)]
    if len(set(rows)) > 1:
        raise DataError(
            f"[gate] candidate and champion must be measured on the same rows; got {rows[0]:g}, {rows[1]:g} "
            f"and {rows[2]:g} in the comparison."
        )
    digests = {part["labels_digest"] for part in (candidate, champion) if part.get("labels_digest")}
    if len(digests) > 1:
        raise DataError(
            "[gate] candidate and champion must be measured on the same rows; got two digests of labels."
        )


def _number(metrics: Mapping[str, Any], name: str) -> float:
    value = metrics.get(name)
    if name not in metrics or isinstance(value, bool) or not isinstance(value, int | float | None):
        raise DataError(f"[gate] {name} must be among the metrics as a number; got {value!r}.")
    return math.nan if value is None else float(value)
