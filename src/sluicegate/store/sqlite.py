"""SQLite: the driver, a connection's settings, and how a transaction begins."""

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from sluicegate.store.lending import Access, PoolSize, begin_explicitly

try:
    import pysqlite3.dbapi2 as driver  # brings an SQLite of its own, without the WAL-reset bug
except ImportError:
    import sqlite3 as driver

__all__ = ["driver", "linked_version", "sqlite_engine", "wal_reset_warning"]

Version = tuple[int, int, int]


def linked_version() -> Version:
    """The version of the SQLite library in use."""
    major, minor, patch = driver.sqlite_version_info[:3]
    return major, minor, patch


def wal_reset_warning(version: Version) -> str | None:
    """A sentence when this SQLite can corrupt a database in WAL mode (sqlite.org/wal.html, "the WAL-reset bug")."""
    if not (3, 7, 0) <= version <= (3, 51, 2):
        return None
    number = ".".join(map(str, version))
    return (
        f"the linked SQLite {number} has the WAL-reset bug, which can in rare cases corrupt the database file: "
        "install the package `pysqlite3` or SQLite 3.51.3 or later, or use PostgreSQL"
    )


def sqlite_engine(url: URL, size: PoolSize, busy_timeout: float) -> Engine:
    """An engine for a database file in WAL mode; a writer waits at most `busy_timeout` seconds for another one."""
    engine = create_engine(
        url,
        module=driver,
        isolation_level="AUTOCOMMIT",
        pool_size=size.kept,
        max_overflow=size.overflow,
        connect_args={"timeout": busy_timeout},
        hide_parameters=True,
    )
    event.listen(engine, "connect", _set_up)
    begin_explicitly(engine, lambda access, _: "BEGIN IMMEDIATE" if access is Access.WRITE else "BEGIN")
    return engine


def _set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in ("foreign_keys = ON", "journal_mode = WAL", "synchronous = FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
