"""Metrics against scikit-learn, in one batch and in many."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics

import mxpipe as mx
from mxpipe.errors import OperatorError, SpecificationError
from mxpipe.gluon import metric as metrics

RANDOM = np.random.default_rng(0)
ROWS = 2000
LABELS = RANDOM.integers(0, 2, ROWS)
SCORES = np.round(1 / (1 + np.exp(-(LABELS + RANDOM.standard_normal(ROWS)))), 2)  # rounded: many ties
CLASSES = RANDOM.integers(0, 5, ROWS)
TABLE = RANDOM.dirichlet(np.ones(5), ROWS)
NUMBERS = RANDOM.standard_normal(ROWS)

CASES = {
    "auc": (metrics.AUC(), LABELS, SCORES, sklearn.metrics.roc_auc_score(LABELS, SCORES)),
    "log loss": (metrics.LogLoss(), LABELS, SCORES.clip(0.01, 0.99),
                 sklearn.metrics.log_loss(LABELS, SCORES.clip(0.01, 0.99))),
    "log loss from logits": (metrics.LogLoss(from_logits=True), LABELS, NUMBERS,
                             sklearn.metrics.log_loss(LABELS, 1 / (1 + np.exp(-NUMBERS)))),
    "accuracy": (metrics.Accuracy(), CLASSES, TABLE,
                 sklearn.metrics.accuracy_score(CLASSES, TABLE.argmax(axis=1))),
    "binary accuracy": (metrics.BinaryAccuracy(), LABELS, SCORES,
                        sklearn.metrics.accuracy_score(LABELS, SCORES > 0.5)),
    "f1": (metrics.F1(), LABELS, SCORES, sklearn.metrics.f1_score(LABELS, SCORES > 0.5)),
    "top k": (metrics.TopKAccuracy(2), CLASSES, TABLE,
              sklearn.metrics.top_k_accuracy_score(CLASSES, TABLE, k=2)),
    "cross-entropy": (metrics.CrossEntropy(), CLASSES, TABLE, sklearn.metrics.log_loss(CLASSES, TABLE)),
    "mae": (metrics.MAE(), NUMBERS, SCORES, sklearn.metrics.mean_absolute_error(NUMBERS, SCORES)),
    "mse": (metrics.MSE(), NUMBERS, SCORES, sklearn.metrics.mean_squared_error(NUMBERS, SCORES)),
    "rmse": (metrics.RMSE(), NUMBERS, SCORES, sklearn.metrics.root_mean_squared_error(NUMBERS, SCORES)),
    "loss": (metrics.Loss(), LABELS, NUMBERS, NUMBERS.mean()),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batches", [1, 7])
def test_against_scikit_learn(name, batches):
    metric, labels, preds, expected = CASES[name]
    metric.reset()
    assert metric.get()[1] == 0 or math.isnan(metric.get()[1])
    for label, pred in zip(np.array_split(labels, batches), np.array_split(preds, batches), strict=True):
        metric.update(mx.np.array(label), mx.np.array(pred, dtype="float64"))
    assert metric.get()[1] == pytest.approx(expected, rel=1e-9)


def test_auc_is_exact_whatever_the_batches():
    values = set()
    for batches in (1, 3, ROWS):
        metric = metrics.AUC()
        for label, pred in zip(np.array_split(LABELS, batches), np.array_split(SCORES, batches), strict=True):
            metric.update(label, pred)
            if batches == 3:
                metric.get()
        values.add(metric.get()[1])
    assert len(values) == 1


def test_auc_memory_grows_with_distinct_scores_only():
    metric = metrics.AUC()
    for _ in range(100):
        metric.update(LABELS, SCORES)
    assert metric._waiting_size <= 1 << 16
    assert metric._scores.size <= 101


def test_auc_of_one_class_is_nan_and_bad_input_raises():
    metric = metrics.AUC()
    metric.update([np.ones(3)], [np.arange(3)])
    assert math.isnan(metric.get()[1])
    with pytest.raises(OperatorError, match="0 or 1"):
        metric.update(np.array([0.5]), np.array([1.0]))
    with pytest.raises(OperatorError, match="nan"):
        metric.update(np.array([1.0]), np.array([np.nan]))
    with pytest.raises(OperatorError, match="as many"):
        metric.update(np.ones(2), np.ones(3))


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_accuracy_of_one_score_a_sample_is_refused(shape):
    with pytest.raises(OperatorError, match="BinaryAccuracy"):
        metrics.Accuracy().update(np.array([0, 1, 1, 0]), np.full(shape, 0.7))


def test_composite_custom_and_create():
    metric = metrics.create(["acc", metrics.AUC(), lambda label, pred: float(label.sum())])
    metric.update([np.array([0, 1])], [np.array([0, 1])])
    names, values = metric.get()
    assert names == ["accuracy", "auc", "<lambda>"]
    assert values == [1.0, 1.0, 1.0]
    assert metric.get_name_value()[1] == ("auc", 1.0)
    assert repr(metric).startswith("accuracy=1, auc=1")
    metric.reset()
    assert math.isnan(metric.get()[1][0])
    with pytest.raises(SpecificationError, match="must be one of"):
        metrics.create("beauty")
    with pytest.raises(OperatorError, match="one length"):
        metric.update([np.ones(1)], [np.ones(1), np.ones(1)])
