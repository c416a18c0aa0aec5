"""Folders that appear whole or not at all, on a local disk or behind any fsspec URL.

A writer fills a *staging* place and publishes it once:

* local: a hidden folder beside the target; files and folder are fsynced, then one rename publishes. The
  folder is locked while its writer lives, so a retry empties what a killed attempt left, and two writers
  never mix.
* remote (object stores have no rename): shards go to the target under names that hold their content's digest,
  the manifest is written last. A folder without a manifest is not a snapshot. There is no lock: the caller
  sees to it that one writer at a time is at work.

Every failure to write becomes a StorageError, and staging is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from mxpipe.errors import DataError, SnapshotCorruptError, StorageError, require

MANIFEST = "manifest.json"
INSIDE, FILES = "inside", "files"  # of a manifest's metadata: what else belongs to the folder
STATISTICS_SUFFIX = ".statistics.json"  # of files that wait in staging for the driver


class Staging(Protocol):
    """Where one writer puts the files of one folder before it is published."""

    uri: str

    def publish(self, manifest: bytes, keep: set[str]) -> None:
        """Make the folder appear with the files in ``keep`` and the manifest, or raise and change nothing.

        Args:
            manifest: The folder's own manifest.
            keep: Names, those of files in folders inside as ``folder/name``.
        """

    def inside(self, name: str) -> str:
        """URI of a folder inside, made where it has to be."""

    def discard(self) -> None:
        """Remove everything that was staged."""

    def release(self) -> None:
        """Leave what was staged for the next writer."""


@contextlib.contextmanager
def storage_errors(action: str, place: str) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what was attempted and where."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StorageError(error.errno, f"[storage] {action} {place} must succeed; got {reason}.") from error


def local_path(uri: str) -> Path | None:
    """The path of a local folder, or None where the URI names a remote one.

    Example:
        >>> local_path("file:///data/flights"), local_path("s3://bucket/flights")
        (PosixPath('/data/flights'), None)
    """
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri).absolute()


def open_staging(uri: str, resume: bool = False) -> Staging:
    """Staging for a folder at ``uri``; what a killed attempt left there is removed, or kept to go on with.

    Raises:
        StorageError: Another process writes the same folder, or the place cannot be written.
    """
    path = local_path(uri)
    return LocalStaging(path, resume) if path is not None else RemoteStaging(uri)


class LocalStaging:
    """A hidden, locked folder beside the target."""

    def __init__(self, target: Path, resume: bool = False) -> None:
        self._target = target
        self._path = target.parent / f".{target.name}.writing"
        self.uri = str(self._path)
        with storage_errors("creating", self.uri):
            self._path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise StorageError(
                f"[storage] {target} must have one writer at a time; got a second while another process "
                f"holds {self._path}."
            ) from error
        with storage_errors("emptying", self.uri):
            self._same_folder()
            if not resume:
                self._remove_all_but(set())

    def inside(self, name: str) -> str:
        """A folder in the staging folder."""
        with storage_errors("creating", f"{self.uri}/{name}"):
            (self._path / name).mkdir(exist_ok=True)
        return f"{self.uri}/{name}"

    def publish(self, manifest: bytes, keep: set[str]) -> None:
        """Write the manifest, make everything durable, rename."""
        with storage_errors("publishing", str(self._target)):
            for folder in self._remove_all_but(keep):
                _fsync_folder(folder)
            with open(self._path / MANIFEST, "wb") as file:
                file.write(manifest)
                file.flush()
                os.fsync(file.fileno())
            os.fsync(self._lock)
            # Fails where the target exists and is not empty: a published folder is never replaced.
            os.rename(self._path, self._target)
            _fsync_folder(self._target.parent)
        self._close()

    def discard(self) -> None:
        """Remove the staging folder."""
        if self._lock >= 0:
            shutil.rmtree(self._path, ignore_errors=True)
            self._close()

    def release(self) -> None:
        """Unlock the staging folder."""
        self._close()

    def _remove_all_but(self, keep: set[str]) -> list[Path]:
        """Remove other files, and folders that are empty then; returns the folders that stay."""
        remaining = []
        for path in self._path.iterdir():
            if path.is_dir():
                for file in path.iterdir():
                    if f"{path.name}/{file.name}" not in keep:
                        file.unlink()
                if any(path.iterdir()):
                    remaining.append(path)
                else:
                    path.rmdir()
            elif path.name not in keep:
                path.unlink()
        return remaining

    def _same_folder(self) -> None:
        # The holder of the lock may have published (renamed) the folder between our open and our lock.
        try:
            unchanged = os.path.samestat(os.fstat(self._lock), os.stat(self._path))
        except FileNotFoundError:
            unchanged = False
        if not unchanged:
            self._close()
            raise StorageError(f"[storage] {self._target} must have one writer at a time; got another one.")

    def _close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class RemoteStaging:
    """The target itself: a folder counts as published when its manifest is there."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._system, self._path = _filesystem(self.uri)

    def publish(self, manifest: bytes, keep: set[str]) -> None:
        """Write the manifest, last of all."""
        with storage_errors("publishing", self.uri):
            if self._system.exists(f"{self._path}/{MANIFEST}"):
                raise FileExistsError(f"{self.uri} is already published")
            self._remove(lambda name: name not in keep)
            self._system.pipe_file(f"{self._path}/{MANIFEST}", manifest)

    def discard(self) -> None:
        """Remove what was staged, but nothing that belongs to a published snapshot."""
        keep: set[str] = set()
        with contextlib.suppress(OSError):
            if self._system.exists(f"{self._path}/{MANIFEST}"):
                keep = self._files_of("")
            self._remove(lambda name: name not in keep)

    def inside(self, name: str) -> str:
        """A folder of an object store is there once it holds a file."""
        return f"{self.uri}/{name}"

    def release(self) -> None:
        """Nothing is locked."""

    def _files_of(self, folder: str) -> set[str]:
        """Names that a manifest accounts for, those of the folders inside included."""
        manifest = json.loads(self._system.cat_file(f"{self._path}/{folder}{MANIFEST}"))
        shards = (shard["name"] for shard in manifest["shards"])
        names = {folder + name for name in (MANIFEST, *shards, *manifest["metadata"].get(FILES, {}))}
        for inner in manifest["metadata"].get(INSIDE, {}):
            names |= self._files_of(f"{folder}{inner}/")
        return names

    def _remove(self, chosen: Callable[[str], bool]) -> None:
        if self._system.exists(self._path):
            for path in self._system.find(self._path):
                if chosen(path[len(self._path) :].lstrip("/")):
                    self._system.rm_file(path)


