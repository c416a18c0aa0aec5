"""Open Inference Protocol V2, REST: JSON in, columns out; predictions in, JSON out.

Pure functions over parsed JSON; :mod:`mxpipe.serve.app` holds the routes. Tensors are columns: a named input
of shape [n] or [n, 1] for each raw column of the model, a named output of shape [n] for each column of its
prediction. The binary tensor extension is not spoken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mxpipe.errors import RequestError
from mxpipe.serve.columns import DATATYPES, ColumnRule, ColumnValues, Signature, require_finite

_DTYPE_OF = {datatype: dtype for dtype, datatype in DATATYPES.items()}


def metadata(name: str, version: str, signature: Signature) -> dict[str, Any]:
    """The model metadata response.

    Args:
        name: Name under which the model is served.
        version: Its version.
        signature: Its columns.
    """
    return {
        "name": name,
        "versions": [version],
        "platform": "mxpipe",
        "inputs": [
            {
                "name": rule.name,
                "datatype": rule.datatype,
                "shape": [-1],
                "parameters": {"required": rule.required},
            }
            for rule in signature.columns
        ],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1]} for name in signature.outputs],
    }


@dataclass(frozen=True)
class InferenceRequest:
    """A checked request.

    Attributes:
        columns: Columns by name, as ``Model.predict`` takes them.
        outputs: Names of the outputs that the client wants, in its order.
        id: The client's own name for the request, to be echoed.
    """

    columns: dict[str, ColumnValues]
    outputs: tuple[str, ...]
    id: str | None


def parse_request(body: Any, signature: Signature) -> InferenceRequest:
    """Check an inference request.

    Args:
        body: The parsed JSON body.
        signature: The model's rules.

    Raises:
        RequestError: The request does not fit the protocol or the model; the text names the field.

    Example:
        >>> rules = Signature((ColumnRule("distance", "float64"),), ("late",))
        >>> body = {"inputs": [{"name": "distance", "datatype": "FP32", "shape": [2], "data": [733, 1400]}]}
        >>> parse_request(body, rules).columns
        {'distance': array([ 733., 1400.])}
    """
    if not isinstance(body, dict):
        raise RequestError(f"[request] must be a JSON object; got {type(body).__name__}.")
    outputs = _wanted_outputs(body.get("outputs"), signature)
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise RequestError("[inputs] must be a non-empty list of tensors.")
    columns: dict[str, Sequence[Any]] = {}
    for position, tensor in enumerate(inputs):
        name, values = _parse_tensor(tensor, position, signature)
        if name in columns:
            raise RequestError(f"[input {name!r}] must be given once; got it twice.")
        columns[name] = values
    request_id = body.get("id")
    if not isinstance(request_id, str | None):
        raise RequestError(f"[id] must be a string; got {type(request_id).__name__}.")
    return InferenceRequest(signature.check(columns), outputs, request_id)


def _wanted_outputs(outputs: Any, signature: Signature) -> tuple[str, ...]:
    if not outputs:
        return signature.outputs
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise RequestError("[outputs] must be a list of objects.")
    names = tuple(output.get("name") for output in outputs)
    for name in names:
        if name not in signature.outputs:
            raise RequestError(f"[output {name!r}] must be one of {', '.join(signature.outputs)}.")
    return names


def _parse_tensor(tensor: Any, position: int, signature: Signature) -> tuple[str, Sequence[Any]]:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise RequestError(f"[inputs] item {position} must be an object with a string 'name'.")
    name = tensor["name"]
    rule = signature.rule(name)
    if rule is None:
        known = ", ".join(rule.name for rule in signature.columns)
        raise RequestError(f"[input {name!r}] must be a column of the model ({known}).")
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in _DTYPE_OF:
        raise RequestError(
            f"[input {name!r}] datatype must be one of {', '.join(_DTYPE_OF)}; got {datatype!r}."
        )
    if not rule.accepts(datatype):
        raise RequestError(f"[input {name!r}] datatype must fit {rule.datatype}; got {datatype}.")
    values = _flat_data(tensor, name)
    # The declared datatype binds too: 300 sent as INT8 is a client's mistake whatever the column could hold.
    if datatype != rule.datatype:
        ColumnRule(name, _DTYPE_OF[datatype]).check(values)
    return name, values


def _flat_data(tensor: Mapping[str, Any], name: str) -> list[Any]:
    shape = tensor.get("shape")
    if (
        not isinstance(shape, list)
        or not all(type(extent) is int and extent >= 0 for extent in shape)
        or len(shape) not in (1, 2)
        or (len(shape) == 2 and shape[1] != 1)
    ):
        raise RequestError(f"[input {name!r}] shape must be [n] or [n, 1]; got {shape!r}.")
    data = tensor.get("data")
    if not isinstance(data, list):
        raise RequestError(f"[input {name!r}] data must be a list of values.")
    if len(shape) == 2 and any(isinstance(item, list) for item in data):
        if not all(isinstance(item, list) and len(item) == 1 for item in data):
            raise RequestError(f"[input {name!r}] data of shape {shape} must hold lists of one value.")
        data = [item[0] for item in data]
    if len(data) != shape[0]:
        raise RequestError(
            f"[input {name!r}] data must hold {shape[0]} values, as shape says; got {len(data)}."
        )
    return data


def format_response(
    name: str,
    version: str,
    request: InferenceRequest,
    signature: Signature,
    predictions: np.ndarray[Any, Any],
) -> dict[str, Any]:
    """The inference response: an FP32 tensor of shape [n] for each output that was asked for.

    Args:
        name: Name under which the model is served.
        version: Version that answered.
        request: What was asked.
        signature: The model's columns.
        predictions: float32, shape (n,) or (n, k).

    Raises:
        RequestError: A prediction is not finite.
    """
    require_finite(predictions)
    rows = len(predictions)
    values = dict(zip(signature.outputs, predictions.reshape(rows, -1).T, strict=True))
    response: dict[str, Any] = {
        "model_name": name,
        "model_version": version,
        "outputs": [
            {"name": output, "datatype": "FP32", "shape": [rows], "data": values[output].tolist()}
            for output in request.outputs
        ],
    }
    if request.id is not None:
        response["id"] = request.id
    return response
