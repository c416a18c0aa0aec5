"""The error tree. Every error that mxpipe raises on purpose is in it.

::

    MxpipeError
    ├── OperatorError (ValueError)          an op was called with inputs or attributes it cannot take
    ├── GraphError (ValueError)             a graph is malformed, or a traced value was read
    ├── BlockError (RuntimeError)           a block, parameter or trainer was used in a way it cannot serve
    │   └── DeferredInitializationError     a parameter's shape is not known before the first forward pass
    ├── DataError (ValueError)              something is wrong with the data itself: a retry cannot help
    │   ├── SchemaError                     a column is missing or has another type
    │   ├── SnapshotCorruptError            a shard or manifest does not match its digest
    │   └── ValidationError                 a snapshot does not meet its expectations
    ├── ModelFormatError (ValueError)       a model folder cannot be read
    ├── SpecificationError (ValueError)     a training specification does not make sense
    ├── RequestError (ValueError)           an inference request does not fit the model: the client's fault
    ├── JobError (RuntimeError)             a training job
    │   ├── JobNotFoundError                no job has this id
    │   ├── JobFailedError                  the job ended with an error of its own
    │   ├── JobCancelledError               the job was cancelled by someone
    │   └── LeaseHeldError                  another live process works in this run directory
    ├── ServingError (RuntimeError)         an inference server did not start, or has no such model
    ├── StorageError (OSError)              the disk is full or read-only: nothing was published
    ├── TrackingError (RuntimeError)        the tracking server refused, or cannot be reached
    ├── RegistryConflictError (RuntimeError)  the champion changed meanwhile: evaluate again
    ├── GateRejectedError (RuntimeError)    a candidate did not pass: a decision, not a fault
    └── MissingExtraError (ImportError)     an optional dependency is not installed

Infrastructure errors (StorageError, TrackingError, LeaseHeldError) may go away on a retry; data, model,
specification and gate errors do not.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class MxpipeError(Exception):
    """Root of every error that mxpipe raises on purpose."""


class OperatorError(MxpipeError, ValueError):
    """An op was called with inputs or attributes it cannot take."""


class GraphError(MxpipeError, ValueError):
    """A graph is malformed, or the value of a traced array was read."""


class BlockError(MxpipeError, RuntimeError):
    """A block, parameter or trainer was used in a way it cannot serve."""


class DeferredInitializationError(BlockError):
    """A parameter has no value yet: its shape is not known before the first forward pass."""


class DataError(MxpipeError, ValueError):
    """Something is wrong with the data itself: a retry cannot help."""


class SchemaError(DataError):
    """A column is missing or has another type than declared."""


class SnapshotCorruptError(DataError):
    """A shard or manifest does not match its digest."""


class ValidationError(DataError):
    """A snapshot does not meet its expectations."""


class ModelFormatError(MxpipeError, ValueError):
    """A model folder cannot be read."""


class SpecificationError(MxpipeError, ValueError):
    """A training specification does not make sense."""


class RequestError(MxpipeError, ValueError):
    """An inference request does not fit the model: the client's fault."""


class JobError(MxpipeError, RuntimeError):
    """A training job went wrong."""


class JobNotFoundError(JobError):
    """No job has this id."""


class JobFailedError(JobError):
    """The job ended with an error of its own."""


class JobCancelledError(JobError):
    """The job was cancelled by someone."""


class LeaseHeldError(JobError):
    """Another live process works in this run directory."""


class ServingError(MxpipeError, RuntimeError):
    """An inference server did not start, stop or load what it was asked to."""


class StorageError(MxpipeError, OSError):
    """The disk is full, or a file cannot be written: nothing was published."""


class TrackingError(MxpipeError, RuntimeError):
    """The tracking server refused, or cannot be reached."""


class RegistryConflictError(MxpipeError, RuntimeError):
    """The champion changed meanwhile: evaluate again."""


class GateRejectedError(MxpipeError, RuntimeError):
    """A candidate did not pass its gate: a decision, not a fault."""


class MissingExtraError(MxpipeError, ImportError):
    """An optional dependency is not installed."""


def is_retryable(error: BaseException) -> bool:
    """Whether doing the same again may succeed: not when the data, the model or the specification is wrong.

    Example:
        >>> is_retryable(StorageError("full")), is_retryable(SchemaError("no such column"))
        (True, False)
    """
    permanent = (
        OperatorError,
        GraphError,
        BlockError,
        DataError,
        ModelFormatError,
        SpecificationError,
        RequestError,
        GateRejectedError,
        MissingExtraError,
    )
    return not isinstance(error, permanent)


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say how to install it.

    Args:
        module: Dotted name of the module, a literal in the calling code.
        extra: The extra of mxpipe that brings it.

    Raises:
        MissingExtraError: The module is not installed.

    Example:
        >>> require("json", extra="serve").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'[import] {module} must be installed; run: pip install "mxpipe[{extra}]".'
        ) from error
