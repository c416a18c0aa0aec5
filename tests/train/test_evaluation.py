"""Metrics against scikit-learn, and the bootstrap against what it promises."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import calibration, metrics

from mxpipe.errors import DataError, SpecificationError
from mxpipe.train import bootstrap, evaluation

ROWS = 2000


def make_rows(seed, rows=ROWS, decimals=None):
    """Labels drawn from known probabilities, and those probabilities."""
    random = np.random.default_rng(seed)
    probabilities = random.beta(1.0, 3.0, rows)
    labels = (random.random(rows) < probabilities).astype(np.int64)
    if decimals is not None:
        probabilities = probabilities.round(decimals)
    return labels, probabilities


@pytest.mark.parametrize("decimals", [None, 2, 1, 0], ids=["distinct", "ties", "many ties", "two values"])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_agree_with_scikit_learn(seed, decimals):
    labels, probabilities = make_rows(seed, decimals=decimals)
    assert evaluation.auc(labels, probabilities) == pytest.approx(
        metrics.roc_auc_score(labels, probabilities), abs=1e-12
    )
    assert evaluation.brier(labels, probabilities) == pytest.approx(
        metrics.brier_score_loss(labels, probabilities), abs=1e-12
    )
    # scikit-learn keeps float32 probabilities as far from 0 and 1 as we do.
    assert evaluation.log_loss(labels, probabilities) == pytest.approx(
        metrics.log_loss(labels, probabilities.astype(np.float32)), rel=1e-6
    )


def test_auc_takes_any_scores_and_is_invariant_to_rising_maps():
    labels, probabilities = make_rows(0)
    logits = np.log(probabilities / (1 - probabilities)) * 100
    assert evaluation.auc(labels, logits) == evaluation.auc(labels, probabilities)
    assert evaluation.auc(labels, -logits) == pytest.approx(1 - evaluation.auc(labels, probabilities))


def test_auc_of_constant_scores_is_a_half_and_of_one_class_is_not_defined():
    assert evaluation.auc([0, 1, 1], [0.3, 0.3, 0.3]) == 0.5
    assert np.isnan(evaluation.auc([1, 1], [0.1, 0.2]))
    assert evaluation.evaluate([1, 1], [0.1, 0.2]).to_json()["metrics"]["auc"] is None


def test_log_loss_of_certain_mistakes_is_finite():
    assert evaluation.log_loss([1, 0], [0.0, 1.0]) == pytest.approx(15.94, abs=0.01)
    assert evaluation.log_loss([1, 0], [1.0, 0.0]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
def test_calibration_agrees_with_scikit_learn(strategy):
    labels, probabilities = make_rows(1)
    table = evaluation.calibration_table(labels, probabilities, bins=8, strategy=strategy)
    rate, probability = calibration.calibration_curve(labels, probabilities, n_bins=8, strategy=strategy)
    assert [item.rate for item in table.bins] == pytest.approx(rate)
    assert [item.probability for item in table.bins] == pytest.approx(probability)
    assert sum(item.rows for item in table.bins) == ROWS
    assert all(item.low <= item.rate <= item.high for item in table.bins)


def test_calibration_error_sees_what_is_calibrated():
    labels, probabilities = make_rows(2, rows=50_000)
    assert evaluation.expected_calibration_error(labels, probabilities) < 0.01
    assert evaluation.expected_calibration_error(labels, probabilities**2) > 0.05


def test_equal_probabilities_share_a_bin():
    table = evaluation.calibration_table([0, 1] * 50, [0.2] * 100, bins=10)
    assert [(item.rows, item.rate) for item in table.bins] == [(100, 0.5)]
    assert table.error == pytest.approx(0.3)


def test_wilson_interval_covers_as_often_as_it_says():
    random = np.random.default_rng(0)
    counts = random.binomial(40, 0.1, size=20_000)
    low, high = evaluation.wilson_interval(counts, np.full(counts.shape, 40))
    assert np.mean((low <= 0.1) & (high >= 0.1)) == pytest.approx(0.95, abs=0.02)


def test_slices_partition_the_rows_and_agree_with_the_whole():
    labels, probabilities = make_rows(3)
    origin = np.asarray(["EWR", "JFK", "LGA", "JFK"])[np.arange(ROWS) % 4]
    whole = evaluation.evaluate(labels, probabilities, {"origin": origin})
    slices = whole.slices["origin"]
    assert [item.value for item in slices] == ["JFK", "EWR", "LGA"]
    assert sum(item.rows for item in slices) == whole.metrics["rows"] == ROWS
    losses = sum(item.rows * item.log_loss for item in slices) / ROWS
    assert losses == pytest.approx(whole.metrics["log_loss"])
    inside = origin == "EWR"
    assert slices[1].auc == pytest.approx(metrics.roc_auc_score(labels[inside], probabilities[inside]))


def test_small_slices_are_left_out_and_one_class_has_no_auc():
    labels, probabilities = [0] * 5 + [1], [0.1] * 6
    column = ["A"] * 5 + ["B"]
    assert [item.value for item in evaluation.slice_metrics(labels, probabilities, column, 2)] == ["A"]
    assert np.isnan(evaluation.slice_metrics(labels, probabilities, column)[0].auc)


def test_an_evaluation_is_json_without_nan():
    labels, probabilities = make_rows(4, rows=200)
    value = evaluation.evaluate(labels, probabilities, {"all": np.zeros(200)}).to_json()
    text = json.dumps(value, allow_nan=False)
    assert json.loads(text)["metrics"]["rows"] == 200
    one_class = evaluation.evaluate([0] * 200, probabilities, {"all": np.zeros(200)}).to_json()
    assert json.loads(json.dumps(one_class, allow_nan=False))["slices"]["all"][0]["auc"] is None


def test_the_digest_names_the_rows():
    labels, probabilities = make_rows(5)
    first = evaluation.evaluate(labels, probabilities)
    assert first.labels_digest == evaluation.evaluate(labels.astype(bool), probabilities**2).labels_digest
    assert first.labels_digest != evaluation.evaluate(labels[::-1], probabilities).labels_digest


# ----------------------------------------------------------------------------------------------- bootstrap


def make_models(seed, rows=ROWS, gap=0.5):
    """Labels and two models' probabilities; the second is noisier by the gap."""
    random = np.random.default_rng(seed)
    signal = random.normal(size=rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-signal))).astype(np.int64)
    noise = random.normal(size=(2, rows))
    candidate = 1 / (1 + np.exp(-(signal + noise[0])))
    champion = 1 / (1 + np.exp(-(signal + (1 + gap) * noise[1])))
    return labels, candidate, champion


