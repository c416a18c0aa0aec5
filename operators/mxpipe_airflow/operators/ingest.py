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
        inputs = [self.partition, arguments, sources, digest_code(self.code_paths), *self.further_inputs()]
        place = digest_json(inputs)[:16]
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

    def further_inputs(self) -> list[Any]:
        """What else decides the rows, as JSON values: part of the snapshot's place."""
        return []

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


class MxpipeDaskIngestOperator(MxpipeIngestOperator):
    """Write a Dask DataFrame as an immutable snapshot, its shards by Dask's own workers.

    Args:
        dataframe: Called as ``dataframe(scratch, **arguments)`` while the cluster is there, where ``scratch``
            is a directory of this DAG that outlives its runs; returns the Dask DataFrame and a JSON-able
            dictionary of notes, which the snapshot's manifest keeps.
        partition: Names the piece of time, e.g. ``2013-01``. Templated.
        arguments: Keyword arguments of ``dataframe``. Templated.
        sort_by: Columns to arrange the rows by, so that the same rows give the same digest. Templated.
        sources: Returns the files that are read; their bytes are part of the snapshot's place.
        code_paths: Source files and folders that shape the rows. Templated.
        scheduler: Address of a running cluster; a cluster of this machine that ends with the task by default.
            Templated.
        workers: Worker processes of the latter. Templated.

    Example:
        >>> def flights(scratch, month):
        ...     import dask.dataframe
        ...     return dask.dataframe.read_parquet(f"/data/flights/{month}"), {"month": month}
        >>> MxpipeDaskIngestOperator(
        ...     task_id="ingest", dataframe=flights, partition="2013-01", arguments={"month": "2013-01"}
        ... ).workers
        2
    """

    template_fields: Sequence[str] = (
        *MxpipeIngestOperator.template_fields,
        "sort_by",
        "scheduler",
        "workers",
    )

    def __init__(
        self,
        *,
        dataframe: Callable[..., tuple[Any, Notes]],
        sort_by: Sequence[str] | None = None,
        scheduler: str | None = None,
        workers: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataframe = dataframe
        self.sort_by = sort_by
        self.scheduler = scheduler
        self.workers = workers

    def write(self, uri: str, arguments: dict[str, Any], metadata: dict[str, Any]) -> Snapshot:
        """Let Dask make the rows and its workers write them."""
        from mxpipe_dask import connect, write_snapshot

        with connect(self.scheduler, int(self.workers)):
            frame, notes = self.dataframe(self.scratch, **arguments)
            return write_snapshot(frame, uri, sort_by=self.sort_by, metadata={**metadata, "notes": notes})


class MxpipeFileIngestOperator(MxpipeIngestOperator):
    """Write the rows of files as an immutable snapshot, batch by batch, from this process.

    Args:
        files: A path, a folder or a pattern of Parquet, Arrow, CSV or JSON lines files, on any file system
            that fsspec knows: ``s3://lake/flights/2013-01/*.parquet``. Their content (on remote systems:
            what the system says of their version) is part of the snapshot's place. Templated.
        partition: Names the piece of time, e.g. ``2013-01``. Templated.
        columns: Columns to read; all by default. Templated.
        types: Types of columns by name, for CSV and JSON lines. Templated.
        sort_by: Columns to arrange the rows by; by default they stay in the order of the files' names and of
            the rows in them. Templated.

    Example:
        >>> MxpipeFileIngestOperator(
        ...     task_id="ingest", files="s3://lake/flights/{{ ds }}/*.parquet", partition="{{ ds }}"
        ... ).files
        's3://lake/flights/{{ ds }}/*.parquet'
    """

    template_fields: Sequence[str] = (
        *MxpipeIngestOperator.template_fields,
        "files",
        "columns",
        "types",
        "sort_by",
    )

    def __init__(
        self,
        *,
        files: str,
        columns: Sequence[str] | None = None,
        types: Mapping[str, str] | None = None,
        sort_by: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.files = files
        self.columns = columns
        self.types = types
        self.sort_by = sort_by

    def further_inputs(self) -> list[Any]:
        """What is read of which files."""
        from mxpipe.data import files_digest

        return [files_digest(self.files), self.columns, self.types, self.sort_by]

    def lineage(self, manifest: Manifest) -> Lineage:
        """The files as they are named, and the snapshot."""
        return Lineage([Data(self.files)], super().lineage(manifest).outputs)

    def write(self, uri: str, arguments: dict[str, Any], metadata: dict[str, Any]) -> Snapshot:
        """Stream the files into the snapshot."""
        from mxpipe.data import read_rows, write_snapshot

        rows = read_rows(self.files, columns=self.columns, types=self.types)
        notes = {"files": self.files}
        return write_snapshot(uri, rows, sort_by=self.sort_by, metadata={**metadata, "notes": notes})


class MxpipeSqlIngestOperator(MxpipeIngestOperator):
    """Write the result of a query as an immutable snapshot, batch by batch, from this process.

    Args:
        sql: The query, or the name of a ``.sql`` file; ``:name`` stands for an entry of ``arguments``.
            Templated.
        database: Id of an Airflow connection of a database. Templated.
        partition: Names the piece of time, e.g. ``2013-01``. Templated.
        arguments: Values of the query's parameters. Templated.
        version: A query whose result says whether the rows have changed, such as ``SELECT count(*),
            max(updated_at) FROM flights``: it is part of the snapshot's place. Without it the same query is
            read once. Templated.
        sort_by: Columns to arrange the rows by, so that the same rows give the same digest. Without it they
            stay in the query's order, which is as reproducible as its ORDER BY. Templated.
        types: Types of columns by name, where the first rows do not show them. Templated.
        batch_rows: Rows that are fetched at a time. Templated.

    Example:
        >>> MxpipeSqlIngestOperator(
        ...     task_id="ingest",
        ...     database="warehouse",
        ...     sql="SELECT id, carrier, distance FROM flights WHERE day < :before",
        ...     arguments={"before": "2013-02-01"},
        ...     sort_by=["id"],
        ...     partition="2013-01",
        ... ).database
        'warehouse'
    """

    template_fields: Sequence[str] = (
        *MxpipeIngestOperator.template_fields,
        *("sql", "database", "version", "sort_by", "types", "batch_rows"),
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: Mapping[str, str] = {"sql": "sql", "version": "sql"}

    def __init__(
        self,
        *,
        sql: str,
        database: str,
        version: str | None = None,
        sort_by: Sequence[str] | None = None,
        types: Mapping[str, str] | None = None,
        batch_rows: int = 50_000,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        self.database = database
        self.version = version
        self.sort_by = sort_by
        self.types = types
        self.batch_rows = batch_rows

    def further_inputs(self) -> list[Any]:
        """The query, and what its rows' version is now."""
        from mxpipe_airflow.sql import read_query, reading

        version = None
        if self.version:
            with reading(self.database) as opened:
                batches = list(read_query(opened, self.version))
            version = [
                [str(value) for value in row.values()] for batch in batches for row in batch.to_pylist()
            ]
        return [self.database, self.sql, version, self.sort_by, self.types]

    def write(self, uri: str, arguments: dict[str, Any], metadata: dict[str, Any]) -> Snapshot:
        """Stream the result into the snapshot."""
        from mxpipe.data import write_snapshot
        from mxpipe_airflow.sql import read_query, reading

        with reading(self.database) as opened:
            rows = read_query(opened, self.sql, arguments, types=self.types, rows=int(self.batch_rows))
            return write_snapshot(uri, rows, sort_by=self.sort_by, metadata={**metadata, "notes": {}})
