"""Snapshots as a source of MLflow datasets (entry point group ``mlflow.dataset_source``).

MLflow loads this while it is itself being imported: only its base class is imported here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.data.dataset_source import DatasetSource

from mxpipe.errors import SnapshotCorruptError


class SnapshotSource(DatasetSource):
    """Where a snapshot lies, and its digest.

    Args:
        uri: A path, or any URL that fsspec understands.
        digest: The snapshot's digest; None accepts whatever lies there.
    """

    def __init__(self, uri: str, digest: str | None = None) -> None:
        self.uri = uri
        self.digest = digest

    @staticmethod
    def _get_source_type() -> str:
        return "mxpipe_snapshot"

    def load(self) -> Any:
        """Open the snapshot.

        Returns:
            A :class:`mxpipe.data.Snapshot`.

        Raises:
            DataError: There is no snapshot any more.
            SnapshotCorruptError: Another snapshot lies there now.
        """
        from mxpipe.data import Snapshot

        snapshot = Snapshot.open(self.uri)
        if self.digest is not None and snapshot.digest != self.digest:
            raise SnapshotCorruptError(
                f"[{self.uri}] the snapshot must have the digest {self.digest[:12]};"
                f" got {snapshot.digest[:12]}."
            )
        return snapshot

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        from mxpipe.data import Snapshot

        if isinstance(raw_source, Snapshot):
            return True
        # A URL is not looked at: MLflow asks about every source that anybody logs.
        return isinstance(raw_source, str | Path) and Path(raw_source, "manifest.json").is_file()

    @classmethod
    def _resolve(cls, raw_source: Any) -> SnapshotSource:
        from mxpipe.data import Snapshot

        snapshot = raw_source if isinstance(raw_source, Snapshot) else Snapshot.open(raw_source)
        return cls(snapshot.uri, snapshot.digest)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"uri": self.uri, "digest": self.digest}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> SnapshotSource:
        """From what :meth:`to_dict` gave."""
        return cls(source_dict["uri"], source_dict.get("digest"))