@pytest.mark.parametrize("metric", evaluation.IS_MORE_BETTER)
def test_bootstrap_agrees_with_a_plain_loop(metric, monkeypatch):
    labels, candidate, champion = make_models(0, rows=60)
    candidate = candidate.round(1)  # with ties
    monkeypatch.setattr(bootstrap, "_PAIRS_AT_ONCE", 60 * 7)  # several blocks, the last one shorter
    result = evaluation.paired_bootstrap(labels, candidate, champion, metric, samples=50, seed=3)
    random = np.random.default_rng(3)
    differences = []
    for count in [7] * 7 + [1]:
        for rows in random.integers(0, 60, size=(count, 60)):
            value = [evaluation.metric_value(metric, labels[rows], s[rows]) for s in (candidate, champion)]
            differences.append(value[0] - value[1])
    assert [result.low, result.high] == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=1e-12)


def test_bootstrap_is_a_function_of_its_seed():
    labels, candidate, champion = make_models(1)
    first = evaluation.paired_bootstrap(labels, candidate, champion, samples=200, seed=1)
    assert first == evaluation.paired_bootstrap(labels, candidate, champion, samples=200, seed=1)
    assert first.low != evaluation.paired_bootstrap(labels, candidate, champion, samples=200, seed=2).low


def test_bootstrap_tells_better_from_worse_in_every_metric():
    labels, good, poor = make_models(2, gap=3.0)
    for metric, is_more_better in evaluation.IS_MORE_BETTER.items():
        result = evaluation.paired_bootstrap(labels, good, poor, metric, samples=200)
        assert result.better == 1.0
        assert (result.low > 0) == is_more_better
        mirrored = evaluation.paired_bootstrap(labels, poor, good, metric, samples=200)
        assert mirrored.better == 0.0
        assert (mirrored.low, mirrored.high) == pytest.approx((-result.high, -result.low))


