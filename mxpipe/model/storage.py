"""Writing files so that a reader sees all of them or nothing.

Everything that mxpipe publishes (a model, a checkpoint, a status) goes through here: it is written aside,
flushed to the disk, and renamed. A kill leaves at most a file whose name ends in `.partial`, which nobody
reads and the next owner of the folder removes. A full disk leaves nothing and raises
:class:`~mxpipe.errors.StorageError`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mxpipe.errors import StorageError

PARTIAL_SUFFIX = ".partial"

_STORAGE_ERRNOS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
)
_SPARE_BYTES = 1 << 16  # manifests, directories, a status
_counter = itertools.count()


@contextlib.contextmanager
def storage_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an operating-system error about space or permission into a StorageError that names the file."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno not in _STORAGE_ERRNOS:
            raise
        raised = StorageError(f"[{os.fspath(path)}] the file must be writable; got {error.strerror}.")
        raised.errno = error.errno
        raise raised from error


def require_space(path: str | os.PathLike[str], size: int) -> None:
    """Refuse to begin what the disk cannot hold, before anything of it is written.

    Others may fill the disk meanwhile, so this saves time and spares what else is on the disk; that nothing
    is lost is seen to by how files are written.

    Args:
        path: What is about to be written; it need not exist, nor its folders.
        size: Bytes that it will take; for what stands around it some more must be free.

    Raises:
        StorageError: There is not enough free space.

    Example:
        >>> require_space("models/late", 1 << 62)
        Traceback (most recent call last):
        ...
        mxpipe.errors.StorageError: [models/late] there must be 4,611,686,018,428 MB free to write it; got ...
    """
    folder = Path(path).absolute().parent
    while not folder.is_dir():
        folder = folder.parent
    with storage_errors(path):
        free = shutil.disk_usage(folder).free
    needed = size + _SPARE_BYTES
    if free < needed:
        raised = StorageError(
            f"[{os.fspath(path)}] there must be {math.ceil(needed / 1e6):,} MB free to write it;"
            f" got {math.floor(free / 1e6):,} MB."
        )
        raised.errno = errno.ENOSPC
        raise raised


def lock_file(path: Path, wait: bool = True) -> int | None:
    """Open a file, made with its folder when it is not there, and hold it locked until it is closed.

    The folder may be removed by whoever held the lock before: then the file is no longer the one of this
    name, and the lock is taken again on the new one.

    Args:
        path: The file.
        wait: Wait for the lock, or return None where another open file holds it.

    Returns:
        The descriptor, not inherited by children.

    Raises:
        StorageError: The file cannot be made.
    """
    while True:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:  # the folder was removed between the two calls
                continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def partial_path(path: Path) -> Path:
    """A hidden name beside `path`, unique to this process, under which it is written first."""
    return path.with_name(f".{path.name}.{os.getpid()}.{next(_counter)}{PARTIAL_SUFFIX}")


def fsync_directory(path: Path) -> None:
    """Make the names inside a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def write_aside(path: str | os.PathLike[str], durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` only when the block ends without an error.

    Args:
        path: The file to create or replace; its directory must exist.
        durable: Flush the file and its name to the disk before returning. A heartbeat does not need it.

    Raises:
        StorageError: The disk is full or the directory cannot be written; `path` is as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with write_aside(f"{folder}/note.txt") as file:
        ...         _ = file.write(b"whole")
        ...     Path(folder, "note.txt").read_bytes()
        b'whole'
    """
    target = Path(path)
    aside = partial_path(target)
    with storage_errors(target):
        try:
            with open(aside, "wb") as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(aside, target)
            if durable:
                fsync_directory(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise


def write_json(path: str | os.PathLike[str], value: Any, durable: bool = True) -> None:
    """Replace a JSON file as a whole; the bytes are a function of the value alone."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with write_aside(path, durable=durable) as file:
        file.write(text.encode())


@contextlib.contextmanager
def publish_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder aside and give it its name when the block ends without an error.

    An existing folder of this name is replaced; a reader that opened its files keeps them.

    Raises:
        StorageError: The disk is full; nothing of the new folder remains and the old one is untouched.
    """
    target = Path(path)
    aside = partial_path(target)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.mkdir()
            yield aside
            fsync_directory(aside)
            _swap_in(aside, target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def _swap_in(aside: Path, target: Path) -> None:
    """Rename `aside` to `target`. A directory cannot be renamed over a full one: the old one steps back."""
    old = partial_path(target)
    try:
        os.rename(target, old)
    except FileNotFoundError:
        os.rename(aside, target)
    else:
        try:
            os.rename(aside, target)
        except BaseException:
            os.rename(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    fsync_directory(target.parent)


def remove_partial(folder: Path) -> None:
    """Remove what a killed writer left in a folder. Only the folder's owner may call this."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if not entry.name.endswith(PARTIAL_SUFFIX):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_digest(value: Any) -> str:
    """SHA-256 of a JSON value written with sorted keys and no spaces.

    Example:
        >>> canonical_digest({"b": 1, "a": 2}) == canonical_digest({"a": 2, "b": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
