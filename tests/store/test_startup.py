"""A database that cannot be used stops the start with one sentence that says what to do."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from sluicegate.core.errors import ConfigurationError
from sluicegate.store import SchemaState, SqlDatabase, check_usable, migrate, open_database, schema_state
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import SqliteFile, engine_for, located
from sluicegate.store.schema import VERSIONS, metadata
from sluicegate.store.sqlite import driver
from sluicegate.store.startup import compared
from tests.store.writing import inserting
from tests.support import world
from tests.support.servers import Server, free_port, fresh_database
from tests.support.world import PAYMENTS

RunSql = Callable[[str], None]
NOBODY = 65534


def opened(url: str) -> SqlDatabase:
    check_usable(url)
    return open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0)


@pytest.fixture(params=["sqlite", "postgresql", "pgbouncer"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server: Server = request.getfixturevalue("pgbouncer_server" if request.param == "pgbouncer" else "postgres_server")
    with fresh_database(request.getfixturevalue("postgres_server")) as name:
        yield server.url(name)


async def test_migrating_is_idempotent_and_keeps_the_data(empty_url: str) -> None:
    assert schema_state(empty_url) is SchemaState.EMPTY
    assert migrate(empty_url) is SchemaState.EMPTY
    database = opened(empty_url)
    await database.write(inserting(world.team(PAYMENTS, "payments")))
    assert migrate(empty_url) is SchemaState.CURRENT
    assert schema_state(empty_url) is SchemaState.CURRENT
    assert (await database.feed_source().load()).directory.revision == 1
    database.close()


def test_processes_that_migrate_at_the_same_time_do_it_once(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = sorted(pool.map(migrate, [empty_url] * 4))
    assert found == [SchemaState.CURRENT] * 3 + [SchemaState.EMPTY]


def test_a_database_that_was_not_migrated_names_the_command(empty_url: str) -> None:
    with pytest.raises(ConfigurationError, match="run `sluicegate migrate`"):
        opened(empty_url)


async def test_two_databases_have_two_epochs(tmp_path: Path) -> None:
    epochs = set()
    for name in ("a", "b"):
        migrate(f"sqlite:///{tmp_path}/{name}.db")
        database = opened(f"sqlite:///{tmp_path}/{name}.db")
        epochs.add((await database.feed_source().poll(0)).epoch)
        database.close()
    assert len(epochs) == 2
    assert all(len(epoch) == 32 for epoch in epochs)


def test_a_newer_schema_is_refused(url: str, run_sql: RunSql) -> None:
    run_sql("UPDATE alembic_version SET version_num = '9999'")
    assert schema_state(url) is SchemaState.NEWER
    for start in (opened, migrate):
        with pytest.raises(ConfigurationError, match="does not know: start the version that made it"):
            start(url)


def test_an_older_schema_is_behind() -> None:
    assert compared("0001", ("0001", "0002")) is SchemaState.BEHIND
    assert compared("0002", ("0001", "0002")) is SchemaState.CURRENT


def test_tables_of_somebody_else_are_left_alone(empty_url: str) -> None:
    location = located(empty_url)
    if isinstance(location, SqliteFile):
        location.path.touch()
    engine = engine_for(location, ONE, 5.0)
    with transaction(engine, Access.WRITE, 5.0) as connection:
        connection.exec_driver_sql("CREATE TABLE users (name text)")
    engine.dispose()
    with pytest.raises(ConfigurationError, match="has a table `users` that is not ours"):
        migrate(empty_url)
    assert schema_state(empty_url) is SchemaState.EMPTY


def test_the_migrations_make_exactly_the_tables_of_the_schema(url: str) -> None:
    engine = engine_for(located(url), ONE, 5.0)
    with transaction(engine, Access.READ, 5.0) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_list_of_versions_is_the_folder_of_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", "sluicegate.store:migrations")
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == VERSIONS


def test_a_locked_file_is_named(sqlite_path: Path) -> None:
    other = driver.connect(str(sqlite_path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConfigurationError, match=r"sluicegate\.db` is locked by another process"):
        check_usable(f"sqlite:///{sqlite_path}", patience=0.05)
    other.close()


def test_a_read_only_file_is_named() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sluicegate.db"
        migrate(f"sqlite:///{path}")
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        as_root = os.geteuid() == 0
        if as_root:
            os.seteuid(NOBODY)  # nothing is read-only for root
        try:
            with pytest.raises(ConfigurationError, match="is read-only: make the file and its folder writable"):
                opened(f"sqlite:///{path}")
        finally:
            if as_root:
                os.seteuid(0)
            Path(folder).chmod(0o755)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("a shopping list, and certainly no database\n" * 20)
    for start in (opened, migrate, schema_state):
        with pytest.raises(ConfigurationError, match="is not an SQLite database: choose another file"):
            start(f"sqlite:///{path}")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"database file `.*/nowhere/x\.db` cannot be created"):
        migrate(f"sqlite:///{tmp_path}/nowhere/x.db")
    with pytest.raises(ConfigurationError, match="does not exist: run `sluicegate migrate`"):
        opened(f"sqlite:///{tmp_path}/nowhere/x.db")


def test_looking_at_a_missing_file_does_not_make_one(tmp_path: Path) -> None:
    assert schema_state(f"sqlite:///{tmp_path}/x.db") is SchemaState.EMPTY
    assert not (tmp_path / "x.db").exists()


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/x.db")
    assert stat.S_IMODE((tmp_path / "x.db").stat().st_mode) == 0o600


def test_an_unreachable_server_is_named_without_the_password() -> None:
    port = free_port()
    with pytest.raises(ConfigurationError, match=f"PostgreSQL at `127.0.0.1:{port}` cannot be used") as refused:
        opened(f"postgresql://alice:open-sesame@127.0.0.1:{port}/sluicegate")
    assert "open-sesame" not in str(refused.value)


def test_a_missing_database_is_named(postgres_server: Server) -> None:
    with pytest.raises(ConfigurationError, match='database "nowhere" does not exist'):
        opened(postgres_server.url("nowhere"))


@pytest.mark.parametrize(
    "url, sentence",
    [
        ("mysql://alice:open-sesame@db/x", "may not begin with `mysql`: write `postgresql://"),
        ("postgresql+asyncpg://alice:open-sesame@db/x", r"may not begin with `postgresql\+asyncpg`"),
        ("open-sesame", "cannot be read: write `postgresql://"),
        ("postgresql://alice:open-sesame@db:port/x", "cannot be read"),
        ("sqlite://", "names a file and nothing else"),
        ("sqlite:///:memory:", "names a file and nothing else"),
        ("sqlite://open-sesame/x.db", "names a file and nothing else"),
        ("sqlite:///x.db?mode=ro", "names a file and nothing else"),
    ],
)
def test_an_impossible_url_is_explained_without_its_secrets(url: str, sentence: str) -> None:
    for start in (opened, migrate, schema_state):
        with pytest.raises(ConfigurationError, match=sentence) as refused:
            start(url)
        assert "open-sesame" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_scheme_of_postgresql_is_accepted(postgresql_url: str, scheme: str) -> None:
    assert schema_state(postgresql_url.replace("postgresql", scheme, 1)) is SchemaState.CURRENT
