"""From a verdict to a registered version, and from there to the champion's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from mxpipe_airflow.operators.base import Manifest, MxpipeOperator
from mxpipe_airflow.operators.champion import (
    COMPARED_TAG,
    DAG_TAG,
    INPUTS_TAG,
    NONE,
    PARTITION_TAG,
    TRAIN_TAG,
)

if TYPE_CHECKING:
    from airflow.sdk import Context


class MxpipeRegisterOperator(MxpipeOperator):
    """Register a trained model once for its key K. A run that is repeated registers nothing new, and says so.

    Args:
        model_name: Name in the registry.
        candidate: What the train stage returned. Templated.
        split: What the split stage returned. Templated.
        champion: What the resolve stage returned. Templated.
        verdict: What the gate returned; a rejected candidate is not registered. Templated.
        experiment: MLflow experiment that holds the run.
        tags: Further tags of the version. Templated.

    Returns:
        ``version, created, run_id, key``.

    Raises:
        AirflowSkipException: The candidate was rejected.
    """

    template_fields: Sequence[str] = (
        "conn_id",
        "model_name",
        "candidate",
        "split",
        "champion",
        "verdict",
        "experiment",
        "tags",
    )

    def __init__(
        self,
        *,
        model_name: str,
        candidate: Mapping[str, Any],
        split: Mapping[str, Any],
        champion: Mapping[str, Any],
        verdict: Mapping[str, Any],
        experiment: str = "Default",
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.candidate = candidate
        self.split = split
        self.champion = champion
        self.verdict = verdict
        self.experiment = experiment
        self.tags = tags

    def run_stage(self, context: Context) -> Manifest:
        """Find or make the version."""
        from mxpipe_mlflow import registry

        if self.verdict["decision"] == "REJECT":
            raise AirflowSkipException(f"Not registered: {' '.join(self.verdict['reasons'])}")
        version = registry.publish_once(
            self.model_name,
            self.candidate["model_uri"],
            self.candidate["key"],
            experiment=self.experiment,
            tags={
                DAG_TAG: self.dag_id,
                PARTITION_TAG: self.champion["partition"],
                INPUTS_TAG: self.champion["inputs"],
                COMPARED_TAG: self.champion["version"] or NONE,
                TRAIN_TAG: self.split["train_uri"],
                "mxpipe.model_digest": self.candidate["model_digest"],
                **(self.tags or {}),
            },
            tracking_uri=self.hook.settings.tracking_uri,
        )
        if version.created:
            self.log.info("Registered %s version %s", self.model_name, version.version)
        else:
            self.log.info(
                "Nothing new: key %s is registered as version %s", self.candidate["key"], version.version
            )
        return {
            "version": version.version,
            "created": version.created,
            "run_id": version.run_id,
            "key": self.candidate["key"],
        }


class MxpipePromoteOperator(MxpipeOperator):
    """Move the champion's alias to a version, if it still names what the candidate was compared with.

    Args:
        model_name: Name in the registry.
        registered: What the register stage returned. Templated.
        champion: What the resolve stage returned. Templated.
        verdict: What the gate returned; only ``PROMOTE`` promotes. Templated.

    Returns:
        ``version, previous, changed``.

    Raises:
        AirflowSkipException: The gate held the candidate back, or it had its turn in an earlier run.
        AirflowFailException: The champion has changed since it was pinned: evaluate again.
    """

    template_fields: Sequence[str] = ("conn_id", "model_name", "registered", "champion", "verdict")

    def __init__(
        self,
        *,
        model_name: str,
        registered: Mapping[str, Any],
        champion: Mapping[str, Any],
        verdict: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.registered = registered
        self.champion = champion
        self.verdict = verdict

    def run_stage(self, context: Context) -> Manifest:
        """Promote, or say why not."""
        from mxpipe_mlflow import registry

        if self.verdict["decision"] != "PROMOTE":
            raise AirflowSkipException(f"Not promoted: {' '.join(self.verdict['reasons'])}")
        version, current = self.registered["version"], self.champion["current"]
        was_pinned = self.champion["version"]
        if not self.registered["created"] and current not in (version, was_pinned):
            raise AirflowSkipException(
                f"Nothing new: version {version} had its turn; {self.model_name} is at version {current} now"
            )
        promotion = registry.promote(
            self.model_name,
            version,
            was_pinned,
            self.champion["alias"],
            tracking_uri=self.hook.settings.tracking_uri,
        )
        if promotion.changed:
            self.log.info("%s@%s now names version %s", self.model_name, promotion.alias, version)
        else:
            self.log.info("Nothing new: %s@%s names version %s", self.model_name, promotion.alias, version)
        return {"version": version, "previous": promotion.previous, "changed": promotion.changed}
