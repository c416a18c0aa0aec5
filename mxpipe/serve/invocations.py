"""MLflow's scoring protocol (``/invocations``): its JSON forms and CSV in, columns out.

Pure functions, with neither MLflow nor pandas. As in MLflow, columns that the model does not know are
ignored.

======================  ==========================================================
``dataframe_split``      ``{"columns": [names], "data": [[row], ...]}``
``dataframe_records``    ``[{name: value}, ...]``
``instances``            the same records
``inputs``               records, or ``{name: [values]}``
CSV                      a header line; an empty cell is a missing value
======================  ==========================================================
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mxpipe.errors import RequestError
from mxpipe.serve.columns import ColumnRule, ColumnValues, Signature, require_finite

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def parse_json(body: Any, signature: Signature) -> dict[str, ColumnValues]:
    """Turn a JSON scoring request into checked columns.

    Raises:
        RequestError: The request has no single known form, or does not fit the model; the text names the
            field.

    Example:
        >>> rules = Signature((ColumnRule("carrier", "string"),), ("late",))
        >>> parse_json({"dataframe_records": [{"carrier": "UA"}, {"carrier": None}]}, rules)
        {'carrier': ['UA', None]}
    """
    if not isinstance(body, dict):
        raise RequestError(f"[request] must be a JSON object; got {type(body).__name__}.")
    forms = [form for form in _FORMS if form in body]
    if len(forms) != 1:
        raise RequestError(f"[request] must hold exactly one of {', '.join(_FORMS)}; got {forms or 'none'}.")
    if body.get("params"):
        raise RequestError("[params] must be empty: the model takes no parameters.")
    form, content = forms[0], body[forms[0]]
    if form == "dataframe_split":
        columns = _from_split(content)
    elif form == "inputs" and isinstance(content, dict):
        columns = _from_columns(content)
    else:
        columns = _from_records(form, content, signature)
    return signature.check(columns)


def _from_split(content: Any) -> Mapping[str, Sequence[Any]]:
    if not isinstance(content, dict):
        raise RequestError("[dataframe_split] must be an object with 'columns' and 'data'.")
    names, rows = content.get("columns"), content.get("data")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RequestError("[dataframe_split.columns] must be a list of names.")
    if len(set(names)) != len(names):
        raise RequestError("[dataframe_split.columns] must name each column once.")
    if not isinstance(rows, list):
        raise RequestError("[dataframe_split.data] must be a list of rows.")
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise RequestError(f"[dataframe_split.data] row {number} must hold {len(names)} values.")
    return {name: [row[position] for row in rows] for position, name in enumerate(names)}


def _from_columns(content: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
    for name, values in content.items():
        if not isinstance(values, list):
            raise RequestError(f"[inputs.{name}] must be a list of values.")
    return content


def _from_records(form: str, content: Any, signature: Signature) -> Mapping[str, Sequence[Any]]:
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise RequestError(f"[{form}] must be a list of objects, one a row.")
    columns: dict[str, Sequence[Any]] = {}
    for rule in signature.columns:
        present = sum(rule.name in record for record in content)
        if present == 0:
            continue
        if present < len(content) and rule.required:
            row = next(i for i, record in enumerate(content) if rule.name not in record)
            raise RequestError(f"[column {rule.name!r}] must be present in every record; row {row} lacks it.")
        columns[rule.name] = [record.get(rule.name) for record in content]
    return columns


def parse_csv(text: str, signature: Signature) -> dict[str, ColumnValues]:
    r"""Turn a CSV request (with a header line) into checked columns.

    Raises:
        RequestError: A row has another length than the header, or a cell does not fit its column.

    Example:
        >>> rules = Signature((ColumnRule("distance", "float64"),), ("late",))
        >>> parse_csv("distance,ignored\n733,x\n,y\n", rules)
        {'distance': array([733.,  nan])}
    """
    try:
        lines = [line for line in csv.reader(io.StringIO(text), strict=True) if line]
    except csv.Error as error:
        raise RequestError(f"[csv] must be well-formed; {error}.") from error
    if not lines:
        raise RequestError("[csv] must start with a header line; got an empty body.")
    header, rows = lines[0], lines[1:]
    if len(set(header)) != len(header):
        raise RequestError("[csv] the header must name each column once.")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise RequestError(f"[csv] row {number} must hold {len(header)} cells; got {len(row)}.")
    columns: dict[str, Sequence[Any]] = {}
    for position, name in enumerate(header):
        rule = signature.rule(name)
        if rule is not None:
            columns[name] = [_cell(rule, number, row[position]) for number, row in enumerate(rows)]
    return signature.check(columns)


def _cell(rule: ColumnRule, row: int, text: str) -> Any:
    if text == "":
        return None
    if rule.kind == "string":
        return text
    try:
        if rule.kind == "float":
            return float(text)
        if rule.kind == "int":
            number = float(text)
            return int(text) if not math.isnan(number) and text.lstrip("+-").isdigit() else number
        return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        raise RequestError(
            f"[column {rule.name!r}] row {row} must be {rule.dtype}; got {text[:60]!r}."
        ) from None


def format_response(predictions: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The scoring response: ``{"predictions": [...]}``, one item a row.

    Args:
        predictions: float32, shape (n,) or (n, k).

    Raises:
        RequestError: A prediction is not finite.
    """
    require_finite(predictions)
    return {"predictions": predictions.tolist()}
