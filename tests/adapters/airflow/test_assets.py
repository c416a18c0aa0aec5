"""Assets and lineage, as Airflow and the installed OpenLineage provider see them."""

from __future__ import annotations

import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("airflow_database")


@pytest.mark.parametrize(
    ("written", "uri"),
    [
        ("mxpipe://models/flights", "mxpipe://models/flights"),
        ("MXPIPE://Models//flights/champion/", "mxpipe://models/flights/champion"),
        ("mxpipe://monitors/flight delays", "mxpipe://monitors/flight%20delays"),
        ("mxpipe://snapshots/a%2Fb", "mxpipe://snapshots/a%2Fb"),
    ],
)
def test_airflow_writes_an_address_in_its_one_form(written: str, uri: str) -> None:
    from airflow.sdk import Asset

    assert Asset(uri=written).uri == uri
    assert Asset(uri=Asset(uri=written).uri).uri == uri


@pytest.mark.parametrize(
    "written",
    [
        "mxpipe://planes/flights",
        "mxpipe://models",
        "mxpipe://models/a/b/c",
        "mxpipe://snapshots/a/b",
        "mxpipe://models/../flights",
        "mxpipe://models/flights?version=3",
    ],
)
def test_an_address_of_nothing_is_refused(written: str) -> None:
    from airflow.sdk import Asset

    with pytest.raises(ValueError, match=r"\[asset\]"):
        Asset(uri=written)


def test_an_asset_becomes_a_dataset_of_openlineage() -> None:
    from airflow.providers.openlineage.utils.utils import translate_airflow_asset

    from mxpipe_airflow.assets.mxpipe import model_asset

    asset = model_asset("flight delays", "champion")
    found = translate_airflow_asset(SimpleNamespace(normalized_uri=asset.uri, extra={}), None)
    assert found is not None
    assert (found.namespace, found.name) == ("mxpipe://models", "flight%20delays/champion")


def extracted(operator: Any) -> Any:
    """What OpenLineage's listener takes from an operator that has run."""
    from airflow.providers.openlineage.extractors.manager import ExtractorManager
    from airflow.utils.state import TaskInstanceState

    instance, run = SimpleNamespace(task=operator), SimpleNamespace(run_id="run-1")
    return ExtractorManager().extract_metadata(run, operator, TaskInstanceState.SUCCESS, instance)


def test_openlineage_is_told_of_snapshots_with_their_digests(root: Path) -> None:
    from mxpipe.data import write_snapshot
    from mxpipe_airflow.operators.data import MxpipeSplitOperator

    days = [datetime.date(2013, 1, 1 + row % 31) for row in range(310)]
    rows = write_snapshot(root / "rows", {"day": days, "x": np.arange(310.0)})
    operator = MxpipeSplitOperator(task_id="split", snapshot_uri=rows.uri, column="day", at="2013-01-25")
    manifest = operator.execute({"ti": None})
    lineage = extracted(operator)
    assert [(data.namespace, data.name) for data in lineage.inputs] == [("file", rows.uri)]
    train, holdout = lineage.outputs
    assert (train.name, holdout.name) == (manifest["train_uri"], manifest["holdout_uri"])
    assert train.facets["version"].datasetVersion == manifest["train_digest"]
    assert train.outputFacets["outputStatistics"].rowCount == manifest["train_rows"] == 240


def test_every_stage_tells_its_lineage(root: Path) -> None:
    """Each operator's lineage is made from its arguments and its manifest alone."""
    from mxpipe_airflow.operators import evaluate, infra, registry, serve, train

    candidate = {"model_uri": "/runs/model", "model_digest": "aa"}
    champion = {"model_name": "flights", "alias": "champion", "version": "3"}
    cases = [
        (
            train.MxpipeTrainOperator(task_id="a", spec={}, partition="p"),
            {
                "data": {"train": "/rows", "validation": None},
                "model_uri": "/runs/model",
                "model_digest": "aa",
            },
            ["/rows"],
            ["/runs/model"],
        ),
        (
            evaluate.MxpipeEvaluateOperator(
                task_id="b",
                candidate=candidate,
                champion=champion,
                holdout_uri="/holdout",
                holdout_digest="cc",
                label_column="late",
            ),
            {
                "holdout_digest": "cc",
                "digests": {"candidate": "aa"},
                "champion_version": "3",
                "report_uri": "/report.json",
            },
            ["/holdout", "/runs/model", "flights"],
            ["/report.json"],
        ),
        (
            infra.MxpipeInfraValidateOperator(
                task_id="c", candidate=candidate, evaluation={"holdout_digest": "cc"}, holdout_uri="/holdout"
            ),
            {"model_digest": "aa", "report_uri": "/infra.json"},
            ["/runs/model", "/holdout"],
            ["/infra.json"],
        ),
        (
            registry.MxpipeRegisterOperator(
                task_id="d", model_name="flights", candidate=candidate, split={}, champion={}, verdict={}
            ),
            {"version": "4"},
            ["/runs/model"],
            ["flights"],
        ),
        (
            registry.MxpipePromoteOperator(
                task_id="e", model_name="flights", registered={}, champion=champion, verdict={}
            ),
            {"version": "4"},
            ["flights"],
            ["flights/champion"],
        ),
        (
            serve.MxpipeDeployOperator(task_id="f", model_name="flights"),
            {"version": "4"},
            ["flights/champion"],
            [],
        ),
    ]
    for operator, manifest, read, made in cases:
        operator._manifest = manifest
        lineage = extracted(operator)
        assert [data.name for data in lineage.inputs] == read, operator.task_id
        assert [data.name for data in lineage.outputs] == made, operator.task_id


def test_an_operator_that_has_not_run_tells_nothing() -> None:
    from mxpipe_airflow.operators.registry import MxpipeRollbackOperator

    lineage = extracted(MxpipeRollbackOperator(task_id="rollback", model_name="flights"))
    assert not lineage.inputs
    assert not lineage.outputs
