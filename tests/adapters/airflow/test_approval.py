"""A person decides, by Airflow's own operator, whether a version that was held back becomes the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def versions(train_model: Any) -> tuple[str, str]:
    """The champion's version and a newer one that was held back."""
    from mxpipe_airflow.hooks.mxpipe import MxpipeHook
    from mxpipe_mlflow import registry

    uri, (path, _) = MxpipeHook().settings.tracking_uri, train_model()
    current = registry.resolve("reviewed", tracking_uri=uri)
    first = registry.publish_once("reviewed", path, "first", tracking_uri=uri)
    registry.promote("reviewed", first.version, current.version if current else None, tracking_uri=uri)
    held = registry.publish_once(
        "reviewed", path, "held", tags={"mxpipe.partition": "2013-02"}, tracking_uri=uri
    )
    return first.version, held.version


def champion() -> str:
    from mxpipe_airflow.hooks.mxpipe import MxpipeHook
    from mxpipe_mlflow import registry

    found = registry.resolve("reviewed", tracking_uri=MxpipeHook().settings.tracking_uri)
    assert found is not None
    return found.version


def test_nothing_is_promoted_before_a_person_says_so(
    root: Path, start_run: Any, versions: tuple[str, str]
) -> None:
    before, held = versions
    for option in ("Reject", "Approve"):
        run = start_run("model_review", model_name="reviewed", version=None)
        outcome = run.attempt("look")
        assert outcome.state == "success", outcome.error
        assert run.attempt("approve").state == "awaiting_input"
        assert champion() == before
        question = run.question("approve")
        assert question.subject == f"Shall version {held} of reviewed replace version {before}?"
        assert "* mxpipe.partition: `2013-02`" in question.body

        assert run.answer("approve", option).state == "success"
        if option == "Reject":
            assert run.instance("promote").state == "skipped"
            assert champion() == before
    outcome = run.attempt("promote")
    assert outcome.state == "success", outcome.error
    assert champion() == held
    assert start_run("model_review", model_name="reviewed", version=held).attempt("look").state == "skipped"
