"""From a task's page to MLflow's run, a model's version, a report or a server.

The operator says an address when it has one. Airflow asks for it at the end of the attempt, in the worker,
and keeps it, so that its server needs neither the connection nor this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


class MxpipeLink(BaseOperatorLink):
    """Base of the links: an address that the operator has said, or none.

    Example:
        >>> MlflowRunLink().name, MlflowRunLink().xcom_key
        ('MLflow run', '_link_MlflowRunLink')
    """

    name = ""

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The address, or an empty text where there is nothing to look at."""
        return getattr(operator, "published_links", {}).get(type(self), "")


class MlflowRunLink(MxpipeLink):
    """The training's run in MLflow."""

    name = "MLflow run"


class ModelVersionLink(MxpipeLink):
    """The version in the model registry."""

    name = "Model version"


class ReportLink(MxpipeLink):
    """The report that the stage has written."""

    name = "Report"


class ServerLink(MxpipeLink):
    """The inference server."""

    name = "Server"


def mlflow_run_url(pages: str | None, run_id: str | None) -> str | None:
    """The page of a run, or None where MLflow has no pages or the run is not known.

    Example:
        >>> mlflow_run_url("http://mlflow:5000", "a1b2")
        'http://mlflow:5000/#/runs/a1b2'
    """
    return f"{pages}/#/runs/{quote(run_id, safe='')}" if pages and run_id else None


def model_version_url(pages: str | None, name: str, version: str | None) -> str | None:
    """The page of a registered version, or None where MLflow has no pages.

    Example:
        >>> model_version_url("http://mlflow:5000", "flight delays", "3")
        'http://mlflow:5000/#/models/flight%20delays/versions/3'
    """
    if not pages or version is None:
        return None
    return f"{pages}/#/models/{quote(name, safe='')}/versions/{quote(version, safe='')}"


def report_url(place: str) -> str:
    """The address of a report: a path becomes one that a browser on the same machine can open.

    Example:
        >>> report_url("/data/reports/january.html")
        'file:///data/reports/january.html'
    """
    from pathlib import Path

    return place if "://" in place else Path(place).absolute().as_uri()
