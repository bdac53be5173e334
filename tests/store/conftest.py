"""One contract, three databases: SQLite, PostgreSQL, and PostgreSQL through PgBouncer in transaction mode."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluicegate.store import SqlDatabase, SqlFeedSource, migrate, open_database
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import engine_for, located
from sluicegate.store.schema import VERSIONS, metadata
from tests.support.servers import Server, pgbouncer, postgresql, run_as_superuser

RunSql = Callable[[str], None]
Open = Callable[..., SqlDatabase]
LIKE_NEW = (
    *(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)),
    "INSERT INTO authz_head (id, rev, epoch, floor) VALUES (1, 0, 'epoch of the tests', 0)",
    f"UPDATE alembic_version SET version_num = '{VERSIONS[-1]}'",
)
"""Quicker than a new database for each test."""


def run(url: str, *statements: str) -> None:
    """Runs statements behind the back of the store, which would refuse them."""
    engine = engine_for(located(url), ONE, 5.0)
    with transaction(engine, Access.WRITE, 5.0) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    with postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer_server(postgres_server: Server) -> Iterator[Server]:
    with pgbouncer(postgres_server) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "sluicegate.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgresql(postgres_server: Server) -> str:
    # Sorted as people sort: what the store orders by bytes must not depend on the database's locale.
    run_as_superuser(postgres_server, "CREATE DATABASE contract TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'")
    migrate(postgres_server.url("contract"))
    return "contract"


@pytest.fixture
def sqlite_path(migrated_sqlite: Path) -> Path:
    run(f"sqlite:///{migrated_sqlite}", *LIKE_NEW)
    return migrated_sqlite


@pytest.fixture
def sqlite_url(sqlite_path: Path) -> str:
    return f"sqlite:///{sqlite_path}"


@pytest.fixture
def postgresql_url(postgres_server: Server, migrated_postgresql: str) -> str:
    url = postgres_server.url(migrated_postgresql)
    run_as_superuser(postgres_server, "; ".join(LIKE_NEW), database=migrated_postgresql)
    return url


@pytest.fixture
def pgbouncer_url(postgresql_url: str, pgbouncer_server: Server, migrated_postgresql: str) -> str:
    return pgbouncer_server.url(migrated_postgresql)


@pytest.fixture(params=["sqlite", "postgresql", "pgbouncer"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a database that is migrated and empty."""
    value: str = request.getfixturevalue(f"{request.param}_url")
    return value


@pytest.fixture(scope="session")
def opened() -> Iterator[dict[str, SqlDatabase]]:
    """The databases that tests share, by their URLs."""
    databases: dict[str, SqlDatabase] = {}
    yield databases
    for database in databases.values():
        database.close()


@pytest.fixture
def database(url: str, opened: dict[str, SqlDatabase]) -> SqlDatabase:
    if url not in opened:
        opened[url] = open_database(url, pool_size=4, max_overflow=0, pool_timeout=5.0)
    return opened[url]


@pytest.fixture
def feed(database: SqlDatabase) -> SqlFeedSource:
    return database.feed_source()


@pytest.fixture
def open_with(url: str) -> Iterator[Open]:
    """Opens a database for this test alone, with a pool of a given size and timeout."""
    databases: list[SqlDatabase] = []

    def open_(*, pool_size: int = 1, pool_timeout: float = 5.0) -> SqlDatabase:
        databases.append(open_database(url, pool_size=pool_size, max_overflow=0, pool_timeout=pool_timeout))
        return databases[-1]

    yield open_
    for database in databases:
        database.close()


@pytest.fixture
def run_sql(url: str) -> RunSql:
    """Runs a statement behind the back of the store."""
    return lambda statement: run(url, statement)
