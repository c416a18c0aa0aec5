"""From a verdict to a registered version, and from there to the champion's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from mxpipe_airflow.assets.mxpipe import asset_uri, model_asset
from mxpipe_airflow.lineage import Data, Lineage
from mxpipe_airflow.links.mxpipe import (
    MlflowRunLink,
    ModelVersionLink,
    MxpipeLink,
    mlflow_run_url,
    model_version_url,
)
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator
from mxpipe_airflow.operators.champion import (
    COMPARED_TAG,
    DAG_TAG,
    INPUTS_TAG,
    NONE,
    PARTITION_TAG,
    TRAIN_TAG,
)
from mxpipe_airflow.operators.serve import serve_alias

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

    Example:
        >>> MxpipeRegisterOperator(
        ...     task_id="register",
        ...     model_name="flights",
        ...     candidate="{{ ti.xcom_pull('train') }}",
        ...     split="{{ ti.xcom_pull('split') }}",
        ...     champion="{{ ti.xcom_pull('resolve') }}",
        ...     verdict="{{ ti.xcom_pull('gate') }}",
        ... ).experiment
        'Default'
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
    operator_extra_links = (MlflowRunLink(), ModelVersionLink())

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
            self.announce(context, model_asset(self.model_name), {"version": version.version})
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

    def links(self, manifest: Manifest) -> Mapping[type[MxpipeLink], str | None]:
        """The version, and the run that made it."""
        pages = self.hook.settings.mlflow_pages
        return {
            MlflowRunLink: mlflow_run_url(pages, manifest["run_id"]),
            ModelVersionLink: model_version_url(pages, self.model_name, manifest["version"]),
        }

    def lineage(self, manifest: Manifest) -> Lineage:
        """From the job's model to the registered one."""
        return Lineage(
            [Data(self.candidate["model_uri"], self.candidate["model_digest"])],
            [Data(asset_uri("models", self.model_name), manifest["version"])],
        )


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

    Example:
        An ``AssetAlias`` among the outlets has an event only where the alias has moved.

        >>> from airflow.sdk import AssetAlias
        >>> promote = MxpipePromoteOperator(
        ...     task_id="promote",
        ...     model_name="flights",
        ...     registered="{{ ti.xcom_pull('register') }}",
        ...     champion="{{ ti.xcom_pull('resolve') }}",
        ...     verdict="{{ ti.xcom_pull('gate') }}",
        ...     outlets=[AssetAlias("flights_champion")],
        ... )
    """

    template_fields: Sequence[str] = ("conn_id", "model_name", "registered", "champion", "verdict")
    operator_extra_links = (ModelVersionLink(),)

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
            asset = model_asset(self.model_name, promotion.alias)
            self.announce(context, asset, {"version": version, "previous": promotion.previous})
            self.log.info("%s@%s now names version %s", self.model_name, promotion.alias, version)
        else:
            self.log.info("Nothing new: %s@%s names version %s", self.model_name, promotion.alias, version)
        return {"version": version, "previous": promotion.previous, "changed": promotion.changed}

    def links(self, manifest: Manifest) -> Mapping[type[MxpipeLink], str | None]:
        """The version that the alias names."""
        pages = self.hook.settings.mlflow_pages
        return {ModelVersionLink: model_version_url(pages, self.model_name, manifest["version"])}

    def lineage(self, manifest: Manifest) -> Lineage:
        """From the version to the alias."""
        name, version = self.model_name, manifest["version"]
        return Lineage(
            [Data(asset_uri("models", name), version)],
            [Data(asset_uri("models", name, self.champion["alias"]), version)],
        )


class MxpipeRollbackOperator(MxpipeOperator):
    """Give the champion's name back to the version before, and let the endpoint follow.

    Callable alone, from a DAG without any other stage; a second call changes nothing.

    Args:
        model_name: Name in the registry. Templated.
        alias: The alias to move back. Templated.
        version: Return to this version; by default to the one before the alias's last promotion. Templated.
        endpoint: See that the server of this machine serves it too.
        port: Port of the server, where it has to be started. Templated.

    Returns:
        ``version, previous`` (what the alias named before this call), ``changed, alias``, and the server's
        ``url`` or None.

    Raises:
        AirflowFailException: There is no version to return to.

    Example:
        >>> MxpipeRollbackOperator(task_id="rollback", model_name="flights").alias
        'champion'
    """

    template_fields: Sequence[str] = ("conn_id", "model_name", "alias", "version", "port")
    operator_extra_links = (ModelVersionLink(),)

    def __init__(
        self,
        *,
        model_name: str,
        alias: str = "champion",
        version: str | None = None,
        endpoint: bool = True,
        port: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.alias = alias
        self.version = version
        self.endpoint = endpoint
        self.port = port

    def run_stage(self, context: Context) -> Manifest:
        """Move the alias, then ask the server for it."""
        from mxpipe_mlflow import registry

        uri = self.hook.settings.tracking_uri
        current = registry.resolve(self.model_name, self.alias, tracking_uri=uri)
        before = current.version if current else None
        if self.version:
            promotion = registry.promote(
                self.model_name, str(self.version), before, self.alias, tracking_uri=uri
            )
        else:
            promotion = registry.rollback(self.model_name, self.alias, tracking_uri=uri)
        self.log.info("%s@%s names version %s", self.model_name, self.alias, promotion.version)
        if promotion.changed:
            asset = model_asset(self.model_name, self.alias)
            self.announce(context, asset, {"version": promotion.version, "previous": before})
        server = None
        if self.endpoint:
            server = serve_alias(self.hook.settings, self.model_name, self.alias, int(self.port))
        return {
            "model_name": self.model_name,
            "alias": self.alias,
            "version": promotion.version,
            "previous": before,
            "changed": promotion.changed,
            "url": server.url if server else None,
        }

    def links(self, manifest: Manifest) -> Mapping[type[MxpipeLink], str | None]:
        """The version that the alias names again."""
        pages = self.hook.settings.mlflow_pages
        return {ModelVersionLink: model_version_url(pages, self.model_name, manifest["version"])}

    def lineage(self, manifest: Manifest) -> Lineage:
        """From the version to the alias."""
        name, version = self.model_name, manifest["version"]
        return Lineage(
            [Data(asset_uri("models", name), version)], [Data(asset_uri("models", name, self.alias), version)]
        )