def write_file(folder: str, name: Callable[[str], str], fill: Callable[[HashingFile], object]) -> WrittenFile:
    """Write one file of a staging place: aside first, then under the name that its digest gives.

    Writing the same content again replaces the file by itself, so a repeated task does no harm.

    Args:
        folder: URI of the staging place.
        name: Gives the file's name for its sha256 digest.
        fill: Writes the content.

    Raises:
        StorageError: The file could not be written; nothing of it is left.
    """
    path = local_path(folder)
    with storage_errors("writing a shard in", folder):
        if path is None:
            return _write_remote(folder, name, fill)
        temporary = path / f"shard.{uuid.uuid4().hex}.part"
        try:
            with open(temporary, "xb") as raw:
                file = HashingFile(raw)
                fill(file)
                raw.flush()
                os.fsync(raw.fileno())
            written = file.written(name)
            os.rename(temporary, path / written.name)
            return written
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_file_if_there(folder: str, name: str) -> bytes | None:
    """The content of a file of a staging place, or None where there is no such file.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        return read_file(folder, name)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def remove_file(folder: str, name: str) -> None:
    """Remove a file of a staging place; one that is gone already is no error.

    Raises:
        StorageError: It cannot be removed.
    """
    path = local_path(folder)
    with storage_errors(f"removing {name} in", folder), contextlib.suppress(FileNotFoundError):
        if path is not None:
            (path / name).unlink()
        else:
            system, remote = _filesystem(folder)
            system.rm_file(f"{remote}/{name}")


def read_file(folder: str, name: str) -> bytes:
    """The content of a file of a staging place.

    Raises:
        StorageError: It cannot be read.
    """
    path = local_path(folder)
    with storage_errors(f"reading {name} in", folder):
        if path is not None:
            return (path / name).read_bytes()
        system, remote = _filesystem(folder)
        content: bytes = system.cat_file(f"{remote}/{name}")
        return content


class WrittenFile:
    """Name, size in bytes and sha256 (hex) of a finished file."""

    def __init__(self, name: str, size: int, sha256: str) -> None:
        self.name, self.size, self.sha256 = name, size, sha256


class HashingFile:
    """A writable file that counts and hashes what passes through it."""

    closed = False

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._size, self._digest = raw, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write all of ``data``."""
        self._digest.update(data)
        self._raw.write(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._size

    def flush(self) -> None:
        """Pass on to the file below."""
        self._raw.flush()

    def written(self, name: Callable[[str], str]) -> WrittenFile:
        """Name, size and digest of what was written."""
        sha256 = self._digest.hexdigest()
        return WrittenFile(name(sha256), self._size, sha256)


def read_manifest(uri: str, limit: int) -> bytes:
    """The bytes of a folder's manifest.

    Raises:
        DataError: There is no published folder at ``uri``.
        SnapshotCorruptError: The manifest is larger than ``limit`` bytes.
        StorageError: The place cannot be read.
    """
    path = local_path(uri)
    try:
        if path is not None:
            size = (path / MANIFEST).stat().st_size
            content = (path / MANIFEST).read_bytes() if size <= limit else b""
        else:
            system, remote = _filesystem(uri)
            size = system.size(f"{remote}/{MANIFEST}")
            content = system.cat_file(f"{remote}/{MANIFEST}") if size <= limit else b""
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"[snapshot] {uri} must be a published snapshot; got no {MANIFEST} there.") from error
    except OSError as error:
        raise StorageError(
            error.errno, f"[storage] {uri}/{MANIFEST} must be readable; got {error}."
        ) from error
    if size > limit:
        raise SnapshotCorruptError(f"[snapshot] {uri}/{MANIFEST} must be at most {limit} bytes; got {size}.")
    return content


