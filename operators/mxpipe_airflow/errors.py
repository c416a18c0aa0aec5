"""Which errors Airflow may retry.

Data, model, specification, registry and gate errors are the same on every attempt: the task fails at once.
All else (a full disk, a tracking server that is away, a killed job) may be gone a minute later: the task
retries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from mxpipe.errors import JobFailedError, MxpipeError, RegistryConflictError, is_retryable


class NotificationError(MxpipeError, RuntimeError):
    """A notification did not reach whom it was meant for.

    Example:
        >>> raise NotificationError("[notifier] the webhook must take the message; got status 500.")
        Traceback (most recent call last):
        ...
        mxpipe_airflow.errors.NotificationError: [notifier] the webhook must take the message; got status 500.
    """


@contextmanager
def failing_at_once() -> Iterator[None]:
    """Turn errors that no retry can mend into ``AirflowFailException``; let all others through.

    Raises:
        AirflowFailException: Such an error was raised inside.

    Example:
        >>> from mxpipe.errors import SchemaError
        >>> with failing_at_once():
        ...     raise SchemaError("[column carrier] it must be text; got int64.")
        Traceback (most recent call last):
        ...
        airflow.sdk.exceptions.AirflowFailException: SchemaError: [column carrier] it must be text; got int64.
    """
    try:
        yield
    except MxpipeError as error:
        # A champion that has changed needs a new evaluation, which a retry of this task is not.
        if is_retryable(error) and not isinstance(error, RegistryConflictError):
            raise
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


def job_error(job_id: str, error: Mapping[str, Any] | None) -> Exception:
    """The exception for a failed job, from what its worker left in the status.

    Returns:
        ``JobFailedError`` where a retry may help, else ``AirflowFailException``.

    Example:
        >>> job_error("a1", {"type": "SchemaError", "message": "no column", "retryable": False})
        AirflowFailException('[job a1] failed; SchemaError: no column')
        >>> job_error("a1", None)
        JobFailedError('[job a1] failed; it left no reason: see its log')
    """
    if error is None:
        return JobFailedError(f"[job {job_id}] failed; it left no reason: see its log")
    text = f"[job {job_id}] failed; {error['type']}: {error['message']}"
    return JobFailedError(text) if error["retryable"] else AirflowFailException(text)
