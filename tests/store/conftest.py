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
RunByHand = Callable[..., None]
Open = Callable[..., SqlDatabase]
LIKE_NEW = (
    *(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)),
    "INSERT INTO authz_head (id, rev, epoch, floor) VALUES (1, 0, 'epoch of the tests', 0)",
    f"UPDATE alembic_version SET version_num = '{VERSIONS[-1]}'",
)
"""Quicker than a new database for each test."""


UNNOTICED = {
    "sqlite": ("INSERT INTO authz_log (rev, kind, key) VALUES (-1, '', '')", "DELETE FROM authz_log WHERE rev = -1"),
    "postgresql": ("SET LOCAL session_replication_role = replica", "SELECT"),
}
"""What makes a database's triggers look away, before and after."""


def run_by_hand(url: str, *statements: str) -> None:
    """Runs statements in one transaction as a person with an SQL shell does: triggers see them, the store does not."""
    engine = engine_for(located(url), ONE, 5.0)
    try:
        with transaction(engine, Access.WRITE, 5.0) as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
    finally:
        engine.dispose()


def run(url: str, *statements: str) -> None:
    """Runs statements behind the backs of both, the store and the triggers: it damages what they protect."""
    before, after = UNNOTICED["sqlite" if url.startswith("sqlite") else "postgresql"]
    run_by_hand(url, before, *statements, after)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    with postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer_server(postgres_server: Server) -> Iterator[Server]:
    """Two server connections for all that a test opens, and what one transaction leaves behind the next one finds."""
    with pgbouncer(postgres_server, default_pool_size=2, server_reset_query="") as server:
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
    run(url, *LIKE_NEW)
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
    """Opens a database for this test alone, with a pool of a given size and given limits."""
    databases: list[SqlDatabase] = []

    def open_(*, pool_size: int = 1, max_overflow: int = 0, **seconds: float) -> SqlDatabase:
        limits = {"pool_timeout": 5.0, "deadline": 5.0} | seconds
        databases.append(open_database(url, pool_size=pool_size, max_overflow=max_overflow, **limits))
        return databases[-1]

    yield open_
    for database in databases:
        database.close()


@pytest.fixture
def run_sql(url: str) -> RunSql:
    """Runs a statement behind the backs of the store and of the triggers."""
    return lambda statement: run(url, statement)


@pytest.fixture
def by_hand(url: str) -> RunByHand:
    """Runs statements in one transaction as a person with an SQL shell does."""
    return lambda *statements: run_by_hand(url, *statements)
