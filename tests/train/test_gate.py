"""The gate: one verdict for every situation, and reasons that a person can read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mxpipe.errors import DataError, SpecificationError
from mxpipe.train import evaluation
from mxpipe.train.gate import Decision, GateDecision, GatePolicy, decide


def metrics_of(auc, rows=1000, log_loss=0.5, ece=0.02):
    return {"rows": rows, "auc": auc, "log_loss": log_loss, "ece": ece}


def comparison_of(low, high, candidate=0.71, champion=0.70, metric="auc", rows=1000):
    return {
        "metric": metric,
        "candidate": candidate,
        "champion": champion,
        "difference": candidate - champion,
        "low": low,
        "high": high,
        "confidence": 0.95,
        "rows": rows,
    }


@pytest.mark.parametrize(
    ("low", "high", "policy", "decision", "words"),
    [
        (0.001, 0.02, {}, "PROMOTE", "Better beyond chance"),
        (-0.001, 0.02, {}, "HOLD", "so the champion stays"),
        (0.0, 0.0, {}, "HOLD", "so the champion stays"),
        (-0.02, -0.001, {}, "REJECT", "Worse beyond chance"),
        (0.001, 0.02, {"minimum_gain": 0.005}, "HOLD", "No gain above 0.005 beyond chance"),
        (0.006, 0.02, {"minimum_gain": 0.005}, "PROMOTE", "Better beyond chance"),
        (-0.001, 0.02, {"when_undecided": "PROMOTE"}, "PROMOTE", "fresher model is preferred"),
        (-0.02, -0.001, {"when_undecided": "PROMOTE"}, "REJECT", "Worse beyond chance"),
    ],
)
def test_the_interval_decides(low, high, policy, decision, words):
    verdict = decide(metrics_of(0.71), metrics_of(0.70), comparison_of(low, high), policy)
    assert str(verdict.decision) == decision
    assert words in verdict.reasons[0]
    assert "0.7100 against the champion's 0.7000" in verdict.reasons[0]


def test_where_less_is_better_a_gain_is_a_fall():
    losses = {"candidate": 0.49, "champion": 0.50, "metric": "log_loss"}
    better = decide(
        metrics_of(0.7), metrics_of(0.7), comparison_of(-0.02, -0.005, **losses), {"metric": "log_loss"}
    )
    assert better.decision is Decision.PROMOTE
    assert "a gain between +0.0050 and +0.0200 (95% interval)" in better.reasons[0]
    worse = decide(
        metrics_of(0.7), metrics_of(0.7), comparison_of(0.005, 0.02, **losses), {"metric": "log_loss"}
    )
    assert worse.decision is Decision.REJECT


def test_without_a_champion_the_bounds_decide_and_say_so():
    policy = {"at_least": {"auc": 0.6}, "at_most": {"ece": 0.1}}
    verdict = decide(metrics_of(0.65), None, None, policy)
    assert verdict.decision is Decision.PROMOTE
    assert verdict.reasons == ("There is no champion yet: the candidate is judged by the bounds alone.",)
    verdict = decide(metrics_of(0.55, ece=0.2), None, None, policy)
    assert verdict.decision is Decision.REJECT
    assert verdict.reasons[1:] == (
        "auc must be at least 0.6; got 0.5500.",
        "ece must be at most 0.1; got 0.2000.",
    )


def test_a_broken_bound_rejects_whatever_the_gain_and_both_are_told():
    policy = {"at_most": {"ece": 0.01}, "may_worsen": {"log_loss": 0.01}}
    verdict = decide(metrics_of(0.71, log_loss=0.52), metrics_of(0.70), comparison_of(0.001, 0.02), policy)
    assert verdict.decision is Decision.REJECT
    assert [reason.split()[0] for reason in verdict.reasons] == ["ece", "log_loss", "Better"]
    assert "may fall at most 0.01 behind the champion's 0.5000; got 0.5200" in verdict.reasons[1]


def test_falling_behind_knows_its_direction():
    policy = {"metric": "log_loss", "may_worsen": {"auc": 0.005}}
    compared = comparison_of(-0.02, -0.01, metric="log_loss")
    assert decide(metrics_of(0.72), metrics_of(0.70), compared, policy).decision is Decision.PROMOTE
    assert decide(metrics_of(0.69), metrics_of(0.70), compared, policy).decision is Decision.REJECT


def test_an_undefined_metric_breaks_its_bound_and_an_undefined_gain_is_undecided():
    assert decide(metrics_of(None), None, None, {"at_least": {"auc": 0.5}}).decision is Decision.REJECT
    verdict = decide(metrics_of(0.7), metrics_of(0.7), comparison_of(None, None))
    assert verdict.decision is Decision.HOLD


def test_too_few_rows_give_no_verdict():
    few = metrics_of(0.9, rows=10)
    assert decide(few, None, None).decision is Decision.HOLD
    verdict = decide(few, few, comparison_of(0.1, 0.2, rows=10))
    assert (verdict.decision, verdict.reasons) == (
        Decision.HOLD,
        ("Too few rows for a verdict: 10 of at least 500.",),
    )


def test_the_champion_is_not_promoted_over_itself():
    same = {"candidate_digest": "a1", "champion_digest": "a1"}
    verdict = decide(metrics_of(0.7), metrics_of(0.7), None, **same)
    assert verdict.decision is Decision.HOLD
    assert "champion itself" in verdict.reasons[0]


def test_models_on_different_rows_are_not_compared():
    with pytest.raises(DataError, match="same rows; got 1000, 900"):
        decide(metrics_of(0.7), metrics_of(0.7, rows=900), comparison_of(0, 1))
    with pytest.raises(DataError, match="in the comparison"):
        decide(metrics_of(0.7), metrics_of(0.7), comparison_of(0, 1, rows=900))
    with pytest.raises(DataError, match="two digests"):
        decide(
            metrics_of(0.7) | {"labels_digest": "a"},
            metrics_of(0.7) | {"labels_digest": "b"},
            comparison_of(0, 1),
        )


def test_what_does_not_fit_is_told():
    with pytest.raises(SpecificationError, match="comparison must be given"):
        decide(metrics_of(0.7), metrics_of(0.7), None)
    with pytest.raises(SpecificationError, match="comparison must be of auc; got 'brier'"):
        decide(metrics_of(0.7), metrics_of(0.7), comparison_of(0, 1, metric="brier"))
    with pytest.raises(DataError, match="f1 must be among the metrics"):
        decide(metrics_of(0.7), None, None, {"at_least": {"f1": 0.5}})
    for policy, message in [
        ({"metrics": "auc"}, "known fields; got 'metrics'"),
        ({"metric": "f1"}, "metric must be one of"),
        ({"when_undecided": "REJECT"}, "HOLD or PROMOTE"),
        ({"minimum_gain": -1.0}, "at least 0"),
        ({"may_worsen": {"ece": -1.0}}, r"may_worsen\.ece"),
        ({"minimum_gain": "much"}, "documented types"),
        ({"may_worsen": ["ece"]}, "documented types"),
    ]:
        with pytest.raises(SpecificationError, match=message):
            decide(metrics_of(0.7), None, None, policy)


def test_policy_and_decision_travel_as_json():
    policy = GatePolicy(minimum_gain=0.001, at_least={"auc": 0.6}, may_worsen={"ece": 0.02})
    assert GatePolicy.from_json(json.loads(json.dumps(policy.to_json()))) == policy
    verdict = GateDecision(Decision.HOLD, ("because",))
    assert json.loads(json.dumps(verdict.to_json())) == {"decision": "HOLD", "reasons": ["because"]}


def test_real_evaluations_fit_the_gate_as_objects_and_as_json():
    random = np.random.default_rng(0)
    signal = random.normal(size=4000)
    labels = (random.random(4000) < 1 / (1 + np.exp(-signal))).astype(int)
    good = 1 / (1 + np.exp(-signal))
    poor = 1 / (1 + np.exp(-(signal + 2 * random.normal(size=4000))))
    candidate, champion = (evaluation.evaluate(labels, scores) for scores in (good, poor))
    compared = evaluation.paired_bootstrap(labels, good, poor, samples=200)
    first = decide(candidate.metrics, champion.metrics, compared)
    as_json = [json.loads(json.dumps(item.to_json())) for item in (candidate, champion, compared)]
    assert first == decide(as_json[0]["metrics"], as_json[1]["metrics"], as_json[2])
    assert first.decision is Decision.PROMOTE
