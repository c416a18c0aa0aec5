"""What Airflow asks a provider package about itself (entry point ``apache_airflow_provider``)."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Describe the provider: its connection type with form, its triggers and its configuration.

    Example:
        >>> get_provider_info()["connection-types"][0]["connection-type"]
        'mxpipe'
    """
    return {
        "package-name": "mxpipe",
        "name": "mxpipe",
        "description": "Durable training, evaluation, promotion and serving of mxpipe models.",
        "integrations": [
            {
                "integration-name": "mxpipe",
                "tags": ["software"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "mxpipe",
                "hook-class-name": "mxpipe_airflow.hooks.mxpipe.MxpipeHook",
                "hook-name": "mxpipe",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "password", "host", "port"],
                    "relabeling": {},
                    "placeholders": {"extra": '{"root": "/var/lib/mxpipe"}'},
                },
                "conn-fields": {
                    "root": {
                        "label": "Root directory",
                        "description": "Where run directories, snapshots and reports live",
                        "schema": {"type": ["string", "null"]},
                    },
                    "tracking_uri": {
                        "label": "MLflow tracking URI",
                        "schema": {"type": ["string", "null"]},
                    },
                    "threads": {
                        "label": "Threads a training job",
                        "schema": {"type": ["integer", "null"]},
                    },
                },
            }
        ],
        "hooks": [{"integration-name": "mxpipe", "python-modules": ["mxpipe_airflow.hooks.mxpipe"]}],
        "operators": [
            {
                "integration-name": "mxpipe",
                "python-modules": [
                    "mxpipe_airflow.operators.champion",
                    "mxpipe_airflow.operators.data",
                    "mxpipe_airflow.operators.train",
                    "mxpipe_airflow.operators.evaluate",
                    "mxpipe_airflow.operators.registry",
                    "mxpipe_airflow.operators.serve",
                ],
            }
        ],
        "triggers": [{"integration-name": "mxpipe", "python-modules": ["mxpipe_airflow.triggers.job"]}],
    }
