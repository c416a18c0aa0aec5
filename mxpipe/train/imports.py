"""Importing a function by its name, only where a person's code asked for that very name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from mxpipe.errors import SpecificationError


def import_callable(text: str) -> Callable[..., Any]:
    """Import `package.module:function`.

    The text must come from code or a command line, never from a data file alone.

    Raises:
        SpecificationError: The text has another form, or there is no such function.

    Example:
        >>> import_callable("json:dumps")([1])
        '[1]'
    """
    module_name, _, function_name = text.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise SpecificationError(
            f"[import] the name must have the form package.module:function; got {text!r}."
        )
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise SpecificationError(f"[import] {text!r} must be importable; got {error}.") from error
    if not callable(function):
        raise SpecificationError(f"[import] {text!r} must be callable; got {type(function).__name__}.")
    result: Callable[..., Any] = function
    return result
