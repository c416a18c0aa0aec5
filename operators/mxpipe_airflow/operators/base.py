"""What all operators share: a connection, errors that say whether a retry helps, and small manifests.

Of a manifest the links of the task's page, OpenLineage and Airflow's asset events are told.
"""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from mxpipe.errors import SpecificationError
from mxpipe_airflow.errors import failing_at_once
from mxpipe_airflow.hooks.mxpipe import MxpipeHook
from mxpipe_airflow.lineage import Lineage

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Asset, Context

    from mxpipe_airflow.links.mxpipe import MxpipeLink

Manifest = dict[str, Any]
LARGEST_MANIFEST = 8192


def checked(manifest: Manifest) -> Manifest:
    """Hand a manifest on if it is plain JSON and small enough for XCom.

    Raises:
        SpecificationError: It is larger than 8 KB, or no JSON: it must refer to a file instead.

    Example:
        >>> checked({"uri": "snapshots/2013-01"})
        {'uri': 'snapshots/2013-01'}
    """
    try:
        size = len(json.dumps(manifest, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise SpecificationError(f"[xcom] a manifest must be plain JSON; {error}") from error
    if size > LARGEST_MANIFEST:
        raise SpecificationError(f"[xcom] a manifest must have at most {LARGEST_MANIFEST} bytes; got {size}.")
    return manifest


class MxpipeOperator(BaseOperator):
    """Base of the stages. A stage implements :meth:`run_stage`, and may say its links and its lineage.

    Args:
        conn_id: Connection of type ``mxpipe``.

    Example:
        >>> class CountOperator(MxpipeOperator):
        ...     def run_stage(self, context):
        ...         return {"root": str(self.hook.settings.root)}
        >>> CountOperator(task_id="count").conn_id
        'mxpipe_default'
    """

    template_fields: Sequence[str] = ("conn_id",)
    ui_color = "#e6f0ea"

    def __init__(self, *, conn_id: str = MxpipeHook.default_conn_name, **kwargs: Any) -> None:
        # Each entry of a manifest is an XCom of its own as well: `operator.output["uri"]`.
        super().__init__(**{"multiple_outputs": True, **kwargs})
        self.conn_id = conn_id
        self.published_links: dict[type[MxpipeLink], str] = {}
        self._manifest: Manifest | None = None

    @cached_property
    def hook(self) -> MxpipeHook:
        """The hook of this operator's connection."""
        return MxpipeHook(self.conn_id)

    def execute(self, context: Context) -> Manifest:
        """Run the stage; the manifest also says how many ``seconds`` it took.

        Raises:
            AirflowFailException: An error that no retry can mend.
        """
        return self.completing(context, lambda: self.run_stage(context))

    def completing(self, context: Context, work: Callable[[], Manifest]) -> Manifest:
        """Do the work of a stage, or the rest of it after a deferral, and tell everybody of the manifest."""
        started = time.monotonic()
        with failing_at_once():
            done = work()
            manifest = checked({"seconds": round(time.monotonic() - started, 3), **done})
        self._manifest = manifest
        self.publish(self.links(manifest))
        return manifest

    def publish(self, links: Mapping[type[MxpipeLink], str | None]) -> None:
        """Say where links lead to, as soon as that is known; Airflow takes them at the attempt's end."""
        self.published_links.update({link: url for link, url in links.items() if url})

    @abstractmethod
    def run_stage(self, context: Context) -> Manifest:
        """Do the work and return the manifest."""

    def links(self, manifest: Manifest) -> Mapping[type[MxpipeLink], str | None]:
        """Where a manifest's things can be looked at, by the links of ``operator_extra_links``."""
        return {}

    def lineage(self, manifest: Manifest) -> Lineage:
        """What the stage has read and made."""
        return Lineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:
        """What OpenLineage's listener asks after the stage, where its provider is installed."""
        lineage = Lineage() if self._manifest is None else self.lineage(self._manifest)
        return lineage.to_openlineage()

    def announce(self, context: Context, asset: Asset, extra: Mapping[str, Any]) -> None:
        """Give the event of an asset its particulars.

        A plain asset among the task's ``outlets`` has an event whenever the task succeeds. An ``AssetAlias``
        there has one only through this call: use it where a run that changes nothing should start nothing.
        """
        from airflow.sdk import Asset, AssetAlias

        for outlet in self.outlets:
            if isinstance(outlet, AssetAlias):
                context["outlet_events"][outlet].add(asset, extra=dict(extra))
            elif isinstance(outlet, Asset) and outlet.uri == asset.uri:
                context["outlet_events"][outlet].extra.update(extra)
