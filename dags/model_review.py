"""### Shall this version become the champion?

A gate holds a candidate back where its gain may be luck: it is registered, and not promoted. Here a person
looks at it and decides, on Airflow's own page of required actions. Without an answer in three days nothing
changes. The promotion still compares before it swaps: where the champion has changed meanwhile, it fails.

Trigger it by hand with a model's name, and a version if it is not the newest one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Param, task
from airflow.sdk.exceptions import AirflowSkipException

from mxpipe_airflow.hooks.mxpipe import MxpipeHook
from mxpipe_airflow.operators.registry import MxpipePromoteOperator
from mxpipe_airflow.watching import newest_version

with DAG(
    dag_id="model_review",
    description="Put a version that a gate has held back before a person",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    params={
        "model_name": Param("flight_delays", type="string", description="Name in the registry"),
        "version": Param(None, type=["null", "string"], description="A version; the newest by default"),
    },
    tags=["mxpipe"],
) as dag:

    @task
    def look(params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Pin what is to be decided on: the version, the champion now, and what the registry says of both."""
        from mxpipe_mlflow import registry

        assert params is not None
        settings, name = MxpipeHook().settings, params["model_name"]
        uri = settings.tracking_uri
        version = params["version"] or newest_version(settings, name, None)
        champion = registry.resolve(name, tracking_uri=uri)
        current = champion.version if champion else None
        if version is None or version == current:
            raise AirflowSkipException(f"Nothing to decide on: {name}@champion is version {current}")
        tags = registry.get(name, version, tracking_uri=uri).tags
        facts = "\n".join(f"* {tag}: `{value}`" for tag, value in sorted(tags.items()))
        return {
            "subject": f"Shall version {version} of {name} replace version {current}?",
            "body": f"The registry says of version {version}:\n\n{facts}",
            "registered": {"version": version, "created": True},
            "champion": {"version": current, "current": current, "alias": "champion"},
            "verdict": {"decision": "PROMOTE", "reasons": ["A person has approved it."]},
        }

    case = look()
    approved = ApprovalOperator(
        task_id="approve",
        subject="{{ ti.xcom_pull('look')['subject'] }}",
        body="{{ ti.xcom_pull('look')['body'] }}",
        defaults="Reject",
        response_timeout=timedelta(days=3),
    )
    promoted = MxpipePromoteOperator(
        task_id="promote",
        model_name="{{ params.model_name }}",
        registered=case["registered"],
        champion=case["champion"],
        verdict=case["verdict"],
    )
    case >> approved >> promoted
