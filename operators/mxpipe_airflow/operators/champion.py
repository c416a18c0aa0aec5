"""Which model is to be beaten: pinned once, so that every later stage speaks of the same one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe_airflow.keys import digest_code
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

DAG_TAG = "mxpipe.dag_id"
PARTITION_TAG = "mxpipe.partition"
INPUTS_TAG = "mxpipe.inputs"
COMPARED_TAG = "mxpipe.compared_with"
TRAIN_TAG = "mxpipe.train_snapshot"
NONE = "none"


class MxpipeResolveChampionOperator(MxpipeOperator):
    """Pin the model that ``name@alias`` names now.

    A partition that has been through the pipeline before, with the same sources and code, is compared with
    what it was compared with then: today's champion may have been trained on its holdout. What the alias
    names now is handed on as ``current`` all the same.

    Args:
        model_name: Name in the registry.
        partition: Names the piece of time, e.g. ``2013-01``. Templated.
        sources: Returns the files that are read.
        code_paths: Source files and folders that shape the pipeline.
        alias: The champion's alias.

    Returns:
        ``mode`` (``bootstrap`` without a champion, else ``challenge``), ``version``, ``current``,
        ``train_snapshot``, ``inputs`` (digest of sources and code), ``replayed``.

    Example:
        >>> MxpipeResolveChampionOperator(
        ...     task_id="resolve", model_name="flights", partition="{{ params.month }}"
        ... ).alias
        'champion'
    """

    template_fields: Sequence[str] = ("conn_id", "model_name", "partition", "code_paths", "alias")

    def __init__(
        self,
        *,
        model_name: str,
        partition: str,
        sources: Callable[[], Sequence[Path]] | None = None,
        code_paths: Sequence[str] = (),
        alias: str = "champion",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.partition = partition
        self.sources = sources
        self.code_paths = code_paths
        self.alias = alias

    def run_stage(self, context: Context) -> Manifest:
        """Ask the registry."""
        from mxpipe_mlflow import registry

        uri = self.hook.settings.tracking_uri
        champion = registry.resolve(self.model_name, self.alias, tracking_uri=uri)
        current = champion.version if champion else None
        inputs = digest_code([*(self.sources() if self.sources else ()), *self.code_paths])
        tags = {DAG_TAG: self.dag_id, PARTITION_TAG: self.partition, INPUTS_TAG: inputs}
        before = registry.find_by_tags(self.model_name, tags, tracking_uri=uri)
        if before is not None and (compared := before.tags.get(COMPARED_TAG)):
            champion = None if compared == NONE else registry.get(self.model_name, compared, tracking_uri=uri)
            self.log.info(
                "Partition %s gave version %s before; it is compared with version %s again",
                self.partition,
                before.version,
                compared,
            )
        manifest = {
            "model_name": self.model_name,
            "alias": self.alias,
            "partition": self.partition,
            "mode": "challenge" if champion else "bootstrap",
            "version": champion.version if champion else None,
            "current": current,
            "train_snapshot": champion.tags.get(TRAIN_TAG) if champion else None,
            "inputs": inputs,
            "replayed": before is not None,
        }
        self.log.info("Champion of %s: %s (%s)", self.model_name, manifest["version"], manifest["mode"])
        return manifest
