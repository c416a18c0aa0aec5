"""What the other modules share of MLflow: a client, its errors as ours, quoting, and locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mxpipe.errors import MxpipeError, SpecificationError, StorageError, TrackingError, require
from mxpipe.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG = "mxpipe.key"
"""Tag by which runs, logged models and versions of one idempotency key are found again."""

_ABSENT = frozenset(("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"))


def make_client(tracking_uri: str | None) -> MlflowClient:
    """A client of one tracking server and its registry; None means MLflow's own setting.

    Raises:
        MissingExtraError: MLflow is not installed.
        TrackingError: The address is none that MLflow knows.
    """
    mlflow = require("mlflow", extra="mlflow")
    with tracking_errors(f"connecting to {tracking_uri or 'the tracking server'}"):
        client: MlflowClient = mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    return client


@contextmanager
def tracking_errors(action: str) -> Iterator[None]:
    """Turn whatever MLflow and its transports raise into a :class:`~mxpipe.errors.TrackingError`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MxpipeError:
        raise
    except (MlflowException, OSError) as error:
        raise TrackingError(redact(f"[mlflow] {action} must succeed; {error}")) from error


def is_absent(error: Exception) -> bool:
    """Whether an MlflowException says that the thing asked for does not exist."""
    return getattr(error, "error_code", None) in _ABSENT


def quoted(value: str) -> str:
    """A string literal of MLflow's filter language, which knows no escapes.

    Raises:
        SpecificationError: The value holds both kinds of quotes.
    """
    for quote in ("'", '"'):
        if quote not in value:
            return f"{quote}{value}{quote}"
    raise SpecificationError(f"[mlflow] a name or key must not hold both kinds of quotes; got {value!r}.")


def private_folder(name: str) -> Path:
    """A folder of this user for temporary files that outlive a process.

    Raises:
        StorageError: Someone else made a folder of this name.
    """
    folder = Path(tempfile.gettempdir(), f"mxpipe-{os.getuid()}", name)
    for part in (folder.parent, folder):
        part.mkdir(mode=0o700, exist_ok=True)
        if part.stat().st_uid != os.getuid():
            raise StorageError(f"[{part}] the folder must belong to this user; it does not.")
    return folder


@contextmanager
def locked(*identity: str) -> Iterator[None]:
    """Let one process of this user on this machine at a time work on something in a registry.

    MLflow itself has no compare-and-set; between machines the read after the write is what finds a conflict.
    """
    name = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:32]
    with open(private_folder("locks") / name, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
