"""Models in memory: saving a net with what it takes, and predicting from raw columns or from arrays."""

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

from mxpipe.errors import GraphError, ModelFormatError
from mxpipe.model.format import (
    MODEL_FILE,
    Activation,
    Column,
    ModelDescription,
    Tensor,
    default_output_names,
    read_model,
    write_model,
)
from mxpipe.model.inputs import ColumnInputs, Inputs, TensorInputs

if TYPE_CHECKING:
    from mxpipe._native import Array
    from mxpipe.data import Preprocessor
    from mxpipe.inspection import PlanView


def save_model(
    path: str | os.PathLike[str],
    net: Any,
    preprocessor: Preprocessor | None = None,
    signature: Sequence[Column] | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    tensors: Sequence[Tensor] = (),
    activation: Activation = "identity",
    output_names: Sequence[str] | None = None,
    before_publish: Callable[[], None] = lambda: None,
) -> str:
    """Save a net as a model folder that takes raw columns, or arrays.

    Args:
        path: The folder to create or replace.
        net: A `HybridBlock`, called as `net(numeric, categorical)`, float32 (n, k) and int32 (n, c), or with
            an array for each of `tensors`. Its rows must not depend on each other in predict mode.
        preprocessor: What turns raw columns into these two; exactly one of this and `tensors`.
        signature: The raw columns; those of the preprocessor by default.
        metadata: Free JSON values.
        tensors: The arrays that the net takes, such as images or sequences.
        activation: What is applied to the net's output: "sigmoid" and "softmax" make probabilities of logits.
        output_names: A name a column of the result; one name where rows are not scalars or vectors.
        before_publish: Called when all is on the disk and the folder has not its name yet.

    Returns:
        The model's digest.

    Raises:
        StorageError: The disk is full; nothing of the new model remains.
        ModelFormatError: Neither or both of `preprocessor` and `tensors` are given.

    Example:
        >>> digest = save_model("models/late", net, preprocessor, activation="sigmoid")  # doctest: +SKIP
        >>> load_model("models/late").predict({"distance": [200.0], "carrier": ["UA"]})  # doctest: +SKIP
        array([0.31], dtype=float32)

        >>> import tempfile, mxpipe as mx
        >>> net = mx.gluon.nn.Conv2D(2, kernel_size=3, in_channels=1)
        >>> net.initialize()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     digest = save_model(f"{folder}/m", net, tensors=[Tensor("image", "float32", (1, 8, 8))])
        ...     load_model(f"{folder}/m").predict(np.zeros((5, 1, 8, 8))).shape
        (5, 2, 6, 6)
    """
    from mxpipe.model.tracing import trace_net

    if (preprocessor is None) == (not tensors):
        raise ModelFormatError("[save_model] exactly one of preprocessor and tensors must be given.")
    if preprocessor is not None:
        tensors = (
            Tensor("numeric", "float32", (preprocessor.numeric_width,)),
            Tensor("categorical", "int32", (len(preprocessor.categorical),)),
        )
        if signature is None:
            signature = [Column(name, dtype) for name, dtype in preprocessor.column_types.items()]
    graph, parameters, width = trace_net(net, tensors, activation)
    description = ModelDescription(
        graph=json.loads(graph.to_json()),
        inputs=tuple(tensor.name for tensor in tensors),
        parameters=tuple(parameters),
        output_names=tuple(output_names or default_output_names(width, activation)),
        signature=tuple(signature or ()),
        preprocessing={} if preprocessor is None else preprocessor.to_json(),
        metadata=dict(metadata or {}),
        versions={"mxpipe": importlib.metadata.version("mxpipe")},
        tensors=tuple(tensors) if preprocessor is None else (),
    )
    weights = {name: np.asarray(array.asnumpy()) for name, array in parameters.items()}
    return write_model(path, description, weights, before_publish)


def load_model(path: str | os.PathLike[str], precision: str | None = None) -> Model:
    """Load a model folder.

    Args:
        path: The folder.
        precision: "bfloat16" predicts with matrix work in bfloat16; None takes what `amp.init` chose.

    Raises:
        ModelFormatError: A file or field is missing, damaged or unknown; the message names both. Nothing in
            the folder is ever executed.
        BlockError: The precision is not known.
    """
    return Model(path, precision)


