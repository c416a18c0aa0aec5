"""Elementwise functions derived from the op registry: one line a function, documented by its declaration."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from mxpipe import _native
from mxpipe._native import Array, invoke

from ._common import ArrayLike, as_symbol

Unary = Callable[[ArrayLike], Array]
Binary = Callable[[ArrayLike, ArrayLike], Array]

_SCHEMAS = {schema["name"]: schema for schema in _native.op_schemas()}
_NO_ATTRIBUTES: dict[str, Any] = {}


def unary(op: str, name: str | None = None, module: str = "mxpipe.np") -> Unary:
    """The function of an elementwise op of one array."""

    def function(x: ArrayLike, /) -> Array:
        try:
            result: Array = invoke(op, (x,), _NO_ATTRIBUTES)
        except Exception:
            result = as_symbol(function, (x,), {})
        return result

    return named(function, op, name or op, module)


def binary(op: str, name: str | None = None, module: str = "mxpipe.np") -> Binary:
    """The function of an elementwise op of two arrays; either may be a Python number, which is then weak."""

    def function(a: ArrayLike, b: ArrayLike, /) -> Array:
        try:
            result: Array = invoke(op, (a, b), _NO_ATTRIBUTES)
        except Exception:
            result = as_symbol(function, (a, b), {})
        return result

    return named(function, op, name or op, module)


def named(function: Callable[..., Array], op: str, name: str, module: str) -> Callable[..., Array]:
    """The function under its public name, documented by the op's declaration."""
    function.__name__ = function.__qualname__ = name
    function.__module__ = module
    function.__doc__ = documentation(op)
    return function


def documentation(op: str) -> str:
    """A docstring made of the op's declaration: what it computes, inputs, attributes, errors, example."""
    schema = _SCHEMAS[op]
    text, prompt, example = schema["doc"].partition(">>>")
    several = len(schema["inputs"]) > 1
    arguments = [f"{entry['name']}: {entry['doc']}" for entry in schema["inputs"] + schema["attributes"]]
    parts = [
        text.strip(),
        "Args:\n" + textwrap.indent("\n".join(arguments), "    "),
        f"Returns:\n    Array of {'the broadcast' if several else 'the same'} shape.",
        f"Raises:\n    OperatorError: {'Shapes do not match, or a' if several else 'The'} dtype is wrong.",
    ]
    if prompt:
        parts.append("Example:\n" + textwrap.indent((prompt + example).strip(), "    "))
    return "\n\n".join(parts) + "\n"
