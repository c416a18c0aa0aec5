"""From sources to an immutable snapshot, whose place follows from what it is made of.

A retry finds a finished snapshot and overwrites only its own unfinished one; the same sources, code and
arguments are read once. Each operator says only how the rows are made.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe_airflow.keys import digest_code, digest_json
from mxpipe_airflow.lineage import Data, Lineage
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mxpipe.data import Snapshot

Notes = dict[str, Any]


def snapshot_at(uri: str) -> Snapshot | None:
    """The snapshot at a place, if there is one."""
    from mxpipe.data import Snapshot
    from mxpipe.errors import DataError, SnapshotCorruptError

    try:
        return Snapshot.open(uri)
    except SnapshotCorruptError:
        raise
    except DataError:
        return None


class MxpipeIngestOperator(MxpipeOperator):
    """Base of the operators that make a snapshot.

    Args:
        partition: Names the piece of time, e.g. ``2013-01``. Templated.
        arguments: Keyword arguments of what makes the rows. Templated.
        sources: Returns the files that are read; their bytes are part of the snapshot's place.
        code_paths: Source files and folders that shape the rows. Templated.

    Returns:
        ``uri, digest, rows, columns, notes``, and whether the snapshot was there before (``reused``).
    """

    template_fields: Sequence[str] = ("conn_id", "partition", "arguments", "code_paths")

    def __init__(
        self,
        *,
        partition: str,
        arguments: Mapping[str, Any] | None = None,
        sources: Callable[[], Sequence[Path]] | None = None,
        code_paths: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.partition = partition
        self.arguments = arguments
        self.sources = sources
        self.code_paths = code_paths

    def run_stage(self, context: Context) -> Manifest:
        """Find or write the snapshot."""
        arguments = dict(self.arguments or {})
        sources = digest_code(self.sources() if self.sources else ())
        place = digest_json([self.partition, arguments, sources, digest_code(self.code_paths)])[:16]
        uri = str(self.hook.settings.root / "snapshots" / self.dag_id / self.partition / place)
        snapshot = snapshot_at(uri)
        reused = snapshot is not None
        if snapshot is None:
            snapshot = self.write(uri, arguments, {"partition": self.partition, "sources": sources})
        else:
            self.log.info("The snapshot of these sources is there already: nothing is read again")
        self.log.info("%s rows in %s, digest %s", f"{snapshot.num_rows:,}", uri, snapshot.digest)
        return {
            "uri": uri,
            "digest": snapshot.digest,
            "rows": snapshot.num_rows,
            "columns": len(snapshot.column_types),
            "notes": snapshot.metadata.get("notes", {}),
            "reused": reused,
        }

    def lineage(self, manifest: Manifest) -> Lineage:
        """The files that were read, and the snapshot."""
        read = [Data(str(path)) for path in (self.sources() if self.sources else ())]
        return Lineage(read, [Data(manifest["uri"], manifest["digest"], manifest["rows"])])

    @property
    def scratch(self) -> Path:
        """A directory of this DAG that outlives its runs."""
        return self.hook.settings.root / "scratch" / self.dag_id

    @abstractmethod
    def write(self, uri: str, arguments: dict[str, Any], metadata: dict[str, Any]) -> Snapshot:
        """Make the rows and publish them; the notes about them go into the metadata as ``notes``."""


class MxpipeTableIngestOperator(MxpipeIngestOperator):
    """Write a table that a function makes in this process as an immutable snapshot.

    Args:
        table: Called as ``table(scratch, **arguments)``, where ``scratch`` is a directory of this DAG that
            outlives its runs; returns rows as :func:`mxpipe.data.write_snapshot` takes them (an Arrow table,
            record batches, a pandas DataFrame, columns) in an order of their own, and a JSON-able dictionary
            of notes, which the snapshot's manifest keeps.
        partition: Names the piece of time, e.g. ``2013-01``. Templated.
        arguments: Keyword arguments of ``table``. Templated.
        sources: Returns the files that are read; their bytes are part of the snapshot's place.
        code_paths: Source files and folders that shape the rows. Templated.

    Example:
        >>> def january(scratch):
        ...     return {"distance": [100.0, 733.0]}, {"left_out": 0}
        >>> ingest = MxpipeTableIngestOperator(task_id="ingest", table=january, partition="2013-01")
    """

    def __init__(self, *, table: Callable[..., tuple[Any, Notes]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = table

    def write(self, uri: str, arguments: dict[str, Any], metadata: dict[str, Any]) -> Snapshot:
        """Make the table and publish it."""
        from mxpipe.data import write_snapshot

        rows, notes = self.table(self.scratch, **arguments)
        return write_snapshot(uri, rows, metadata={**metadata, "notes": notes})


class MxpipeSparkIngestOperator(MxpipeIngestOperator):
    """Write a Spark DataFrame as an immutable snapshot, its shards by Spark's own workers.

    Args:
        dataframe: Called as ``dataframe(spark, scratch, **arguments)``, where ``scratch`` is a directory of
            this DAG that outlives its runs; returns the DataFrame and a JSON-able dictionary of notes (what
            was counted, what was left out), which the snapshot's manifest keeps.
        partition: Names the piece of time, e.g. ``2013-01``. Templated.
        arguments: Keyword arguments of ``dataframe``. Templated.
        sort_by: Columns to arrange the rows by, so that the same rows give the same digest. Templated.
        sources: Returns the files that are read; their bytes are part of the snapshot's place.
        code_paths: Source files and folders that shape the rows. Templated.
        master: Spark's master. Templated.
        spark_conf: Further Spark settings. Templated.

    Example:
        >>> def flights(spark, scratch, before):
        ...     rows = spark.read.parquet("/data/flights").where(f"day < '{before}'")
        ...     return rows, {"before": before}
        >>> MxpipeSparkIngestOperator(
        ...     task_id="ingest", dataframe=flights, partition="2013-01", arguments={"before": "2013-02-01"}
        ... ).master
        'local[2]'
    """

    template_fields: Sequence[str] = (
        *MxpipeIngestOperator.template_fields,
        "sort_by",
        "master",
        "spark_conf",
    )

    def __init__(
        self,
        *,
        dataframe: Callable[..., tuple[Any, Notes]],
        sort_by: Sequence[str] | None = None,
        master: str = "local[2]",
        spark_conf: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataframe = dataframe
        self.sort_by = sort_by
        self.master = master
        self.spark_conf = spark_conf

    def write(self, uri: str, arguments: dict[str, Any], metadata: dict[str, Any]) -> Snapshot:
        """Let Spark make the rows and its workers write them."""
        from mxpipe_spark import local_session, write_snapshot

        name = f"{self.dag_id}.{self.task_id}"
        with local_session(name, master=self.master, config=self.spark_conf) as spark:
            frame, notes = self.dataframe(spark, self.scratch, **arguments)
            return write_snapshot(frame, uri, sort_by=self.sort_by, metadata={**metadata, "notes": notes})
