"""The model folder: what `model.json` holds, how it is written, and how it is read without trust.

::

    model.json              format, version, graph, names of inputs and parameters, output, signature,
                            preprocessing, metadata, versions, digest of the weights
    weights.safetensors     the parameters by name

A model of raw columns has a preprocessor and is format 1. A model that takes arrays has their names, types
and shapes under `tensors` instead, and is format 2: a reader that knows columns only refuses it.

The graph is stored for one batch size and is given another one's types when it is loaded. Nothing in the
folder can run code. The same model gives the same bytes: no clocks and no paths of a machine are in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mxpipe.errors import ModelFormatError
from mxpipe.model.safetensors import read_safetensors, write_safetensors_to
from mxpipe.model.storage import (
    canonical_digest,
    file_digest,
    publish_folder,
    require_space,
    storage_errors,
    write_json,
)
from mxpipe.redaction import redact_json

FORMAT = "mxpipe-model"
COLUMNS_VERSION, TENSORS_VERSION = 1, 2  # of models that take columns, and arrays
MODEL_FILE, WEIGHTS_FILE = "model.json", "weights.safetensors"
MAX_MODEL_JSON_BYTES = 256 * 1024 * 1024  # vocabularies are in it

Activation = Literal["sigmoid", "softmax", "identity"]


@dataclass(frozen=True)
class Column:
    """One raw column that a model takes.

    Attributes:
        name: Its name.
        dtype: "float64", "int64", "bool", "string" or another NumPy name: what the training data had.
        required: Whether a request must have it. A required column may still hold nulls.
    """

    name: str
    dtype: str
    required: bool = True


TENSOR_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)


@dataclass(frozen=True)
class Tensor:
    """One array that a model takes, such as images or sequences.

    Attributes:
        name: Its name.
        dtype: NumPy name of its type.
        shape: Shape of one row: the first axis, which counts rows, is left out.

    Raises:
        ModelFormatError: The type or an axis is none that a tensor can have.

    Example:
        >>> Tensor("image", "float32", (1, 28, 28)).shape
        (1, 28, 28)
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dtype not in TENSOR_DTYPES:
            raise ModelFormatError(
                f"[tensor {self.name!r}] dtype must be one of {', '.join(TENSOR_DTYPES)}; got {self.dtype!r}."
            )
        axes = tuple(self.shape)
        if not all(isinstance(axis, int) and not isinstance(axis, bool) and axis >= 0 for axis in axes):
            raise ModelFormatError(
                f"[tensor {self.name!r}] every axis but the first must be a number, not negative; got {axes}."
            )
        object.__setattr__(self, "shape", axes)


