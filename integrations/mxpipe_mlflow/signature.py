"""MLflow's signature of a model: its raw columns or its tensors, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from mxpipe.model import Model, Tensor

_TYPES: Mapping[str, DataType] = {
    "bool": DataType.boolean,
    "int8": DataType.integer,
    "int16": DataType.integer,
    "int32": DataType.integer,
    "int64": DataType.long,
    "uint8": DataType.integer,
    "uint16": DataType.integer,
    "uint32": DataType.long,
    "float32": DataType.float,
    "float64": DataType.double,
    "string": DataType.string,
}


def column_type(dtype: str) -> DataType | None:
    """MLflow's type for a column's, or None where it has none (uint64)."""
    return _TYPES.get(dtype)


def infer_signature(model: Model) -> ModelSignature:
    """The MLflow signature of what a model takes and gives.

    A single tensor has no name, so that an array can be passed as it is; several go by name.

    Raises:
        MlflowException: A column has a type that MLflow's column schema lacks (uint64).
    """
    if model.tensors:
        inputs = [_tensor(tensor, named=len(model.tensors) > 1) for tensor in model.tensors]
        return ModelSignature(inputs=Schema(inputs), outputs=Schema([_tensor(model.output, named=False)]))
    columns = []
    for column in model.signature:
        kind = column_type(column.dtype)
        if kind is None:
            raise MlflowException(
                f"[column {column.name!r}] dtype must be one of {', '.join(_TYPES)}; got {column.dtype}.",
                error_code=INVALID_PARAMETER_VALUE,
            )
        columns.append(ColSpec(kind, column.name, required=column.required))
    width = len(model.output_names)
    output = ColSpec(DataType.float) if width == 1 else TensorSpec(np.dtype(np.float32), (-1, width))
    return ModelSignature(inputs=Schema(columns), outputs=Schema([output]))


def _tensor(tensor: Tensor, named: bool) -> TensorSpec:
    return TensorSpec(np.dtype(tensor.dtype), (-1, *tensor.shape), tensor.name if named else None)
