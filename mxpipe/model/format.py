"""The model folder: what `model.json` holds, how it is written, and how it is read without trust.

::

    model.json              format, version, graph, names of inputs and parameters, output, signature,
    preprocessing,
                            metadata, versions, digest of the weights
    weights.safetensors     the parameters by name

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
from mxpipe.model.storage import canonical_digest, file_digest, publish_folder, storage_errors, write_json

FORMAT, FORMAT_VERSION = "mxpipe-model", 1
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


@dataclass(frozen=True)
class ModelDescription:
    """The contents of `model.json`, without the weights.

    Attributes:
        graph: The graph as `_core.Graph.to_json` writes it, parsed.
        inputs: Names of the graph's first inputs, among "numeric" and "categorical".
        parameters: Names of the graph's other inputs, which are the tensors of `weights.safetensors`.
        output_names: A name a column of the result.
        signature: Raw columns.
        preprocessing: A preprocessor as JSON.
        metadata: Free JSON values: metrics, digests of the training.
        versions: Which versions wrote it.
    """

    graph: Mapping[str, Any]
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    output_names: tuple[str, ...]
    signature: tuple[Column, ...]
    preprocessing: Mapping[str, Any]
    metadata: Mapping[str, Any]
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The description as JSON values."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION} | {
            "graph": dict(self.graph),
            "inputs": list(self.inputs),
            "parameters": list(self.parameters),
            "output_names": list(self.output_names),
            "signature": [asdict(column) for column in self.signature],
            "preprocessing": dict(self.preprocessing),
            "metadata": dict(self.metadata),
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
    _check(path, "format_version", version == FORMAT_VERSION, f"{FORMAT_VERSION}", version)
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


def default_output_names(count: int) -> Sequence[str]:
    """Names for the columns of a result: one probability, or one for each class."""
    return ("probability",) if count == 1 else tuple(f"probability_{index}" for index in range(count))
