"""A canary that fails is answered for; what is measured of it decides whether it passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mxpipe.errors import RequestError, SpecificationError
from mxpipe.model import model_digest
from mxpipe.serve.canary import CanaryPolicy, judge_canary
from mxpipe.serve.router import Router
from mxpipe.serve.slot import ModelSlot
from mxpipe.serve.sources import FolderSource
from mxpipe.serve.split import Split

COLUMNS = {"distance": np.array([500.0, 900.0]), "hour": np.array([8, 17]), "carrier": ["UA", "DL"]}


@pytest.fixture
def router(trained_models: Any) -> Router:
    """All rows go to the second model."""
    slot = ModelSlot(FolderSource(trained_models.first, "late", [trained_models.second]))
    slot.refresh()
    router = Router(slot)
    router.change(Split(model_digest(trained_models.second)[:12], 1.0))
    return router


def crash(_: Any) -> Any:
    raise RuntimeError("a bug of this version")


def not_finite(_: Any) -> Any:
    return np.array([0.5, np.nan], np.float32)


@pytest.mark.parametrize("fault", [crash, not_finite])
def test_a_canary_that_fails_is_counted_and_answered_for(
    router: Router, monkeypatch: Any, fault: Any
) -> None:
    primary, canary = router.slot.current, router._routes.canary
    assert primary is not None
    assert canary is not None
    predictions, version = router.predict(primary, COLUMNS)
    assert version == canary.version
    monkeypatch.setattr(canary.model, "predict", fault)
    predictions, version = router.predict(primary, COLUMNS)
    assert version == primary.version
    assert predictions.tolist() == primary.model.predict(COLUMNS).tolist()
    report = router.report()
    assert report["versions"][canary.version]["errors"] == 1
    verdict = judge_canary(report, canary.version, CanaryPolicy())
    assert not verdict.passed
    assert "failed by the fault of version" in verdict.failures[0]


def test_a_clients_fault_is_no_fault_of_a_version(router: Router) -> None:
    primary = router.slot.current
    assert primary is not None
    with pytest.raises(RequestError):
        router.predict(primary, {"distance": np.array([1.0])})
    assert all(item["errors"] == 0 for item in router.report()["versions"].values())


def figures(rows: int = 500, seconds: float = 0.002, mean: float = 0.2) -> dict[str, Any]:
    return {
        "requests": rows // 5,
        "errors": 0,
        "rows": rows,
        "seconds": {"quantiles": {"0.5": seconds / 2, "0.95": seconds, "0.99": seconds}},
        "predictions": {"mean": mean},
    }


@pytest.mark.parametrize(
    ("canary", "policy", "passed", "reason"),
    [
        (figures(), {}, True, None),
        (figures(rows=100), {}, False, None),
        (figures(seconds=0.004), {}, True, None),  # twice of little is little
        (figures(seconds=0.05), {}, False, "latency at 0.95 is 50.0 ms"),
        (figures(seconds=0.05), {"max_latency_ratio": 30.0}, True, None),
        (figures(mean=0.4), {}, True, None),
        (figures(mean=0.4), {"max_prediction_shift": 0.1}, False, "mean prediction is 0.4 beside 0.2"),
    ],
)
def test_a_canary_is_judged_beside_the_other_version(
    canary: dict[str, Any], policy: dict[str, Any], passed: bool, reason: str | None
) -> None:
    report = {"version": "3", "versions": {"3": figures(), "4": canary}}
    verdict = judge_canary(report, "4", CanaryPolicy.from_json(policy))
    assert verdict.passed is passed
    assert (reason is None) is (verdict.failures == ())
    assert reason is None or reason in verdict.failures[0]
    assert judge_canary({"version": "3", "versions": {}}, "4", CanaryPolicy()).enough is False


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    for bad in ({"rows": 5}, {"minimum_rows": 0}, {"latency_quantile": 0.7}):
        with pytest.raises(SpecificationError):
            CanaryPolicy.from_json(bad)
