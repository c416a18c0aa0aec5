"""Models in memory: saving a net with its preprocessing, and predicting from raw columns."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mxpipe.errors import DataError, GraphError, ModelFormatError, RequestError
from mxpipe.model.format import (
    MODEL_FILE,
    Activation,
    Column,
    ModelDescription,
    default_output_names,
    read_model,
    write_model,
)

if TYPE_CHECKING:
    from mxpipe._native import Array
    from mxpipe.data import Preprocessor
    from mxpipe.inspection import PlanView


def save_model(
    path: str | os.PathLike[str],
    net: Any,
    preprocessor: Preprocessor,
    signature: Sequence[Column] | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    activation: Activation = "identity",
    output_names: Sequence[str] | None = None,
    before_publish: Callable[[], None] = lambda: None,
) -> str:
    """Save a net as a model folder that takes raw columns.

    Args:
        path: The folder to create or replace.
        net: A `HybridBlock` called as `net(numeric, categorical)`: float32 (n, k) and int32 (n, c). Its rows
            must not depend on each other in predict mode.
        preprocessor: What turns raw columns into these two.
        signature: The raw columns; those of the preprocessor by default.
        metadata: Free JSON values.
        activation: What is applied to the net's output: "sigmoid" and "softmax" make probabilities of logits.
        output_names: A name a column of the result.
        before_publish: Called when all is on the disk and the folder has not its name yet.

    Returns:
        The model's digest.

    Raises:
        StorageError: The disk is full; nothing of the new model remains.

    Example:
        >>> digest = save_model("models/late", net, preprocessor, activation="sigmoid")  # doctest: +SKIP
        >>> load_model("models/late").predict({"distance": [200.0], "carrier": ["UA"]})  # doctest: +SKIP
        array([0.31], dtype=float32)
    """
    from mxpipe.model.tracing import trace_net

    graph, parameters, width = trace_net(net, preprocessor, activation)
    if signature is None:
        signature = [Column(name, dtype) for name, dtype in preprocessor.column_types.items()]
    description = ModelDescription(
        graph=json.loads(graph.to_json()),
        inputs=("numeric", "categorical"),
        parameters=tuple(parameters),
        output_names=tuple(output_names or default_output_names(width)),
        signature=tuple(signature),
        preprocessing=preprocessor.to_json(),
        metadata=dict(metadata or {}),
        versions={"mxpipe": importlib.metadata.version("mxpipe")},
    )
    weights = {name: np.asarray(array.asnumpy()) for name, array in parameters.items()}
    return write_model(path, description, weights, before_publish)


def load_model(path: str | os.PathLike[str]) -> Model:
    """Load a model folder.

    Raises:
        ModelFormatError: A file or field is missing, damaged or unknown; the message names both. Nothing in
            the folder is ever executed.
    """
    return Model(path)


class Model:
    """A loaded model. All methods may be called from several threads at once.

    Attributes:
        path: The folder it was loaded from.
        digest: SHA-256 that names its contents.
        signature: The raw columns, see :class:`Column`.
        output_names: A name a column of the result.
        metadata: What was saved with it.
        preprocessor: Turns raw columns into the net's inputs.
        weights: The parameters by name, read-only.
        graph: What is computed, from the net's inputs and the parameters in the order of `weights`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Load and check a model folder; see :func:`load_model`."""
        from mxpipe import _native
        from mxpipe.data import Preprocessor
        from mxpipe.gluon import Session

        self.path = Path(path)
        self._description, weights, self.digest = read_model(path)
        self.weights = {name: weights[name] for name in self._description.parameters}
        self.signature = self._description.signature
        self.output_names = self._description.output_names
        self.metadata = self._description.metadata
        with _checked_field(self.path, "preprocessing"):
            self.preprocessor = Preprocessor.from_json(self._description.preprocessing)
            self.preprocessor.transform(_missing_rows(self.preprocessor, 1))
        with _checked_field(self.path, "graph"):
            self.graph = _native.Graph.from_json(json.dumps(self._description.graph))
            self._check_graph()
            self._session = Session(self.graph, [_mapped(values) for values in self.weights.values()])

    def _check_graph(self) -> None:
        """The graph must take what the preprocessor and the weights give, and give what was promised."""
        width = {
            "numeric": self.preprocessor.numeric_width,
            "categorical": len(self.preprocessor.categorical),
        }
        expected = [(width[name],) for name in self._description.inputs]
        expected += [tuple(values.shape) for values in self.weights.values()]
        given = [tuple(shape) for _, shape, _ in self.graph.inputs]
        rows = len(self._description.inputs)
        given[:rows] = [shape[1:] for shape in given[:rows]]
        if given != expected:
            raise GraphError(f"[graph] the inputs must have the shapes {expected}; got {given}.")
        outputs = [shape[1] if len(shape) == 2 else 1 for _, shape, _ in self.graph.outputs]
        if outputs != [len(self.output_names)]:
            raise GraphError(
                f"[graph] there must be one output of {len(self.output_names)} columns; got {outputs}."
            )

    def predict(self, columns: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Predict from raw columns.

        Args:
            columns: For each column of the signature a value per row: NumPy arrays, pandas or Arrow columns,
                or sequences. None and NaN are missing values; they and categories that training did not see
                are allowed (a category becomes the out-of-vocabulary id 0). Further columns are ignored.

        Returns:
            float32 (n,) for one output, else (n, k).

        Raises:
            RequestError: A column is missing, of another type or length; the message names it.
        """
        inputs = self._transform(columns)
        rows = len(inputs["numeric"])
        results: npt.NDArray[np.float32] = self._session(*[inputs[name] for name in self._description.inputs])
        return results.reshape(rows) if results.ndim == 2 and results.shape[1] == 1 else results

    def _transform(self, columns: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        present = set(getattr(columns, "column_names", columns))
        for column in self.signature:
            if column.required and column.name not in present:
                raise RequestError(
                    f"[request] column {column.name!r} ({column.dtype}) must be given; got {sorted(present)}."
                )
        try:
            return self.preprocessor.transform(columns)
        except DataError as error:  # SchemaError too: here the columns are the client's
            raise RequestError(str(error)) from error

    def graph_for(self, rows: int) -> Any:
        """The model's graph with the types of a batch of so many rows."""
        return self._session.graph_for(rows)

    def inspect(self, rows: int, runs: int = 0) -> PlanView:
        """The plan for a batch of so many rows: kernels, bytes, operations, memory.

        Args:
            rows: The batch.
            runs: How many times it is run over zeros, each step timed; 0 does not run it.
        """
        from mxpipe import np as mx_np
        from mxpipe.inspection import profile, view

        compiled = self._session.plan(rows)
        if runs < 1:
            return view(compiled)
        count = len(self._description.inputs)
        batch = [mx_np.zeros(shape, dtype=dtype) for _, shape, dtype in self.graph_for(rows).inputs[:count]]
        with profile() as seen:
            for _ in range(runs):
                compiled(*batch)
        return seen.plans[-1]

    def warm_up(self) -> npt.NDArray[np.float32]:
        """Prepare all batch sizes, so that no request waits for it.

        Returns:
            The prediction for one row of missing values, float32 (1,) or (1, k).
        """
        for size in reversed(self._session.sizes):
            result = self.predict(_missing_rows(self.preprocessor, size))
        return result

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r}, columns={len(self.signature)}, digest={self.digest[:12]})"


@contextlib.contextmanager
def _checked_field(folder: Path, field: str) -> Iterator[None]:
    """Name file and field, whatever a parser has raised over values that nobody vouches for."""
    try:
        yield
    except Exception as error:
        raise ModelFormatError(
            f"[{folder / MODEL_FILE}] {field!r} must be whole; got {type(error).__name__}: {error}"
        ) from error


def _missing_rows(preprocessor: Preprocessor, rows: int) -> dict[str, Any]:
    """Columns without a value."""
    return {
        name: [None] * rows if dtype == "string" else np.full(rows, np.nan)
        for name, dtype in preprocessor.column_types.items()
    }


def _mapped(values: npt.NDArray[Any]) -> Array:
    """An array over the pages of the model's file, which all processes that load it share."""
    from mxpipe import _native

    return _native.array(values) if values.flags.writeable else _native.map_array(values)
