"""Read a database URL: which database it names, and the engine for it."""

from pathlib import Path

from msgspec import Struct
from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from sluicegate.core.errors import ConfigurationError
from sluicegate.store.lending import Durability, PoolSize
from sluicegate.store.postgresql import postgresql_engine
from sluicegate.store.sqlite import sqlite_engine

FORMS = "write `postgresql://user:password@host:5432/name` or `sqlite:///path/to/file`"
_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")


class SqliteFile(Struct, frozen=True):
    """A database file of the embedded default."""

    path: Path
    url: URL

    def __str__(self) -> str:
        return f"database file `{self.path}`"


class PostgresqlServer(Struct, frozen=True):
    """A PostgreSQL database, or a PgBouncer before it."""

    url: URL

    def __str__(self) -> str:
        return f"PostgreSQL at `{self.url.host or 'the local socket'}:{self.url.port or 5432}`"


Location = SqliteFile | PostgresqlServer


def located(url: str) -> Location:
    """The database that the URL names. Raises ConfigurationError, without the URL in it: that may hold a password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"the database URL cannot be read: {FORMS}") from None
    if parsed.drivername in _POSTGRESQL:
        return PostgresqlServer(parsed.set(drivername="postgresql+psycopg"))
    if parsed.drivername != "sqlite":
        raise ConfigurationError(f"a database URL may not begin with `{parsed.drivername}`: {FORMS}")
    if not parsed.database or parsed.database == ":memory:" or parsed.host or parsed.query:
        raise ConfigurationError("an SQLite URL names a file and nothing else: write `sqlite:///path/to/file`")
    return SqliteFile(Path(parsed.database), parsed)


def engine_for(location: Location, size: PoolSize, patience: float, durability: Durability = Durability.FULL) -> Engine:
    """An engine that lends as many connections; on SQLite a writer waits at most `patience` seconds for another one."""
    if isinstance(location, SqliteFile):
        return sqlite_engine(location.url, size, patience, durability)
    return postgresql_engine(location.url, size, durability)
