"""One partition of a batch prediction: what a worker does, in whatever engine, and may do twice.

Rows are taken in batches of a fixed size, so that the bytes of a partition's predictions depend on its rows
alone and not on how they arrive. What is written has names that follow from its content; last of all comes
the partition's record, under a name that follows from the source, the model and the options. A repeated or
speculative task writes the same bytes; one that finds the record does nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mxpipe.batch.model import ModelFiles, PinnedModel, load_pinned
from mxpipe.batch.predictor import PredictionOptions, Predictor, counted
from mxpipe.data import Snapshot, storage, write_shard, write_shards
from mxpipe.model.storage import canonical_digest
from mxpipe.monitor import PredictionStatistics

if TYPE_CHECKING:
    import pyarrow

ERROR_ROWS_HELD = 1 << 16


@dataclass(frozen=True)
class PartitionTask:
    """What a worker has to know; plain data that travels.

    Attributes:
        staging_uri: Where predictions are written.
        errors_uri: Where refused rows are written.
        model: The model, pinned.
        options: How it is applied.
        input_digest: Names the rows of all partitions together.
        threads: Threads of the engine in a worker; None leaves its setting.
    """

    staging_uri: str
    errors_uri: str
    model: PinnedModel
    options: PredictionOptions
    input_digest: str
    threads: int | None

    def part_name(self, partition: int, source: str = "") -> str:
        """Name of a partition's record: it follows from rows, model and options.

        Args:
            partition: Number of the partition.
            source: Digest of the partition's rows where it is known; else the digest of all rows counts.
        """
        digest = canonical_digest(
            [source or self.input_digest, self.model.digest, self.options.to_json(), partition]
        )
        return f"part-{partition:05d}-{digest[:16]}.json"

    def predictor(self, files: Callable[[], ModelFiles] | None = None) -> Predictor:
        """The model in this process, ready."""
        return make_predictor(self.model, self.options, self.threads, files)


def make_predictor(
    model: PinnedModel,
    options: PredictionOptions,
    threads: int | None,
    files: Callable[[], ModelFiles] | None = None,
) -> Predictor:
    """A pinned model in this process.

    Args:
        model: The model.
        options: How it is applied.
        threads: Threads of the engine; None leaves its setting.
        files: Gives the model's files on a host that does not see the driver's folder.
    """
    import mxpipe

    if threads is not None and mxpipe.get_num_threads() != threads:
        mxpipe.set_num_threads(threads)
    return Predictor(load_pinned(model, files), options)


def predict_partition(
    task: PartitionTask,
    partition: int,
    data: Any,
    *,
    source: str = "",
    files: Callable[[], ModelFiles] | None = None,
) -> str:
    """Predict one partition, or find that it is done; safe to call from any process and to repeat.

    Args:
        task: From the driver's ``PredictionWriter``.
        partition: Number of the partition.
        data: Its rows as Arrow data, read batch by batch.
        source: Digest of its rows, where known.
        files: Gives the model's files on a host that does not see the driver's folder.

    Returns:
        The name of its record, for the driver.

    Raises:
        SchemaError: The rows lack a column, or hold one that can never be read.
        StorageError: A file could not be written; nothing of it is left.
    """
    name = task.part_name(partition, source)
    if storage.read_file_if_there(task.staging_uri, name) is None:
        record = _Partition(task, partition, task.predictor(files)).run(data)
        storage.write_file(
            task.staging_uri, lambda _: name, lambda file: file.write(json.dumps(record).encode())
        )
    return name


def predict_shard(
    task: PartitionTask,
    snapshot_uri: str,
    index: int,
    *,
    files: Callable[[], ModelFiles] | None = None,
) -> str:
    """Predict one shard of a snapshot as one partition, see ``predict_partition``.

    Raises:
        SnapshotCorruptError: The shard does not match its digest.
    """
    snapshot = Snapshot.open(snapshot_uri)
    shard = snapshot.shards[index]

    def rows() -> Iterator[pyarrow.Table]:
        columns = task.predictor(files).columns_of(list(snapshot.column_types))
        yield snapshot.shard_table(shard, columns)

    return predict_partition(task, index, rows(), source=shard.sha256, files=files)


@dataclass
class _Partition:
    """The state of one partition at work."""

    task: PartitionTask
    partition: int
    predictor: Predictor
    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    errors: list[Any] = field(default_factory=list)  # records of written shards
    waiting: list[Any] = field(default_factory=list)  # tables of refused rows

    def run(self, data: Any) -> dict[str, Any]:
        """Predict everything; returns the partition's record as JSON values."""
        self.statistics = PredictionStatistics.of_model(self.predictor.model)
        records = [
            record.to_json()
            for record in write_shards(
                self.task.staging_uri,
                self.partition,
                self._predictions(data),
                rows_per_shard=self.task.options.rows_per_shard,
            )
        ]
        self._write_errors()
        self.statistics.failed += self.refused.total()
        return {
            "partition": self.partition,
            "rows": self.rows,
            "refused": dict(sorted(self.refused.items())),
            "records": records,
            "errors": [record.to_json() for record in self.errors],
            "statistics": self.statistics.to_json(),
        }

    def _predictions(self, data: Any) -> Iterator[Any]:
        for table in self.predictor.tables(data):
            predictions, errors, scored = self.predictor.split(table, self.partition, self.rows)
            self.rows += table.num_rows
            columns, values = scored.columns, scored.values
            if errors is not None:
                self.refused += counted(scored.refused)
                self.waiting.append(errors)
                kept = np.isfinite(values).all(axis=1)
                columns = {name: column.filter(kept) for name, column in columns.items()}
                values = values[kept]
            if len(values):
                self.statistics.update(columns, values)
            if sum(waiting.num_rows for waiting in self.waiting) >= ERROR_ROWS_HELD:
                self._write_errors()
            yield predictions

    def _write_errors(self) -> None:
        if self.waiting:
            record = write_shard(
                self.task.errors_uri, self.partition, self.waiting, sequence=len(self.errors)
            )
            self.errors.append(record)
            self.waiting = []
