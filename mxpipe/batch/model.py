"""Which model a batch prediction uses: named once by the driver, the same bytes in every worker.

A reference is a folder, ``models:/name@alias`` or ``models:/name/version``. The driver resolves it once and
pins it to the model's digest. A worker looks for the folder where the driver found it; on another host it
puts the files into the host's cache, once for all its processes, which then share the pages of the weights.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mxpipe.errors import ModelFormatError, SpecificationError
from mxpipe.model import Model, load_model, model_digest
from mxpipe.model.format import MODEL_FILE, WEIGHTS_FILE
from mxpipe.model.storage import lock_file, publish_folder

ModelFiles = Mapping[str, bytes]
_REGISTRY_URI = re.compile(r"models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>[^@/]+))")
_KEPT_MODELS = 2

_loaded: dict[str, Model] = {}
_loading = threading.Lock()


@dataclass(frozen=True)
class PinnedModel:
    """One model, whatever its name may mean later.

    Attributes:
        uri: A folder, or ``models:/name/version``.
        path: The driver's folder of it.
        digest: Names its content.
    """

    uri: str
    path: str
    digest: str

    def to_json(self) -> dict[str, str]:
        """As JSON values."""
        return asdict(self)

    def files(self) -> dict[str, bytes]:
        """The model's two files, to be sent to hosts that do not see the folder."""
        return {name: (Path(self.path) / name).read_bytes() for name in (MODEL_FILE, WEIGHTS_FILE)}


def resolve_model(
    model_uri: str | os.PathLike[str] | PinnedModel,
    *,
    registry: str | None = None,
    options: Mapping[str, str] | None = None,
) -> PinnedModel:
    """Find a model and pin it.

    Args:
        model_uri: A model folder, ``models:/name@alias`` or ``models:/name/version``; a pinned model is
            returned as it is.
        registry: Entry point of the group ``mxpipe.model_resolvers`` that answers for ``models:/``; may be
            left out where one is installed.
        options: What its factory takes, e.g. ``{"tracking_uri": ...}``.

    Raises:
        SpecificationError: The reference is none of these.
        ModelFormatError: The folder is no model.
        ServingError: The registry has no such version or alias, or no resolver is installed.
        TrackingError: The registry cannot be reached.
    """
    if isinstance(model_uri, PinnedModel):
        return model_uri
    uri = os.fspath(model_uri)
    if ":/" not in uri:
        path = Path(uri).absolute()
        return PinnedModel(str(path), str(path), model_digest(path))
    match = _REGISTRY_URI.fullmatch(uri)
    if match is None:
        raise SpecificationError(
            f"[batch] the model must be a folder, models:/name@alias or models:/name/version; got {uri!r}."
        )
    from mxpipe.serve.sources import load_resolver

    resolver = load_resolver(registry, options or {})
    name = match["name"]
    version = match["version"] or resolver.current_version(name, match["alias"])
    path = resolver.fetch(name, version).absolute()
    return PinnedModel(f"models:/{name}/{version}", str(path), model_digest(path))


def load_pinned(pinned: PinnedModel, files: Callable[[], ModelFiles] | None = None) -> Model:
    """The model in this process: loaded once, its weights mapped from a folder that the host shares.

    Args:
        pinned: What the driver resolved.
        files: Gives the model's files where the driver's folder is not seen; not called otherwise.

    Raises:
        ModelFormatError: The model is not there, damaged, or not the one that was pinned.
    """
    with _loading:
        if pinned.digest not in _loaded:
            while len(_loaded) >= _KEPT_MODELS:
                _loaded.pop(next(iter(_loaded)))
            _loaded[pinned.digest] = load_model(_host_folder(pinned, files))
        return _loaded[pinned.digest]


def _host_folder(pinned: PinnedModel, files: Callable[[], ModelFiles] | None) -> Path:
    cached = _cache_folder() / pinned.digest
    for folder in (Path(pinned.path), cached):
        if _holds(folder, pinned.digest):
            return folder
    if files is None:
        raise ModelFormatError(
            f"[{pinned.path}] the folder must hold the model of digest {pinned.digest[:16]}...; it does not."
        )
    lock = lock_file(cached.with_suffix(".lock"))
    assert lock is not None
    try:
        if not _holds(cached, pinned.digest):  # another process of this host may have been quicker
            with publish_folder(cached) as aside:
                for name, content in files().items():
                    if name in (MODEL_FILE, WEIGHTS_FILE):
                        (aside / name).write_bytes(content)
    finally:
        os.close(lock)
    return cached


def _holds(folder: Path, digest: str) -> bool:
    try:
        return model_digest(folder) == digest
    except ModelFormatError:
        return False


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mxpipe" / "models"
