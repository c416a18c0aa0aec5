"""Snapshots as MLflow datasets: ``mlflow.log_input(from_snapshot(snapshot), context="training")``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from mlflow.data.dataset import Dataset
from mlflow.data.evaluation_dataset import EvaluationDataset
from mlflow.data.pyfunc_dataset_mixin import PyFuncConvertibleDatasetMixin, PyFuncInputsOutputs
from mlflow.entities import DatasetInput, InputTag
from mlflow.types import ColSpec, DataType, Schema

from mxpipe.data import Snapshot
from mxpipe_mlflow.dataset_source import SnapshotSource
from mxpipe_mlflow.lineage import describe
from mxpipe_mlflow.signature import column_type

_DIGEST_LENGTH = 32  # MLflow takes at most 36 characters; the source holds all 64


class SnapshotDataset(Dataset, PyFuncConvertibleDatasetMixin):
    """A snapshot as MLflow shows it: name, digest, schema, size, and where it lies.

    Args:
        facts: What :func:`mxpipe_mlflow.lineage.describe` gave; the snapshot itself need not be there.
        name: Name; the folder's own by default.
        targets: Column of the labels, for :func:`mlflow.models.evaluate`, which asks for it by this name.
    """

    def __init__(self, facts: Mapping[str, Any], name: str | None = None, targets: str | None = None) -> None:
        self._facts = dict(facts)
        self.targets = targets
        source = SnapshotSource(facts["uri"], facts["digest"])
        super().__init__(source, name or PurePosixPath(facts["uri"]).name or "snapshot")

    def _compute_digest(self) -> str:
        return str(self._facts["digest"])[:_DIGEST_LENGTH]

    @property
    def profile(self) -> dict[str, Any]:
        """Rows, columns and bytes."""
        facts = self._facts
        return {"num_rows": facts["rows"], "num_columns": len(facts["columns"]), "num_bytes": facts["bytes"]}

    @property
    def schema(self) -> Schema:
        """The columns in MLflow's types; a type that it lacks is shown as its nearest."""
        return Schema([ColSpec(_shown_type(dtype), name) for name, dtype in self._facts["columns"].items()])

    def to_dict(self) -> dict[str, str]:
        """As MLflow stores it."""
        schema = json.dumps({"mlflow_colspec": self.schema.to_dict()})
        fields: dict[str, str] = super().to_dict()
        return fields | {"schema": schema, "profile": json.dumps(self.profile)}

    def to_pyfunc(self) -> PyFuncInputsOutputs:
        """The rows as what a pyfunc model takes, and its labels."""
        frame = self._frame()
        if self.targets is None:
            return PyFuncInputsOutputs([frame])
        return PyFuncInputsOutputs([frame.drop(columns=[self.targets])], [frame[self.targets]])

    def to_evaluation_dataset(
        self, path: str | None = None, feature_names: list[str] | None = None
    ) -> EvaluationDataset:
        """The rows for :func:`mlflow.models.evaluate`."""
        return EvaluationDataset(
            data=self._frame(),
            targets=self.targets,
            path=path,
            feature_names=feature_names,
            name=self.name,
            digest=self.digest,
        )

    def _frame(self) -> Any:
        frame = self.source.load().to_table().to_pandas()
        # MLflow's explainer asks NumPy about the type of every column, and that knows none of pandas' own.
        texts = [name for name, dtype in self._facts["columns"].items() if dtype == "string"]
        return frame.astype(dict.fromkeys(texts, object))


def _shown_type(dtype: str) -> DataType:
    known = column_type(dtype)
    if known is not None:
        return known
    if dtype.startswith(("timestamp", "date")):
        return DataType.datetime
    return {"uint64": DataType.long, "float16": DataType.float}.get(dtype, DataType.string)


def from_snapshot(
    snapshot: Snapshot | str, name: str | None = None, targets: str | None = None
) -> SnapshotDataset:
    """A snapshot as an MLflow dataset.

    Args:
        snapshot: The snapshot or its URI.
        name: Name; the folder's own by default.
        targets: Column of the labels, for :func:`mlflow.models.evaluate`.

    Raises:
        DataError: There is no snapshot.
    """
    opened = snapshot if isinstance(snapshot, Snapshot) else Snapshot.open(snapshot)
    return SnapshotDataset(describe(opened), name, targets)


def dataset_inputs(inputs: Mapping[str, Mapping[str, Any]]) -> list[DatasetInput]:
    """What :func:`mxpipe_mlflow.lineage.inputs_of` gave, as the client logs it."""
    return [
        DatasetInput(SnapshotDataset(facts)._to_mlflow_entity(), [InputTag("mlflow.data.context", use)])
        for use, facts in inputs.items()
    ]
