"""What all operators share: a connection, errors that say whether a retry helps, and small manifests."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from mxpipe_airflow.errors import failing_at_once
from mxpipe_airflow.hooks.mxpipe import MxpipeHook

if TYPE_CHECKING:
    from airflow.sdk import Context

Manifest = dict[str, Any]
LARGEST_MANIFEST = 8192


def checked(manifest: Manifest) -> Manifest:
    """Hand a manifest on if it is plain JSON and small enough for XCom.

    Raises:
        ValueError: It is larger than 8 KB: it must refer to a file instead.

    Example:
        >>> checked({"uri": "snapshots/2013-01"})
        {'uri': 'snapshots/2013-01'}
    """
    size = len(json.dumps(manifest, allow_nan=False))
    if size > LARGEST_MANIFEST:
        raise ValueError(f"[xcom] a manifest must have at most {LARGEST_MANIFEST} bytes; got {size}.")
    return manifest


class MxpipeOperator(BaseOperator):
    """Base of the stages.

    Args:
        conn_id: Connection of type ``mxpipe``.
    """

    template_fields: Sequence[str] = ("conn_id",)
    ui_color = "#e6f0ea"

    def __init__(self, *, conn_id: str = MxpipeHook.default_conn_name, **kwargs: Any) -> None:
        # Each entry of a manifest is an XCom of its own as well: `operator.output["uri"]`.
        super().__init__(**{"multiple_outputs": True, **kwargs})
        self.conn_id = conn_id

    @cached_property
    def hook(self) -> MxpipeHook:
        """The hook of this operator's connection."""
        return MxpipeHook(self.conn_id)

    def execute(self, context: Context) -> Manifest:
        """Run the stage; the manifest also says how many ``seconds`` it took.

        Raises:
            AirflowFailException: An error that no retry can mend.
        """
        started = time.monotonic()
        with failing_at_once():
            manifest = self.run_stage(context)
            return checked({"seconds": round(time.monotonic() - started, 3), **manifest})

    @abstractmethod
    def run_stage(self, context: Context) -> Manifest:
        """Do the work and return the manifest."""
