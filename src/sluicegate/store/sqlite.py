"""SQLite: the driver, a connection's settings, and how a transaction begins."""

from functools import partial
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from sluicegate.core.errors import DatabaseBusy
from sluicegate.store.lending import Access, Durability, PoolSize, begin_explicitly

try:
    import pysqlite3.dbapi2 as driver  # brings an SQLite of its own, without the WAL-reset bug
except ImportError:
    import sqlite3 as driver

__all__ = ["driver", "linked_version", "sqlite_engine", "wal_reset_warning"]

Version = tuple[int, int, int]
_FILE = "sluicegate_file"
_SYNCHRONOUS = {Durability.FULL: "FULL", Durability.RELAXED: "NORMAL"}


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


def sqlite_engine(url: URL, size: PoolSize, busy_timeout: float, durability: Durability) -> Engine:
    """An engine for a database file in WAL mode; a writer waits at most `busy_timeout` seconds for another one.

    It never creates the file.
    """
    path = Path(url.database or "")
    engine = create_engine(
        url.set(database=f"file:{quote(str(path))}", query={"mode": "rw", "uri": "true"}),
        module=driver,
        isolation_level="AUTOCOMMIT",
        pool_size=size.kept,
        max_overflow=size.overflow,
        connect_args={"timeout": busy_timeout},
        hide_parameters=True,
    )
    event.listen(engine, "connect", partial(_set_up, _SYNCHRONOUS[durability]))
    _refuse_replaced_file(engine, path)
    begin_explicitly(engine, lambda access, _: "BEGIN IMMEDIATE" if access is Access.WRITE else "BEGIN")
    return engine


def _refuse_replaced_file(engine: Engine, path: Path) -> None:
    """A pooled connection would go on with the old file after another one took its place, and never see a change."""

    def remember(_: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        entry.info[_FILE] = _identity(path)

    def check(_: DBAPIConnection, entry: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
        now = _identity(path)
        if now is None:
            raise DatabaseBusy(f"the database file `{path}` is gone: put it back")
        if entry.info[_FILE] != now:
            raise DisconnectionError(f"the database file `{path}` was replaced")  # the pool opens the new one

    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", check)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _set_up(synchronous: str, connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in ("foreign_keys = ON", "journal_mode = WAL", f"synchronous = {synchronous}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
