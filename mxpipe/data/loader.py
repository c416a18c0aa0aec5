"""The loader: batches of tensors from a snapshot, in an order that can be resumed at the exact row.

What enters: a snapshot and a preprocessor. What leaves: batches, gathered by native code straight from the
memory-mapped shards into the batch (each output byte is written once), a few batches ahead of the consumer.

The order is a function of (seed, epoch, position) and of the number of rows, by a keyed permutation that
gives any position without a table: no thread count, batch size or history changes it.

Memory holds the batches that are prepared ahead, and of the shards what the system chooses to keep cached: a
snapshot may be larger than memory, though shuffling one then reads the disk at random.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mxpipe import _native
from mxpipe.data import _arrow
from mxpipe.errors import DataError, MxpipeError, SchemaError, SpecificationError

if TYPE_CHECKING:
    from mxpipe.data.preprocess import Preprocessor
    from mxpipe.data.snapshot import Snapshot

STATE_VERSION = 1


class Batch(NamedTuple):
    """One batch of arrays (``mx.np.ndarray``), ready for a network.

    Attributes:
        numeric: float32, shape (n, preprocessor.numeric_width).
        categorical: int32 ids, shape (n, number of categorical columns).
        label: float32, shape (n,).
    """

    numeric: _native.Array
    categorical: _native.Array
    label: _native.Array


@dataclass(frozen=True)
class LoaderProgress:
    """Where a loader is, as its progress hook is told.

    Attributes:
        epoch: Epoch, from 0.
        rows: Rows of this epoch that were handed out.
        total_rows: Rows that an epoch hands out.
        rows_per_second: Mean rate since iteration began.
    """

    epoch: int
    rows: int
    total_rows: int
    rows_per_second: float


class Loader:
    """Iterate over a snapshot in batches; each ``for`` loop runs through (the rest of) one epoch.

    Args:
        snapshot: The rows. Every shard's digest is checked before it is used.
        preprocessor: Turns raw columns into model inputs.
        label: Column of the label; the preprocessor's features name it by default.
        batch_size: Rows of a batch.
        seed: Seed of the order.
        shuffle: Whether to shuffle; the snapshot's own order otherwise.
        drop_last: Whether to leave out a last batch that is not full.
        threads: Worker threads that gather batches; they do not change the order.
        prefetch: Batches that are prepared ahead; memory is bounded by them.
        progress: Called with a ``LoaderProgress`` after each batch was handed out.

    Raises:
        SchemaError: A column is missing or its type does not suit its role; the error names it.
        DataError: The label is null somewhere.
        SnapshotCorruptError: A shard does not match its digest; the error names the file.

    Example:
        >>> import tempfile
        >>> from mxpipe.data import FeatureSpec, Preprocessor, write_snapshot
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rows = write_snapshot(f"{folder}/rows", {"x": [1.0, 2.0, 3.0], "late": [0, 1, 0]})
        ...     preprocessor = Preprocessor.fit(rows, FeatureSpec(numeric=["x"], label="late"))
        ...     loader = Loader(rows, preprocessor, batch_size=2, seed=7)
        ...     sizes = [batch.numeric.shape for batch in loader]
        >>> sizes
        [(2, 1), (1, 1)]
    """

    def __init__(
        self,
        snapshot: Snapshot,
        preprocessor: Preprocessor,
        label: str | None = None,
        batch_size: int = 256,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        threads: int = 1,
        prefetch: int = 4,
        progress: Callable[[LoaderProgress], None] | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("threads", threads), ("prefetch", prefetch)):
            if value < 1:
                raise SpecificationError(f"[loader] {name} must be at least 1; got {value}.")
        label = label or preprocessor.features.label
        if label is None:
            raise SpecificationError(
                "[loader] a label column must be given; got none here or in the features."
            )
        _require_label(snapshot, label)
        self._snapshot, self._preprocessor = snapshot, preprocessor
        self._batch_size, self._prefetch, self._progress = batch_size, prefetch, progress
        self._settings: dict[str, Any] = {
            "version": STATE_VERSION,
            "snapshot": snapshot.digest,
            "seed": seed,
            "shuffle": shuffle,
            "batch_size": batch_size,
            "drop_last": drop_last,
        }
        self._epoch = self._position = 0
        self._epoch_rows = snapshot.num_rows
        if drop_last:
            self._epoch_rows -= snapshot.num_rows % batch_size
        self._iteration = 0
        self._engine = _native.DependencyEngine(threads)
        columns = [*preprocessor.features.columns, label]
        source = _native.RowSource(columns)
        for shard in snapshot.shards:
            for batch in snapshot.shard_table(shard, columns).to_batches():
                source.append(batch)
        self._gather = preprocessor.gather(source, label)

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to, from 0."""
        return self._epoch

    @property
    def position(self) -> int:
        """Rows of this epoch that were handed out."""
        return self._position

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return -(-self._epoch_rows // self._batch_size)

    def rows(self, start: int, count: int, epoch: int | None = None) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Row numbers (in the snapshot) at positions start..start+count of an epoch, int64 of shape (count,).

        Raises:
            DataError: The positions lie outside the snapshot.
        """
        order = self._order(self._epoch if epoch is None else epoch)
        rows: np.ndarray[Any, np.dtype[np.int64]] = order.rows(start, count)
        return rows

    def state(self) -> dict[str, Any]:
        """Where the loader is: JSON-able, and all that ``restore`` needs to go on with the very next row.

        Batches that were prefetched but not handed out do not count. After the last batch of an epoch the
        position is the end of that epoch, until its loop has ended.
        """
        return {**self._settings, "epoch": self._epoch, "position": self._position}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to where another loader was. A loop that is running over this loader must not be continued.

        Raises:
            DataError: The state belongs to another snapshot, seed, batch size or order.
        """
        for name, value in self._settings.items():
            if state.get(name) != value:
                raise DataError(
                    f"[loader] field {name!r} of the state must be {value!r}; got {state.get(name)!r}."
                )
        epoch, position = state.get("epoch"), state.get("position")
        if not isinstance(epoch, int) or epoch < 0:
            raise DataError(f"[loader] field 'epoch' of the state must be a count; got {epoch!r}.")
        if not isinstance(position, int) or not 0 <= position <= self._epoch_rows:
            raise DataError(
                f"[loader] field 'position' of the state must be in 0..{self._epoch_rows}; got {position!r}."
            )
        self._epoch, self._position = epoch, position
        self._iteration += 1

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the current position to the end of the epoch."""
        self._iteration += 1
        return self._batches(self._iteration)

    def _batches(self, iteration: int) -> Iterator[Batch]:
        order = self._order(self._epoch)
        waiting: deque[tuple[Any, Batch, int]] = deque()
        began, first, pushed = time.monotonic(), self._position, self._position
        try:
            while True:
                while len(waiting) < self._prefetch and pushed < self._epoch_rows:
                    count = min(self._batch_size, self._epoch_rows - pushed)
                    waiting.append((*self._push(order, pushed, count), pushed + count))
                    pushed += count
                if not waiting:
                    break
                variable, batch, stop = waiting.popleft()
                self._engine.wait(variable)
                if iteration != self._iteration:
                    raise DataError("[loader] one loop at a time must run over a loader; got a second one.")
                self._position = stop
                if self._progress is not None:
                    rate = (stop - first) / max(time.monotonic() - began, 1e-9)
                    self._progress(LoaderProgress(self._epoch, stop, self._epoch_rows, rate))
                yield batch
            if iteration == self._iteration:
                self._epoch, self._position = self._epoch + 1, 0
        finally:
            # The consumer left the loop early: errors of batches that it never asked for end with them.
            for variable, _, _ in waiting:
                with contextlib.suppress(MxpipeError):
                    self._engine.wait(variable)

    def _push(self, order: Any, start: int, count: int) -> tuple[Any, Batch]:
        where = f"Loader, epoch {self._epoch}, rows {start}..{start + count}"
        variable, *arrays = self._gather.push_batch(self._engine, order, start, count, where)
        return variable, Batch(*arrays)

    def _order(self, epoch: int) -> Any:
        seed = self._settings["seed"] if self._settings["shuffle"] else None
        return _native.RowOrder(self._snapshot.num_rows, seed, epoch)


def _require_label(snapshot: Snapshot, label: str) -> None:
    snapshot.require_columns([label])
    column = snapshot.statistics[label]
    if column.type not in _arrow.NUMERIC_TYPES:
        raise SchemaError(f"[loader] label column {label!r} must be numeric or bool; got {column.type}.")
    if column.nulls + column.nonfinite:
        raise DataError(
            f"[loader] label column {label!r} must have a value in every row of {snapshot.uri}; got "
            f"{column.nulls + column.nonfinite} null or not finite in {column.rows} rows."
        )
