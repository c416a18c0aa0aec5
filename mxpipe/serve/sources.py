"""Where the served model's versions come from: a folder, or a registry through an installed resolver.

A registry stays behind :class:`ModelResolver`, so that the server knows none by name: a package offers one
through the entry point group ``mxpipe.model_resolvers`` (name -> ``factory(options) -> ModelResolver``), and
the command line names the entry point. Nothing found in data or in a request ever chooses a model or a
resolver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, cast

from mxpipe.errors import ServingError

RESOLVER_GROUP = "mxpipe.model_resolvers"
OPTIONS_VARIABLE = "MXPIPE_REGISTRY_OPTIONS"
"""Environment variable with a resolver's options as JSON; options of the command line come on top."""


class ModelResolver(Protocol):
    """What a registry has to offer: two calls, so that asking for news costs no download."""

    def current_version(self, name: str, alias: str) -> str:
        """The version that an alias names now.

        Raises:
            ServingError: There is no such model or alias.
            TrackingError: The registry cannot be reached.
        """
        ...

    def fetch(self, name: str, version: str) -> Path:
        """A local model folder holding exactly this version; it stays valid while the process lives."""
        ...


class ModelSource(Protocol):
    """One model whose current version may change."""

    @property
    def name(self) -> str:
        """Name under which the model is served."""
        ...

    @property
    def reference(self) -> str:
        """What the command line said, in one line: two servers of equal reference serve the same model."""
        ...

    def current_version(self) -> str:
        """The version that should be served now."""
        ...

    def fetch(self, version: str) -> Path:
        """A local model folder holding this version."""
        ...


class FolderSource:
    """A model folder; its version is the model's digest, so that a replaced folder is a new version.

    Args:
        folder: A folder that :func:`mxpipe.model.save_model` wrote.
        name: Name under which it is served; the folder's own name by default.
        candidates: Further folders whose versions a canary or a shadow may name.
    """

    def __init__(
        self, folder: str | Path, name: str | None = None, candidates: Sequence[str | Path] = ()
    ) -> None:
        self._folder = Path(folder).resolve()
        self._candidates = [Path(candidate).resolve() for candidate in candidates]
        self.name = name or self._folder.name
        self.reference = str(self._folder)

    def current_version(self) -> str:
        """Twelve hexadecimal digits of the model's digest.

        Raises:
            ModelFormatError: There is no such folder, or its ``model.json`` is damaged.
        """
        return _folder_version(self._folder)

    def fetch(self, version: str) -> Path:
        """The folder of a version, which is the served one or a candidate.

        Raises:
            ServingError: Neither holds this version.
        """
        folders = [self._folder, *self._candidates]
        for folder in folders:
            if _folder_version(folder) == version:
                return folder
        raise ServingError(
            f"[version] one of the folders {', '.join(map(str, folders))} must hold {version!r}; none does."
        )


class RegistrySource:
    """An alias in a registry.

    Args:
        reference: ``name@alias``.
        resolver: The registry's door.
    """

    def __init__(self, reference: str, resolver: ModelResolver) -> None:
        self.name, self._alias = split_reference(reference)
        self.reference = reference
        self._resolver = resolver

    def current_version(self) -> str:
        """The version that the alias names now."""
        return self._resolver.current_version(self.name, self._alias)

    def fetch(self, version: str) -> Path:
        """The local folder of one version."""
        return self._resolver.fetch(self.name, version)


def _folder_version(folder: Path) -> str:
    from mxpipe.model import model_digest

    return model_digest(folder)[:12]


def split_reference(reference: str) -> tuple[str, str]:
    """Split ``name@alias``.

    Raises:
        ServingError: One of the two is missing.

    Example:
        >>> split_reference("flight_delays@champion")
        ('flight_delays', 'champion')
    """
    name, separator, alias = reference.rpartition("@")
    if not separator or not name or not alias:
        raise ServingError(f"[model] a registry reference must read name@alias; got {reference!r}.")
    return name, alias


def load_resolver(registry: str | None, options: Mapping[str, str]) -> ModelResolver:
    """Load the resolver that the command line chose.

    Args:
        registry: Entry point name, or None when only one is installed.
        options: Passed to its factory, e.g. ``{"tracking_uri": ...}``.

    Raises:
        ServingError: No such resolver is installed, or several and none was named.
    """
    installed: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=RESOLVER_GROUP)}
    names = ", ".join(sorted(installed)) or "none"
    if registry is None:
        if len(installed) != 1:
            raise ServingError(
                f"[registry] one of the installed resolvers must be named; installed: {names}."
            )
        registry = next(iter(installed))
    if registry not in installed:
        raise ServingError(f"[registry] must be an installed resolver ({names}); got {registry!r}.")
    factory = cast("Callable[[Mapping[str, str]], ModelResolver]", installed[registry].load())
    return factory(options)