@dataclass(frozen=True)
class ModelDescription:
    """The contents of `model.json`, without the weights.

    Attributes:
        graph: The graph as `_core.Graph.to_json` writes it, parsed.
        inputs: Names of the graph's first inputs: "numeric" and "categorical", or those of the tensors.
        parameters: Names of the graph's other inputs, which are the tensors of `weights.safetensors`.
        output_names: A name a column of the result.
        signature: Raw columns; none where the model takes arrays.
        preprocessing: A preprocessor as JSON; empty where the model takes arrays.
        metadata: Free JSON values: metrics, digests of the training.
        versions: Which versions wrote it.
        tensors: The arrays that it takes; none where it takes columns.
    """

    graph: Mapping[str, Any]
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    output_names: tuple[str, ...]
    signature: tuple[Column, ...]
    preprocessing: Mapping[str, Any]
    metadata: Mapping[str, Any]
    versions: Mapping[str, str]
    tensors: tuple[Tensor, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The description as JSON values."""
        version = TENSORS_VERSION if self.tensors else COLUMNS_VERSION
        tensors = {"tensors": [asdict(tensor) | {"shape": list(tensor.shape)} for tensor in self.tensors]}
        return (tensors if self.tensors else {}) | {
            "format": FORMAT,
            "format_version": version,
            "graph": dict(self.graph),
            "inputs": list(self.inputs),
            "parameters": list(self.parameters),
            "output_names": list(self.output_names),
            "signature": [asdict(column) for column in self.signature],
            "preprocessing": dict(self.preprocessing),
            "metadata": redact_json(self.metadata),
            "versions": dict(self.versions),
        }


def write_model(
    path: str | os.PathLike[str],
    description: ModelDescription,
    weights: Mapping[str, npt.NDArray[Any]],
    before_publish: Callable[[], None] = lambda: None,
) -> str:
    """Publish a model folder as a whole; an existing one is replaced.

    Args:
        path: The folder.
        description: What goes into `model.json`.
        weights: A tensor for each of the description's parameters.
        before_publish: Called when all is on the disk and the folder has not its name yet.

    Returns:
        The model's digest.

    Raises:
        StorageError: The disk is full; nothing of the new model remains, an older one is untouched.
    """
    target = Path(path)
    require_space(target, sum(array.nbytes for array in weights.values()))
    with publish_folder(target) as aside:
        with storage_errors(target), open(aside / WEIGHTS_FILE, "wb") as file:
            write_safetensors_to(file, weights)
            file.flush()
            os.fsync(file.fileno())
        stored = {
            "file": WEIGHTS_FILE,
            "size": (aside / WEIGHTS_FILE).stat().st_size,
            "sha256": file_digest(aside / WEIGHTS_FILE),
        }
        content = description.to_json() | {"weights": stored}
        write_json(aside / MODEL_FILE, content | {"sha256": canonical_digest(content)})
        before_publish()
    return canonical_digest(content)


def read_model(
    path: str | os.PathLike[str],
) -> tuple[ModelDescription, dict[str, npt.NDArray[np.generic]], str]:
    """Read a model folder and check all of it.

    Returns:
        The description, the weights as read-only arrays, and the digest.

    Raises:
        ModelFormatError: A file or field is missing, damaged or unknown; the message names both.
    """
    folder = Path(path)
    content = _read_model_json(folder / MODEL_FILE)
    digest = content["sha256"]
    description = _parse(folder / MODEL_FILE, content)
    weights = _read_weights(folder / WEIGHTS_FILE, content["weights"])
    if set(weights) != set(description.parameters):
        different = sorted(set(weights) ^ set(description.parameters))
        raise ModelFormatError(
            f"[{folder / WEIGHTS_FILE}] the tensors must be the parameters of the graph; got a difference in "
            f"{different[:5]}."
        )
    return description, weights, digest


def model_digest(path: str | os.PathLike[str]) -> str:
    """The digest of a model folder from its `model.json` alone, which holds the digest of the weights.

    Raises:
        ModelFormatError: The file is missing or damaged.
    """
    digest: str = _read_model_json(Path(path) / MODEL_FILE)["sha256"]
    return digest


def _read_model_json(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > MAX_MODEL_JSON_BYTES:
            raise ModelFormatError(
                f"[{path}] the file must have at most {MAX_MODEL_JSON_BYTES} bytes; got {size}."
            )
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelFormatError(f"[{path}] the file must be readable; got {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, ModelFormatError):
            raise
        raise ModelFormatError(f"[{path}] the file must be JSON; got {error}.") from error
    if not isinstance(content, dict):
        raise ModelFormatError(f"[{path}] the file must be a JSON object; got {type(content).__name__}.")
    _check(path, "format", content.get("format") == FORMAT, repr(FORMAT), content.get("format"))
    version = content.get("format_version")
    known = (COLUMNS_VERSION, TENSORS_VERSION)
    _check(path, "format_version", version in known, f"one of {known}", version)
    plain = {name: value for name, value in content.items() if name != "sha256"}
    matches = content.get("sha256") == canonical_digest(plain)
    _check(path, "sha256", matches, "the digest of the other fields", content.get("sha256"))
    return content


def _check(path: Path, field: str, holds: bool, must: str, got: object) -> None:
    if not holds:
        text = repr(got)
        raise ModelFormatError(f"[{path}] {field!r} must be {must}; got {text[:80]}.")


def _parse(path: Path, content: Mapping[str, Any]) -> ModelDescription:
    for field in ("graph", "preprocessing", "metadata", "versions", "weights"):
        _check(path, field, isinstance(content.get(field), dict), "an object", content.get(field))
    for field in ("inputs", "parameters", "output_names"):
        _check(path, field, _is_names(content.get(field)), "a list of different names", content.get(field))
    inputs = content["inputs"]
    tensors = _parse_tensors(path, content)
    if tensors:
        names = [tensor.name for tensor in tensors]
        _check(path, "inputs", inputs == names, f"the names of the tensors, {names}", inputs)
    else:
        _check(path, "inputs", set(inputs) <= {"numeric", "categorical"}, "numeric or categorical", inputs)
    return ModelDescription(
        graph=content["graph"],
        inputs=tuple(inputs),
        parameters=tuple(content["parameters"]),
        output_names=tuple(content["output_names"]),
        signature=_parse_signature(path, content.get("signature")),
        preprocessing=content["preprocessing"],
        metadata=content["metadata"],
        versions=content["versions"],
        tensors=tensors,
    )


def _is_names(value: Any) -> bool:
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return is_list and len(set(value)) == len(value)


def _parse_signature(path: Path, value: Any) -> tuple[Column, ...]:
    _check(path, "signature", isinstance(value, list), "a list", value)
    columns = []
    for position, item in enumerate(value):
        fits = (
            isinstance(item, dict)
            and set(item) == {"name", "dtype", "required"}
            and isinstance(item["name"], str)
            and isinstance(item["dtype"], str)
            and isinstance(item["required"], bool)
        )
        _check(path, f"signature[{position}]", fits, "an object of name, dtype and required", item)
        columns.append(Column(**item))
    return tuple(columns)


def _parse_tensors(path: Path, content: Mapping[str, Any]) -> tuple[Tensor, ...]:
    value = content.get("tensors", [])
    expects = content["format_version"] == TENSORS_VERSION
    must = "a list of tensors" if expects else "left out in this format"
    _check(path, "tensors", isinstance(value, list) and bool(value) == expects, must, value)
    for position, item in enumerate(value):
        fits = (
            isinstance(item, dict)
            and set(item) == {"name", "dtype", "shape"}
            and isinstance(item["name"], str)
            and isinstance(item["shape"], list)
        )
        _check(path, f"tensors[{position}]", fits, "an object of name, dtype and shape", item)
    try:
        return tuple(Tensor(item["name"], item["dtype"], tuple(item["shape"])) for item in value)
    except ModelFormatError as error:
        raise ModelFormatError(f"[{path}] 'tensors' must be whole; got {error}") from error


def _read_weights(path: Path, stored: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    try:
        size = path.stat().st_size
        if size != stored.get("size"):
            raise ModelFormatError(
                f"[{path}] the file must have {stored.get('size')} bytes; got {size}"
                f"{' (is it truncated?)' if size < (stored.get('size') or 0) else ''}."
            )
        if file_digest(path) != stored.get("sha256"):
            raise ModelFormatError(
                f"[{path}] the file must match 'weights.sha256' of {MODEL_FILE}; got another digest."
            )
        return read_safetensors(path).tensors
    except OSError as error:
        raise ModelFormatError(f"[{path}] the file must be readable; got {error.strerror}.") from error


def default_output_names(count: int, activation: Activation = "sigmoid") -> Sequence[str]:
    """Names for the columns of a result: probabilities, or outputs where no activation makes those.

    Example:
        >>> default_output_names(1), default_output_names(2, "identity")
        (('probability',), ('output_0', 'output_1'))
    """
    word = "output" if activation == "identity" else "probability"
    return (word,) if count == 1 else tuple(f"{word}_{index}" for index in range(count))
