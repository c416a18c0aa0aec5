"""What Airflow asks a provider package about itself (entry point ``apache_airflow_provider``)."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def _modules(kind: str) -> list[str]:
    """The public modules of a folder of this package, none of them imported."""
    found = sorted(module.name for module in pkgutil.iter_modules([str(_HERE / kind)]))
    return [f"mxpipe_airflow.{kind}.{name}" for name in found if not name.startswith("_")]


def _listed(kind: str) -> list[dict[str, Any]]:
    return [{"integration-name": "mxpipe", "python-modules": _modules(kind)}]


def _decorator(stage: str) -> dict[str, str]:
    path = f"mxpipe_airflow.decorators.{stage}.mxpipe_{stage}_task"
    return {"name": f"mxpipe_{stage}", "class-name": path}


def _field(label: str, description: str, **schema: Any) -> dict[str, Any]:
    """A field of the connection's form that may be left empty."""
    return {"label": label, "description": description, "schema": schema}


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": "mxpipe",
        "hook-class-name": "mxpipe_airflow.hooks.mxpipe.MxpipeHook",
        "hook-name": "mxpipe",
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "login", "password", "host", "port"],
            "relabeling": {},
            "placeholders": {
                "root": "/var/lib/mxpipe",
                "tracking_uri": "http://mlflow:5000",
                "extra": '{"root": "/var/lib/mxpipe"}',
            },
        },
        "conn-fields": {
            "root": _field(
                "Root directory",
                "Where run directories, snapshots and reports live",
                type=["string", "null"],
            ),
            "tracking_uri": _field(
                "MLflow tracking URI", "Tracking server and model registry", type=["string", "null"]
            ),
            "mlflow_url": _field(
                "MLflow pages",
                "Address of MLflow's pages, for links, where it is not the tracking URI",
                type=["string", "null"],
            ),
            "threads": _field(
                "Threads a training job", "Empty: as many as the machine has", type=["integer", "null"]
            ),
            "launcher": _field(
                "Launcher",
                "What runs training jobs: local, or what an installed package brings",
                type=["string", "null"],
                default="local",
            ),
            "launcher_arguments": _field(
                "Launcher arguments",
                "What the launcher takes beside the root directory, as a JSON object",
                type=["object", "null"],
            ),
        },
    }


def get_provider_info() -> dict[str, Any]:
    """Describe the provider: its connection type with form, and where its parts are.

    Example:
        >>> get_provider_info()["connection-types"][0]["connection-type"]
        'mxpipe'
    """
    return {
        "package-name": "mxpipe",
        "name": "mxpipe",
        "description": "Durable training, evaluation, promotion and serving of mxpipe models.",
        "integrations": [{"integration-name": "mxpipe", "tags": ["software"]}],
        "connection-types": [_connection_type()],
        "hooks": _listed("hooks"),
        "operators": _listed("operators"),
        "triggers": _listed("triggers"),
        "sensors": _listed("sensors"),
        "task-decorators": [_decorator("train"), _decorator("evaluate")],
        "notifications": ["mxpipe_airflow.notifications.gate.MxpipeGateNotifier"],
        "extra-links": [
            f"mxpipe_airflow.links.mxpipe.{link}"
            for link in ("MlflowRunLink", "ModelVersionLink", "ReportLink", "ServerLink")
        ],
        "asset-uris": [
            {
                "schemes": ["mxpipe"],
                "handler": "mxpipe_airflow.assets.mxpipe.sanitize_uri",
                "factory": "mxpipe_airflow.assets.mxpipe.create_asset",
                "to_openlineage_converter": "mxpipe_airflow.assets.mxpipe.convert_asset_to_openlineage",
            }
        ],
    }
