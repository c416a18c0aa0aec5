"""Work that Spark's workers do for a driver: tasks in, their records out, errors in our own words."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mxpipe import errors
from mxpipe.errors import JobFailedError, MxpipeError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Task = Callable[[int, Iterable[Any]], Iterable[str]]
"""Takes a partition's number and its record batches; gives texts for the driver."""


def run_tasks(rows: DataFrame, task: Task, action: str) -> list[str]:
    """Run a task for each partition of a DataFrame; no row passes through the driver.

    Args:
        rows: What the tasks take.
        task: Runs in the workers; Spark may repeat it.
        action: What is done, for Spark's pages and for errors: ``writing data/flights``.

    Returns:
        What all tasks gave.

    Raises:
        MxpipeError: The worker's own error where a task raised one.
        JobFailedError: Spark failed for another reason.
    """
    context = rows.sparkSession.sparkContext
    group = f"mxpipe-{uuid.uuid4().hex}"
    context.setJobGroup(group, f"mxpipe: {action}", interruptOnCancel=True)
    try:
        return [row.record for row in rows.mapInArrow(_in_worker(task), "record string").collect()]
    except BaseException as error:
        # An interrupted driver must not leave tasks behind that write into a folder it is about to remove.
        with contextlib.suppress(Exception):
            context.cancelJobGroup(group)
        if isinstance(error, Exception):
            raise _clear_error(error, action) from error
        raise


def _in_worker(task: Task) -> Any:
    def run(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        for record in task(context.partitionId(), batches):
            yield pyarrow.RecordBatch.from_arrays([pyarrow.array([record], pyarrow.string())], ["record"])

    return run


def _clear_error(error: Exception, action: str) -> MxpipeError:
    """The worker's own error where there is one; Spark's message without its stack traces otherwise."""
    match = re.search(r"mxpipe\.errors\.(\w+): (.*)", str(error))
    kind = getattr(errors, match[1], None) if match else None
    if match and isinstance(kind, type) and issubclass(kind, MxpipeError):
        return kind(match[2].strip())
    lines = [line for line in str(error).splitlines() if line.strip()]
    # A Python traceback ends with the reason; other messages begin with it.
    reasons = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b: ", line)]
    reason = reasons[-1] if reasons else lines[0] if lines else type(error).__name__
    return JobFailedError(f"[spark] {action} must succeed; got {reason.strip()}")
