"""The driver of a batch prediction: stages, collects what the partitions tell, publishes all of it at once.

::

    predictions/                 a snapshot: keys and predictions, in the order of the rows
      manifest.json              counts, digests of model and rows, reasons of refusal
      shard-00000-00000-....arrow
      statistics.json            of inputs and predictions, for monitoring
      errors/                    a snapshot: rows that were refused, with reasons; absent without any
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from mxpipe.batch.model import PinnedModel
from mxpipe.batch.partition import PartitionTask
from mxpipe.batch.predictor import PredictionOptions
from mxpipe.data import Snapshot, SnapshotWriter, storage
from mxpipe.errors import DataError, SnapshotCorruptError
from mxpipe.model.storage import canonical_digest
from mxpipe.monitor import PredictionStatistics

ERRORS, STATISTICS, NOTES = "errors", "statistics.json", "predictions"
_REASONS_TOLD = 20


class Predictions:
    """Published predictions.

    Args:
        snapshot: The snapshot of keys and predictions.
        reused: Whether this call found them published.

    Attributes:
        uri: Where they lie.
        digest: Of all of it: predictions, refused rows, statistics.
        rows: Rows that were read.
        predicted: Rows with a prediction.
        refused: Rows without, by reason.
    """

    def __init__(self, snapshot: Snapshot, reused: bool = False) -> None:
        notes = snapshot.metadata.get(NOTES)
        if not isinstance(notes, dict):
            raise DataError(f"[batch] {snapshot.uri} must hold predictions; it is another snapshot.")
        self.snapshot, self.reused, self.notes = snapshot, reused, notes
        self.uri, self.digest = snapshot.uri, snapshot.digest
        self.rows, self.predicted = int(notes["rows"]), snapshot.num_rows
        self.refused: dict[str, int] = dict(notes["refused"])

    @classmethod
    def open(cls, uri: str | Path) -> Predictions:
        """Open what a batch prediction has published.

        Raises:
            DataError: There are no predictions at ``uri``.
            SnapshotCorruptError: The manifest is damaged.
        """
        return cls(Snapshot.open(uri), reused=True)

    @property
    def errors(self) -> Snapshot | None:
        """The refused rows: keys, ``error_partition``, ``error_row`` and the reasons; None without any."""
        return self.snapshot.inside(ERRORS)

    @property
    def statistics(self) -> PredictionStatistics:
        """Statistics of the inputs and the predictions."""
        content = self.snapshot.file(STATISTICS)
        if content is None:
            raise SnapshotCorruptError(f"[batch] {self.uri} must have statistics; it has none.")
        return PredictionStatistics.from_json(json.loads(content))

    def to_json(self) -> dict[str, Any]:
        """A manifest small enough to be handed on: where, how many, which digests."""
        refused = sorted(self.refused.items(), key=lambda item: (-item[1], item[0]))
        errors = self.errors
        return {
            "uri": self.uri,
            "digest": self.digest,
            "rows": self.rows,
            "predicted": self.predicted,
            "refused": sum(self.refused.values()),
            "reasons": dict(refused[:_REASONS_TOLD]),
            "errors_uri": None if errors is None else errors.uri,
            "model_digest": self.notes["model"],
            "input_digest": self.notes["input"],
            "reused": self.reused,
        }

    def __repr__(self) -> str:
        return f"Predictions({self.uri!r}, rows={self.rows}, refused={sum(self.refused.values())})"


class PredictionWriter:
    """The driver's side; a context manager. What is finished when it fails is not computed again.

    Args:
        uri: Where to publish: a path or fsspec URL that driver and workers see alike.
        model: The model, pinned.
        options: How it is applied.
        input_digest: Names the rows. Without it the rows count as new ones on every call: nothing that an
            earlier call has left is used.
        threads: Threads of the engine in a worker; None leaves its setting.

    Raises:
        StorageError: The place cannot be written, or another process is writing it.
        SpecificationError: Names of keys, required columns and outputs do not go together.

    Attributes:
        task: What workers need, see ``predict_partition`` and ``predict_shard``.
    """

    def __init__(
        self,
        uri: str | Path,
        model: PinnedModel,
        options: PredictionOptions,
        *,
        input_digest: str | None = None,
        threads: int | None = None,
    ) -> None:
        self._notes = notes_of(model, options, input_digest)
        # Without a digest of the rows nothing that is left behind could be told to be theirs.
        self._writer = SnapshotWriter(uri, resume=input_digest is not None)
        self.task = PartitionTask(
            self._writer.staging_uri,
            self._writer.staging_inside(ERRORS),
            model,
            options,
            input_digest or uuid.uuid4().hex,
            threads,
        )

    def __enter__(self) -> PredictionWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def commit(self, parts: Iterable[str]) -> Predictions:
        """Merge what the partitions tell and publish.

        Args:
            parts: What ``predict_partition`` returned, in any order; a repeated task may tell twice.

        Raises:
            DataError: No row was predicted, or the place holds something else.
            StorageError: The disk is full or refuses; nothing was published.
        """
        rows, refused = 0, Counter[str]()
        records: list[Any] = []
        errors: list[Any] = []
        statistics: PredictionStatistics | None = None
        for name in sorted(set(parts)):
            part = json.loads(storage.read_file(self.task.staging_uri, name))
            rows += part["rows"]
            refused.update(part["refused"])
            records += part["records"]
            errors += part["errors"]
            of_part = PredictionStatistics.from_json(part["statistics"])
            if statistics is None:
                statistics = of_part
            else:
                statistics.merge(of_part)
        if statistics is None or not statistics.rows:
            told = ", ".join(f"{count} x {reason}" for reason, count in refused.most_common(5))
            raise DataError(
                f"[batch] at least one row must be predicted; got {rows} rows{told and f', refused: {told}'}."
            )
        notes = {**self._notes, "rows": rows, "refused": dict(sorted(refused.items()))}
        snapshot = self._writer.commit(
            records,
            metadata={NOTES: notes},
            inside={ERRORS: errors},
            files={STATISTICS: json.dumps(statistics.to_json(), sort_keys=True).encode()},
        )
        return Predictions(snapshot)


def notes_of(model: PinnedModel, options: PredictionOptions, input_digest: str | None) -> dict[str, Any]:
    """What a manifest says of the inputs of its predictions."""
    return {"model": model.digest, "input": input_digest, "options": options.to_json()}


def find_predictions(
    uri: str | Path, model: PinnedModel, options: PredictionOptions, input_digest: str
) -> Predictions | None:
    """Predictions of the same rows by the same model in the same way, where they are published already.

    Raises:
        SnapshotCorruptError: What is there is damaged.
    """
    try:
        found = Predictions.open(uri)
    except SnapshotCorruptError:
        raise
    except DataError:
        return None
    wanted = notes_of(model, options, input_digest)
    return found if all(found.notes.get(name) == value for name, value in wanted.items()) else None


def place_name(model: PinnedModel, options: PredictionOptions, input_digest: str) -> str:
    """A folder name that follows from the rows, the model and the options."""
    return canonical_digest(notes_of(model, options, input_digest))[:16]
