"""Work that Dask's workers do for a driver: tasks in, their results out, errors in our own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dask
import dask.dataframe
import numpy
import pyarrow

from mxpipe.errors import JobFailedError, MxpipeError, SchemaError

if TYPE_CHECKING:
    from dask.delayed import Delayed


def run_tasks(tasks: Sequence[Delayed], action: str) -> list[Any]:
    """Compute tasks where Dask computes now: on the current client's cluster, else in this process.

    No task is pinned to a worker: those of a worker that dies are done by the others.

    Args:
        tasks: What to compute.
        action: What is done, for errors: ``writing data/flights``.

    Returns:
        Their results, in order.

    Raises:
        MxpipeError: A task's own error.
        JobFailedError: Dask failed for another reason, or workers died over and over.
    """
    try:
        return list(dask.compute(*tasks, optimize_graph=False))
    except MxpipeError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise JobFailedError(f"[dask] {action} must succeed; got {reason}") from error


def arrow_schema(frame: dask.dataframe.DataFrame) -> pyarrow.Schema:
    """The Arrow types of a DataFrame's columns; columns of Python objects count as text."""
    objects = frame.dtypes.map(lambda dtype: isinstance(dtype, numpy.dtype) and dtype.hasobject)
    typed = frame._meta_nonempty[list(frame.columns[~objects])]
    known = pyarrow.Schema.from_pandas(typed, preserve_index=False)
    return pyarrow.schema(
        [
            pyarrow.field(name, pyarrow.string() if is_object else known.field(name).type)
            for name, is_object in objects.items()
        ]
    )


def arrow_table(part: Any, schema: pyarrow.Schema, *, lenient: bool = False) -> pyarrow.Table:
    """A partition as Arrow, of the same types in every partition.

    Args:
        part: A pandas DataFrame.
        schema: See ``arrow_schema``.
        lenient: A column of Python objects that are not all of its type becomes text, to be read value by
            value.

    Raises:
        SchemaError: A column does not hold what the schema says; the error names it.
    """
    columns = []
    for field in schema:
        values = part[field.name]
        try:
            columns.append(pyarrow.Array.from_pandas(values, type=field.type))
            continue
        except (pyarrow.ArrowException, TypeError, OverflowError) as error:
            if not lenient:
                raise SchemaError(
                    f"[dask] column {field.name!r} must hold {field.type} in every partition; got {error}."
                ) from error
        text = [None if gone else str(value) for value, gone in zip(values, values.isna(), strict=True)]
        columns.append(pyarrow.array(text, pyarrow.string()))
    return pyarrow.Table.from_arrays([_single(column) for column in columns], names=schema.names)


def _single(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
