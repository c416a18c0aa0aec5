"""Shapes of parameters from the shapes of data, for expressions whose parameters do not say theirs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Unknown", "fill_unknown"]

_Shapes = dict[str, tuple[int, ...]]


class Unknown:
    """Stands for a variable whose shape is not known yet.

    Args:
        name: Name of the variable.
    """

    def __init__(self, name: str) -> None:
        self.name = name


def fill_unknown(
    operation: str,
    function: Callable[..., Any],
    args: list[Any],
    kwargs: dict[str, Any],
    make: Callable[[str, tuple[int, ...]], Any],
) -> None:
    """Replace unknown variables among the arguments of a call, as far as the function decides their shapes.

    Args:
        operation: Name of the function, such as "npx.fully_connected".
        function: The function.
        args: Its arguments; changed in place.
        kwargs: Its named arguments; changed in place.
        make: Called with the name of a variable and its shape; gives what replaces it.
    """
    if operation not in _RULES or not any(isinstance(value, Unknown) for value in (*args, *kwargs.values())):
        return
    parameters = list(inspect.signature(function).parameters)
    given = dict(zip(parameters, args, strict=False)) | kwargs
    if isinstance(given.get(parameters[0]), Unknown):
        return
    shapes = _RULES[operation](given)
    for position, value in enumerate(args):
        if isinstance(value, Unknown) and parameters[position] in shapes:
            args[position] = make(value.name, shapes[parameters[position]])
    for name, value in kwargs.items():
        if isinstance(value, Unknown) and name in shapes:
            kwargs[name] = make(value.name, shapes[name])


def _fully_connected(given: Mapping[str, Any]) -> _Shapes:
    shape = given["x"].shape
    inputs = math.prod(shape[1:]) if given.get("flatten", True) else shape[-1]
    weight = given["weight"]
    units = given.get("num_hidden") or (None if isinstance(weight, Unknown) else weight.shape[0])
    return {} if units is None else {"weight": (units, inputs), "bias": (units,)}


def _embedding(given: Mapping[str, Any]) -> _Shapes:
    rows, width = given.get("input_dim"), given.get("output_dim")
    return {"weight": (rows, width)} if rows and width else {}


def _normalization(default_axis: int) -> Callable[[Mapping[str, Any]], _Shapes]:
    def shapes(given: Mapping[str, Any]) -> _Shapes:
        channels = (given["x"].shape[given.get("axis", default_axis)],)
        return dict.fromkeys(("gamma", "beta", "running_mean", "running_var"), channels)

    return shapes


_RULES: dict[str, Callable[[Mapping[str, Any]], _Shapes]] = {
    "npx.fully_connected": _fully_connected,
    "npx.embedding": _embedding,
    "npx.layer_norm": _normalization(-1),
    "npx.batch_norm": _normalization(1),
}
