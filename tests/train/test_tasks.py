"""Classes and numbers against scikit-learn, their comparison, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics

from mxpipe.errors import DataError, SpecificationError
from mxpipe.train.bootstrap import paired_bootstrap
from mxpipe.train.gate import Decision, decide
from mxpipe.train.tasks import evaluate_classes, evaluate_regression, evaluate_task


@pytest.fixture
def classes():
    random = np.random.default_rng(1)
    probabilities = random.dirichlet([0.5, 1.0, 2.0], 3000)
    labels = np.array([random.choice(3, p=row) for row in probabilities])
    return labels, probabilities


@pytest.fixture
def numbers():
    random = np.random.default_rng(2)
    truth = random.gamma(2.0, 3.0, 2000)
    return truth, truth + random.normal(0.3, 1.0, 2000), np.roll(truth, 1)


def test_classes_agree_with_scikit_learn(classes):
    labels, probabilities = classes
    result = evaluate_classes(labels, probabilities, {"third": np.arange(3000) % 3})
    best = probabilities.argmax(axis=1)
    assert result.metrics["accuracy"] == pytest.approx(metrics.accuracy_score(labels, best), abs=1e-12)
    # scikit-learn gives every row's probabilities the sum 1 first; these have it.
    assert result.metrics["log_loss"] == pytest.approx(metrics.log_loss(labels, probabilities), rel=1e-6)
    truth = np.eye(3)[labels]
    brier = np.square(probabilities - truth).sum(axis=1).mean()
    assert result.metrics["brier"] == pytest.approx(brier, abs=1e-12)
    assert np.array_equal(result.confusion, metrics.confusion_matrix(labels, best))
    third = result.slices["third"]
    assert [item["rows"] for item in third] == [1000, 1000, 1000]
    assert np.mean([item["accuracy"] for item in third]) == pytest.approx(result.metrics["accuracy"])
    json.dumps(result.to_json(), allow_nan=False)


def test_numbers_agree_with_scikit_learn(numbers):
    truth, values, before = numbers
    found = evaluate_regression(truth, values, baseline=before).metrics
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truth, values), rel=1e-12)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, values), rel=1e-12)
    assert found["r2"] == pytest.approx(metrics.r2_score(truth, values), rel=1e-12)
    assert found["bias"] == pytest.approx(np.mean(values - truth))
    baseline = metrics.mean_absolute_error(truth, before)
    assert found["skill"] == pytest.approx(1 - found["mae"] / baseline)


def test_a_constant_truth_has_no_r2_and_json_says_null():
    value = evaluate_regression([2.0, 2.0], [2.0, 2.5]).to_json()
    assert value["metrics"]["r2"] is None
    assert "confusion" not in value


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "brier"])
def test_a_sharper_classifier_is_promoted(classes, metric):
    labels, probabilities = classes
    dull = 0.5 * probabilities + 0.5 / 3 if metric != "accuracy" else np.roll(probabilities, 1, axis=1)
    scores = [evaluate_classes(labels, p).to_json()["metrics"] for p in (probabilities, dull)]
    comparison = paired_bootstrap(labels, probabilities, dull, metric, samples=200)
    assert comparison.candidate == pytest.approx(scores[0][metric])
    assert decide(*scores, comparison, {"metric": metric}).decision is Decision.PROMOTE
    comparison = paired_bootstrap(labels, dull, probabilities, metric, samples=200)
    assert decide(*reversed(scores), comparison, {"metric": metric}).decision is Decision.REJECT


@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_a_closer_forecast_is_promoted_and_the_same_seed_gives_the_same_interval(numbers, metric):
    truth, values, before = numbers
    comparison = paired_bootstrap(truth, values, before, metric, samples=200, seed=3)
    assert comparison == paired_bootstrap(truth, values, before, metric, samples=200, seed=3)
    assert comparison.high < 0
    scores = [evaluate_regression(truth, p).to_json()["metrics"] for p in (values, before)]
    assert decide(*scores, comparison, {"metric": metric}).decision is Decision.PROMOTE


def test_the_bootstrap_of_the_root_is_not_the_root_of_the_mean(numbers):
    truth, values, before = numbers
    comparison = paired_bootstrap(truth, values, before, "rmse", samples=400)
    assert comparison.low < comparison.difference < comparison.high
    expected = metrics.root_mean_squared_error(truth, values) - metrics.root_mean_squared_error(truth, before)
    assert comparison.difference == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluate_classes([0, 3], [[0.5, 0.5]] * 2), r"classes from 0 to 1; got 3\.0"),
        (lambda: evaluate_classes([0, 0.5], [[0.5, 0.5]] * 2), r"classes from 0 to 1; got 0\.5"),
        (lambda: evaluate_classes([0, 1], [[0.5, 1.5]] * 2), r"\[0, 1\]; got 1\.5"),
        (lambda: evaluate_classes([0], [[0.5, 0.5]] * 2), r"shapes \(1,\) and \(2, 2\)"),
        (lambda: evaluate_regression([1.0, np.nan], [1.0, 2.0]), "labels must be finite; got nan"),
        (lambda: evaluate_regression([], []), "not empty"),
        (lambda: evaluate_regression([1.0], [1.0], {"hour": [1, 2]}), "slice 'hour' must have 1 values"),
    ],
)
def test_bad_data_is_told(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_bad_tasks_are_told():
    with pytest.raises(SpecificationError, match=r"\['binary', 'classes', 'regression'\]; got 'ranking'"):
        evaluate_task("ranking", [1], [1])
    with pytest.raises(SpecificationError, match="must come with regression; got task 'binary'"):
        evaluate_task("binary", [1], [1.0], baseline=[1.0])


def test_a_task_gives_what_its_own_function_gives(classes):
    assert evaluate_task("classes", *classes).metrics == evaluate_classes(*classes).metrics
    assert evaluate_task("binary", [0, 1], [0.2, 0.7]).metrics["auc"] == 1.0
