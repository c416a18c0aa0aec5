"""Nested arguments as flat lists, so that compiled functions see arrays only.

What enters: nested tuples and lists of arrays and plain values. What leaves: the arrays in order, and a
hashable structure from which the nesting is rebuilt around other arrays.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from mxpipe._native import Array
from mxpipe.errors import BlockError

__all__ = ["flatten", "unflatten"]

_ARRAY = ("array",)
_ONE_ARGUMENT = ("tuple", _ARRAY)


def flatten(value: Any, where: str) -> tuple[list[Array], Hashable]:
    """Split nested arguments into arrays and structure.

    Args:
        value: An array, a plain value (None, bool, int, float, str), or tuples and lists of them.
        where: Whose arguments these are, for messages.

    Raises:
        BlockError: Something else is among them.
    """
    if type(value) is tuple and len(value) == 1 and type(value[0]) is Array:  # most calls
        return [value[0]], _ONE_ARGUMENT
    arrays: list[Array] = []
    return arrays, _structure(value, arrays, where)


def _structure(value: Any, arrays: list[Array], where: str) -> Hashable:
    if isinstance(value, Array):
        arrays.append(value)
        return _ARRAY
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return (kind, *(_structure(item, arrays, where) for item in value))
    if value is None or isinstance(value, bool | int | float | str):
        return (
            "value",
            type(value).__name__,
            value,
        )  # the type too: 1, 1.0 and True are equal and hash alike
    raise BlockError(
        f"[{where}] arguments and results must be arrays, plain values, or tuples and lists of them; "
        f"got {type(value).__name__}."
    )


def unflatten(structure: Hashable, arrays: Sequence[Array]) -> Any:
    """Rebuild what `flatten` took apart, around the given arrays."""
    return arrays[0] if structure is _ARRAY else _rebuild(structure, iter(arrays))


def _rebuild(structure: Any, arrays: Iterator[Array]) -> Any:
    if structure == _ARRAY:
        return next(arrays)
    kind, *rest = structure
    if kind == "value":
        return rest[1]
    items = [_rebuild(item, arrays) for item in rest]
    return tuple(items) if kind == "tuple" else items
