"""A model behind MLflow's generic interface, and the settings that ``model_config`` may give it.

What enters: frames, records, columns or arrays, as MLflow hands them on. What leaves: NumPy arrays. Called by
``mlflow.pyfunc.load_model`` through the package's ``_load_pyfunc``, and so by MLflow's server, ``evaluate``
and Spark UDF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

import mxpipe
from mxpipe.errors import RequestError
from mxpipe.model import Model, Tensor

DEFAULT_MODEL_CONFIG: Mapping[str, Any] = {
    "device": "cpu",
    "threads": None,
    "precision": "float32",
    "output": "prediction",
}
"""Every setting with its default. A saved model lists them all: MLflow passes on only keys that it finds.

``device``: where to compute; this build knows ``cpu``. ``threads``: of the engine, in the whole process; None
leaves its number. ``precision``: ``float32`` or ``bfloat16``. ``output``: ``prediction``, or ``class`` for
class ids instead of probabilities, as ``mlflow.models.evaluate`` wants them from a classifier.
"""


@dataclass(frozen=True)
class ModelConfig:
    """Settings of a loaded model; see :data:`DEFAULT_MODEL_CONFIG`.

    Raises:
        MlflowException: A setting has a value that would have no effect.

    Example:
        >>> ModelConfig.from_mapping({"threads": 1}).precision
        'float32'
    """

    device: str = "cpu"
    threads: int | None = None
    precision: str = "float32"
    output: str = "prediction"

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cpu(0)"):
            raise _refused(
                f"device must be 'cpu', which is all that this build computes on; got {self.device!r}"
            )
        threads = self.threads
        if threads is not None and (type(threads) is not int or threads < 1):
            raise _refused(f"threads must be a positive integer; got {threads!r}")
        for name, known in (("precision", ("float32", "bfloat16")), ("output", ("prediction", "class"))):
            if getattr(self, name) not in known:
                raise _refused(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}")

    @staticmethod
    def from_mapping(settings: Mapping[str, Any] | None) -> ModelConfig:
        """Check settings that came from a user or from a file; what is left out has its default."""
        unknown = sorted(set(settings or {}) - set(DEFAULT_MODEL_CONFIG))
        if unknown:
            raise _refused(
                f"settings must be among {', '.join(DEFAULT_MODEL_CONFIG)}; got {', '.join(unknown)}"
            )
        return ModelConfig(**(settings or {}))


def _refused(text: str) -> MlflowException:
    return MlflowException(f"[model_config] {text}.", error_code=INVALID_PARAMETER_VALUE)


class PyfuncModel:
    """A model behind MLflow's generic interface.

    Args:
        model: The mxpipe model.
        output: ``prediction``, or ``class`` for the ids of the most probable classes.
    """

    def __init__(self, model: Model, output: str = "prediction") -> None:
        self._model = model
        self._output = output

    @staticmethod
    def load(path: str, config: ModelConfig) -> PyfuncModel:
        """Load a model folder with these settings."""
        if config.threads is not None:
            mxpipe.set_num_threads(config.threads)
        return PyfuncModel(mxpipe.model.load_model(path, precision=config.precision), config.output)

    def get_raw_model(self) -> Model:
        """The mxpipe model itself."""
        return self._model

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> np.ndarray[Any, Any]:
        """Predict from raw columns, or from arrays where the model takes those.

        Args:
            data: A pandas DataFrame, a mapping of columns or arrays, a list of records, or an array.
            params: Must be empty: the model takes none.

        Returns:
            float32, shape (n,), (n, k) or what rows the model gives; int64 of shape (n,) for classes.

        Raises:
            RequestError: A column or array is missing, of another type or shape.
        """
        if params:
            raise MlflowException(
                f"[params] the model takes no parameters; got {sorted(params)}.",
                error_code=INVALID_PARAMETER_VALUE,
            )
        tensors = self._model.tensors
        predictions = self._model.predict(_as_arrays(data, tensors) if tensors else _as_columns(data))
        return _classes(predictions) if self._output == "class" else predictions


def _classes(predictions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The most probable class; of one probability, whether it is at least a half."""
    if predictions.ndim == 1:
        return (predictions >= 0.5).astype(np.int64)
    return np.asarray(predictions.argmax(axis=-1), dtype=np.int64)


def _as_arrays(data: Any, tensors: Sequence[Tensor]) -> Any:
    if not isinstance(data, pd.DataFrame):
        return data
    if len(tensors) == 1 and tensors[0].name not in data.columns:
        columns = data.columns
        values = data[columns[0]].to_list() if len(columns) == 1 else data.to_numpy()
        return _rows(values, tensors[0])
    return {
        tensor.name: _rows(data[tensor.name].to_list(), tensor) for tensor in tensors if tensor.name in data
    }


def _rows(values: Any, tensor: Tensor) -> np.ndarray[Any, Any]:
    """Rows that a frame holds as flat or nested lists."""
    try:
        array = np.asarray([np.asarray(row) for row in values])
        return array.reshape((len(array), *tensor.shape))
    except ValueError as error:
        raise RequestError(
            f"[request] each row of tensor {tensor.name!r} must have the shape {tensor.shape}; {error}."
        ) from error


def _as_columns(data: Any) -> dict[str, Any]:
    if isinstance(data, Mapping):
        return dict(data)
    frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
    return {str(name): _as_column(frame[name]) for name in frame.columns}


def _as_column(series: pd.Series[Any]) -> Sequence[Any] | np.ndarray[Any, Any]:
    if pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_extension_array_dtype(
        series.dtype
    ):
        values: np.ndarray[Any, Any] = series.to_numpy()
        return values
    # Strings, objects, categories and nullable types: plain values, with None for what is missing.
    return [None if missing else value for value, missing in zip(series, series.isna(), strict=True)]