def local_file(uri: str, name: str, sha256: str) -> Path:
    """A local path of one file of a folder; a remote file is fetched into a cache named by its digest.

    Raises:
        SnapshotCorruptError: The folder does not hold the file.
    """
    path = local_path(uri)
    if path is not None:
        if not (path / name).is_file():
            raise SnapshotCorruptError(f"[snapshot] {path / name} must exist; got no such file.")
        return path / name
    cached = cache_folder() / f"{sha256}.arrow"
    if not cached.is_file():
        system, remote = _filesystem(uri)
        with storage_errors("fetching", f"{uri}/{name}"):
            cached.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=cached.parent)
            os.close(handle)
            try:
                system.get_file(f"{remote}/{name}", temporary)
                os.rename(temporary, cached)
            except FileNotFoundError as error:
                raise SnapshotCorruptError(
                    f"[snapshot] {uri}/{name} must exist; got no such file."
                ) from error
            finally:
                Path(temporary).unlink(missing_ok=True)
    return cached


def cache_folder() -> Path:
    """Where shards of remote snapshots are kept, so that they can be memory-mapped."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mxpipe" / "shards"


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_remote(
    folder: str, name: Callable[[str], str], fill: Callable[[HashingFile], object]
) -> WrittenFile:
    system, remote = _filesystem(folder)
    system.makedirs(remote, exist_ok=True)
    with tempfile.TemporaryFile() as raw:
        file = HashingFile(raw)
        fill(file)
        written = file.written(name)
        raw.seek(0)
        with system.open(f"{remote}/{written.name}", "wb") as sink:
            shutil.copyfileobj(raw, sink, 1 << 20)
    return written


def _filesystem(uri: str) -> tuple[Any, str]:
    system, path = require("fsspec", extra="data").core.url_to_fs(uri)
    return system, path


def _fsync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
