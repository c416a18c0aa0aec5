"""Functions that describe a training and an evaluation, on a real Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def test_functions_describe_a_training_and_its_evaluation(root: Path, start_run: Any) -> None:
    from mxpipe.data import write_snapshot

    x, y = np.random.default_rng(0).normal(size=(2, 256))
    rows = write_snapshot(root / "rows", {"x": x, "y": y, "label": (x + y > 0).astype(np.int32)})
    run = start_run("decorated", snapshot=rows.uri, digest=rows.digest, partition="2013-01")
    outcome = run.attempt("train")
    assert outcome.state == "success", outcome.error
    assert len(outcome.deferrals) == 1
    trained = run.xcom("train")
    assert trained["steps"] == 100
    assert run.xcom("train", key="model_uri") == trained["model_uri"], "each entry is an XCom of its own"

    outcome = run.attempt("evaluate")
    assert outcome.state == "success", outcome.error
    evaluated = run.xcom("evaluate")
    assert evaluated["candidate"]["auc"] > 0.9
    assert evaluated["digests"] == {"candidate": trained["model_digest"]}


def test_the_same_rows_are_the_same_training_wherever_they_lie(root: Path, start_run: Any) -> None:
    from mxpipe.data import write_snapshot

    x, y = np.random.default_rng(0).normal(size=(2, 64))
    columns = {"x": x, "y": y, "label": (x + y > 0).astype(np.int32)}
    keys = []
    for name, changed in (("one", 0.0), ("two", 0.0), ("three", 1.0)):
        rows = write_snapshot(root / name, {**columns, "x": x + changed})
        run = start_run("decorated", snapshot=rows.uri, digest=rows.digest, partition="2013-01")
        outcome = run.attempt("train")
        assert outcome.state == "success", outcome.error
        keys.append(run.xcom("train")["key"])
    assert keys[0] == keys[1] != keys[2]


def test_a_function_that_returns_something_else_fails_at_once(root: Path, start_run: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    run = start_run("decorated")
    for task_id, words in (("train_nothing", "got str"), ("evaluate_nothing", r"got ['candidate']")):
        outcome = run.attempt(task_id)
        assert isinstance(outcome.error, AirflowFailException)
        assert words in str(outcome.error)
