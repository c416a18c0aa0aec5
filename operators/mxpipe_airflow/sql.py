"""Rows of a query through an Airflow connection, batch by batch, as Arrow."""

from __future__ import annotations

import decimal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from mxpipe.errors import DataError, SchemaError, SpecificationError, StorageError

if TYPE_CHECKING:
    import pyarrow
    from sqlalchemy import Connection as DatabaseConnection


@contextmanager
def reading(conn_id: str) -> Iterator[DatabaseConnection]:
    """An open connection to the database of an Airflow connection, to be read from only.

    The hook of its type makes it (``DbApiHook`` of the common.sql provider); where no provider for the type
    is installed, SQLAlchemy does from what the connection says.

    Raises:
        SpecificationError: The connection is no database.
        StorageError: The database cannot be reached; the text holds no password.
    """
    from airflow.sdk import BaseHook
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    connection = BaseHook.get_connection(conn_id)
    try:
        engine = _hook_engine(connection) or create_engine(_address(connection))
    except (ArgumentError, NoSuchModuleError) as error:
        raise SpecificationError(
            f"[connection {conn_id}] it must be a database; got the type {connection.conn_type!r}."
        ) from error
    try:
        with engine.connect() as opened:
            yield opened
            opened.rollback()
    except SQLAlchemyError as error:
        _raise(conn_id, error)
    finally:
        engine.dispose()


def read_query(
    database: DatabaseConnection,
    sql: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    types: Mapping[str, str] | None = None,
    rows: int = 50_000,
) -> Iterator[pyarrow.RecordBatch]:
    """The result of a query, with a cursor of the server's where its driver has one.

    Args:
        database: From ``reading``.
        sql: A query; ``:name`` stands for a parameter.
        parameters: Values of the parameters.
        types: Types of columns by name, as a snapshot has them. What is not named here is taken from the
            first batch; a decimal becomes float64.
        rows: Rows of a batch.

    Raises:
        SchemaError: A column holds values of different types, or none in the first batch; the error names it.
    """
    import pyarrow
    from sqlalchemy import text

    streaming = database.execution_options(stream_results=True, max_row_buffer=rows)
    schema: pyarrow.Schema | None = None
    # Closed whatever happens: an open cursor holds locks.
    with closing(streaming.execute(text(sql), dict(parameters or {}))) as result:
        names = list(result.keys())
        for part in result.partitions(rows):
            columns = [_plain(values) for values in zip(*part, strict=True)]
            if schema is None:
                schema = _schema(names, columns, types or {})
            arrays = [
                _array(name, values, field.type)
                for name, values, field in zip(names, columns, schema, strict=True)
            ]
            yield pyarrow.RecordBatch.from_arrays(arrays, schema=schema)


def _hook_engine(connection: Any) -> Any:
    from airflow.sdk.exceptions import AirflowException

    try:
        hook = connection.get_hook()
    except AirflowException:  # no installed provider knows the type
        return None
    return hook.get_sqlalchemy_engine() if hasattr(hook, "get_sqlalchemy_engine") else None


def _address(connection: Any) -> Any:
    from sqlalchemy.engine import URL

    kind = {"postgres": "postgresql"}.get(connection.conn_type, connection.conn_type)
    if kind == "sqlite":  # Airflow keeps the file's path where others have their host
        return URL.create(kind, database=connection.host or connection.schema)
    place = {"host": connection.host, "port": connection.port, "database": connection.schema}
    return URL.create(kind, connection.login, connection.password, **place)


def _raise(conn_id: str, error: Exception) -> None:
    from sqlalchemy.exc import InterfaceError, OperationalError

    reason = str(getattr(error, "orig", None) or error).splitlines()[0]
    if isinstance(error, OperationalError | InterfaceError) and "no such" not in reason:
        raise StorageError(f"[connection {conn_id}] the database must answer; got {reason}.") from error
    raise DataError(f"[connection {conn_id}] the query must run; got {reason}.") from error


def _plain(values: Sequence[Any]) -> list[Any]:
    return [float(value) if isinstance(value, decimal.Decimal) else value for value in values]


def _schema(names: Sequence[str], columns: Sequence[list[Any]], types: Mapping[str, str]) -> pyarrow.Schema:
    import pyarrow

    from mxpipe.data import type_from_name

    if unknown := sorted(set(types) - set(names)):
        raise SchemaError(f"[sql] types must name columns of the result ({', '.join(names)}); got {unknown}.")
    fields = []
    for name, values in zip(names, columns, strict=True):
        if name in types:
            fields.append((name, type_from_name(types[name])))
            continue
        inferred = _array(name, values, None).type
        if pyarrow.types.is_null(inferred):
            raise SchemaError(
                f"[sql] column {name!r} must have a type; got no value in its first {len(values)} rows. "
                "Name it in types."
            )
        fields.append((name, inferred))
    return pyarrow.schema(fields)


def _array(name: str, values: list[Any], data_type: pyarrow.DataType | None) -> pyarrow.Array:
    import pyarrow

    try:
        return pyarrow.array(values, data_type)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        wanted = data_type or "values of one type"
        raise SchemaError(
            f"[sql] column {name!r} must hold {wanted}; got {error}. Name its type in types, or cast it in "
            "the query."
        ) from error
