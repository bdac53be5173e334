"""Time by the database's clock, the only one that all instances share, in SQL for both databases."""

from typing import Any

from sqlalchemy import ColumnElement, DateTime, Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class database_now(FunctionElement[Any]):  # noqa: N801 - read as SQL's functions are
    """The instant of the statement, not of the transaction's beginning; on SQLite to the millisecond."""

    type = DateTime(timezone=True)
    inherit_cache = True


class unix_seconds(FunctionElement[float]):  # noqa: N801
    """The timestamp in the argument as Unix seconds; NULL for what SQLite does not take for a timestamp."""

    type = Float()
    inherit_cache = True

    def __init__(self, timestamp: ColumnElement[Any]) -> None:
        super().__init__(timestamp)


def seconds_since(timestamp: ColumnElement[Any]) -> ColumnElement[float]:
    """Seconds from the timestamp until now; negative if it lies ahead."""
    return unix_seconds(database_now()) - unix_seconds(timestamp)


@compiles(database_now, "postgresql")
def _now_postgresql(*_: object, **__: object) -> str:
    return "clock_timestamp()"


@compiles(database_now, "sqlite")
def _now_sqlite(*_: object, **__: object) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now'))"


@compiles(unix_seconds, "postgresql")
def _unix_postgresql(element: unix_seconds, compiler: SQLCompiler, **options: Any) -> str:
    return f"extract(epoch FROM {compiler.process(element.clauses, **options)})::double precision"


@compiles(unix_seconds, "sqlite")
def _unix_sqlite(element: unix_seconds, compiler: SQLCompiler, **options: Any) -> str:
    return f"((julianday({compiler.process(element.clauses, **options)}) - 2440587.5) * 86400.0)"
