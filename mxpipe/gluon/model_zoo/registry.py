"""The registry of builders: functions that return a network that is not initialized yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mxpipe.errors import SpecificationError
from mxpipe.gluon.hybrid import HybridBlock

__all__ = ["get_model", "list_models", "register"]

_Builder = Callable[..., HybridBlock]
_builders: dict[str, _Builder] = {}


def register(builder: _Builder) -> _Builder:
    """Decorator: make a builder known by its name."""
    _builders[builder.__name__] = builder
    return builder


def list_models() -> list[str]:
    """Names of all builders."""
    return sorted(_builders)


def get_model(name: str, **arguments: Any) -> HybridBlock:
    """Build a network.

    Args:
        name: Name of a builder.
        arguments: What the builder takes.

    Raises:
        SpecificationError: No builder has this name.
    """
    if name not in _builders:
        raise SpecificationError(
            f"[model_zoo] a model must be one of {', '.join(list_models())}; got {name!r}."
        )
    return _builders[name](**arguments)