def test_a_model_against_itself_differs_by_exactly_nothing():
    labels, candidate, _ = make_models(3)
    result = evaluation.paired_bootstrap(labels, candidate, candidate, samples=100)
    assert (result.difference, result.low, result.high, result.better) == (0.0, 0.0, 0.0, 0.5)


def test_the_interval_of_models_that_are_equally_good_holds_zero_as_often_as_it_says():
    held = 0
    for seed in range(200):
        labels, candidate, champion = make_models(seed, rows=300, gap=0.0)
        result = evaluation.paired_bootstrap(labels, candidate, champion, samples=200, seed=seed)
        held += result.low <= 0 <= result.high
    assert 0.90 <= held / 200 <= 0.99


def test_pairing_makes_the_interval_narrow():
    labels, candidate, _ = make_models(4)
    similar = np.clip(candidate + np.random.default_rng(0).normal(scale=0.01, size=ROWS), 0, 1)
    paired = evaluation.paired_bootstrap(labels, candidate, similar, samples=300)
    alone = evaluation.bootstrap_interval(labels, candidate, samples=300)
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)


def test_groups_that_share_their_luck_widen_the_interval():
    labels, candidate, champion = make_models(5, rows=100)
    repeated = [np.repeat(values, 20) for values in (labels, candidate, champion)]
    groups = np.repeat(np.arange(100), 20)
    naive = evaluation.paired_bootstrap(*repeated, samples=500)
    honest = evaluation.paired_bootstrap(*repeated, samples=500, groups=groups)
    once = evaluation.paired_bootstrap(labels, candidate, champion, samples=500)
    assert (naive.groups, honest.groups) == (2000, 100)
    assert honest.high - honest.low > 3 * (naive.high - naive.low)
    assert honest.high - honest.low == pytest.approx(once.high - once.low, rel=1e-6)


# -------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.5], "one length"),
        ([], [], "there must be rows"),
        ([0, 2], [0.5, 0.5], r"0 or 1; got 2\.0"),
        ([0, np.nan], [0.5, 0.5], "0 or 1; got nan"),
        ([0, 1], [0.5, np.nan], "finite; got nan"),
        ([0, 1], [0.5, 1.5], r"\[0, 1\]; got 1\.5"),
    ],
)
def test_bad_data_is_told(labels, scores, message):
    with pytest.raises(DataError, match=message):
        evaluation.evaluate(labels, scores)


def test_bad_arguments_are_told():
    rows = [0, 1], [0.1, 0.2]
    with pytest.raises(
        SpecificationError, match="one of auc, log_loss, brier, accuracy, mae, rmse; got 'f1'"
    ):
        evaluation.bootstrap_interval(*rows, metric="f1")
    with pytest.raises(SpecificationError, match="samples must be positive"):
        evaluation.bootstrap_interval(*rows, samples=0)
    with pytest.raises(SpecificationError, match="strategy"):
        evaluation.calibration_table(*rows, strategy="best")
    with pytest.raises(DataError, match="groups must have 2 values"):
        evaluation.bootstrap_interval(*rows, groups=[1])
    with pytest.raises(DataError, match="both classes"):
        evaluation.paired_bootstrap([1, 1], rows[1], rows[1])
    with pytest.raises(DataError, match="a slice must have 2 values"):
        evaluation.slice_metrics(*rows, column=["a"])