class Model:
    """A loaded model. All methods may be called from several threads at once.

    Attributes:
        path: The folder it was loaded from.
        digest: SHA-256 that names its contents.
        signature: The raw columns, see :class:`Column`; empty where it takes arrays.
        tensors: The arrays that it takes, see :class:`Tensor`; empty where it takes columns.
        output_names: A name a column of the result.
        metadata: What was saved with it.
        versions: Which versions wrote it.
        precision: What matrix work is done in.
        weights: The parameters by name, read-only.
        graph: What is computed, from the net's inputs and the parameters in the order of `weights`.
    """

    def __init__(self, path: str | os.PathLike[str], precision: str | None = None) -> None:
        """Load and check a model folder; see :func:`load_model`."""
        from mxpipe import _native, amp
        from mxpipe.gluon import Session

        self.path = Path(path)
        self.precision = amp.precision(precision)
        self._description, weights, self.digest = read_model(path)
        self.weights = {name: weights[name] for name in self._description.parameters}
        self.signature = self._description.signature
        self.tensors = self._description.tensors
        self.output_names = self._description.output_names
        self.metadata = self._description.metadata
        self.versions = self._description.versions
        self._preprocessor: Preprocessor | None = None
        self._inputs = self._make_inputs()
        with _checked_field(self.path, "graph"):
            self.graph = _native.Graph.from_json(json.dumps(self._description.graph))
            self._check_graph()
            parameters = [_mapped(values) for values in self.weights.values()]
            self._session = Session(self.graph, parameters, precision=self.precision)

    def _make_inputs(self) -> Inputs:
        if self.tensors:
            return TensorInputs(self.tensors)
        from mxpipe.data import Preprocessor

        with _checked_field(self.path, "preprocessing"):
            self._preprocessor = Preprocessor.from_json(self._description.preprocessing)
            inputs = ColumnInputs(self.signature, self._preprocessor)
            self._preprocessor.transform(inputs.blank(1))
        return inputs

    @property
    def preprocessor(self) -> Preprocessor:
        """Turns raw columns into the net's inputs.

        Raises:
            ModelFormatError: The model takes arrays and has none.
        """
        if self._preprocessor is None:
            raise ModelFormatError(f"[{self.path}] the model must take columns; it takes arrays.")
        return self._preprocessor

    def _check_graph(self) -> None:
        """The graph must take what the inputs and the weights give, and give what was promised."""
        shapes = self._inputs.shapes()
        expected = [shapes[name] for name in self._description.inputs]
        expected += [tuple(values.shape) for values in self.weights.values()]
        given = [tuple(shape) for _, shape, _ in self.graph.inputs]
        rows = len(self._description.inputs)
        given[:rows] = [shape[1:] for shape in given[:rows]]
        if given != expected:
            raise GraphError(f"[graph] the inputs must have the shapes {expected}; got {given}.")
        types = [str(dtype) for _, _, dtype in self.graph.inputs[:rows]]
        if self.tensors and types != [tensor.dtype for tensor in self.tensors]:
            raise GraphError(f"[graph] the inputs must have the types of the tensors; got {types}.")
        outputs = [shape[1] if len(shape) == 2 else 1 for _, shape, _ in self.graph.outputs]
        if outputs != [len(self.output_names)]:
            raise GraphError(
                f"[graph] there must be one output of {len(self.output_names)} columns; got {outputs}."
            )

    @property
    def output(self) -> Tensor:
        """Type and shape of one row of the result."""
        _, shape, dtype = self.graph.outputs[0]
        return Tensor("output", str(dtype), () if tuple(shape[1:]) == (1,) else tuple(shape[1:]))

    def predict(self, data: Any) -> npt.NDArray[Any]:
        """Predict from raw columns, or from arrays where the model takes those.

        Args:
            data: For each column of the signature a value per row: NumPy arrays, pandas or Arrow columns,
                or sequences. None and NaN are missing values; they and categories that training did not see
                are allowed (a category becomes the out-of-vocabulary id 0). Further columns are ignored.
                For a model of tensors, an array (n, ...) by name, or the array itself where it takes one.

        Returns:
            float32 (n,) for one output, else (n, k), or whatever rows the net gives.

        Raises:
            RequestError: A column or tensor is missing, of another type or shape; the message names it.
        """
        inputs = self._inputs.arrays(data)
        results: npt.NDArray[Any] = self._session(*[inputs[name] for name in self._description.inputs])
        return results.reshape(-1) if results.ndim == 2 and results.shape[1] == 1 else results

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
            The prediction for one row of missing values, or of zeros: float32 (1,) or (1, ...).
        """
        for size in reversed(self._session.sizes):
            result = self.predict(self._inputs.blank(size))
        return result

    def __repr__(self) -> str:
        takes = f"tensors={len(self.tensors)}" if self.tensors else f"columns={len(self.signature)}"
        return f"Model({str(self.path)!r}, {takes}, digest={self.digest[:12]})"


@contextlib.contextmanager
def _checked_field(folder: Path, field: str) -> Iterator[None]:
    """Name file and field, whatever a parser has raised over values that nobody vouches for."""
    try:
        yield
    except Exception as error:
        raise ModelFormatError(
            f"[{folder / MODEL_FILE}] {field!r} must be whole; got {type(error).__name__}: {error}"
        ) from error


def _mapped(values: npt.NDArray[Any]) -> Array:
    """An array over the pages of the model's file, which all processes that load it share."""
    from mxpipe import _native

    return _native.array(values) if values.flags.writeable else _native.map_array(values)
