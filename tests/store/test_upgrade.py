"""A database that the previous version made and still writes: nothing is lost, and the new protections hold in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from sluicegate import bootstrap
from sluicegate.core.catalog import Entity, Kind
from sluicegate.core.errors import ConfigurationError
from sluicegate.core.events import encode_entity
from sluicegate.ports import Transaction, UnreadableLog
from sluicegate.settings import Settings
from sluicegate.store import SchemaState, SqlDatabase, check_usable, migrate, open_database, schema_state
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import engine_for, located
from sluicegate.store.rows import row_of
from sluicegate.store.schema import ENTITY_OF, TABLES, authz_head, authz_log
from tests.store.writing import NARROW, inserting, numbered_team
from tests.support import world
from tests.support.servers import Server, free_port, fresh_database

KIND = dict(zip(TABLES, Kind, strict=True))
ENTITIES = [*world.entities(), NARROW]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database file or a database that nobody has used."""
    if request.param == "sqlite":
        (tmp_path / "old.db").touch()
        yield f"sqlite:///{tmp_path}/old.db"
        return
    server: Server = request.getfixturevalue("postgres_server")
    with fresh_database(server) as name:
        yield server.url(name)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = engine_for(located(url), ONE, 5.0)
    yield engine
    engine.dispose()


@pytest.fixture
def old(engine: Engine) -> Engine:
    """The database at schema 0001, with rows in every table and their log, as version 0001 wrote them."""
    with transaction(engine, Access.WRITE, 5.0) as connection:
        config = Config()
        config.set_main_option("script_location", "sluicegate.store:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    for entity in ENTITIES:
        write_as_0001(engine, entity)
    return engine


def write_as_0001(engine: Engine, entity: Entity) -> None:
    """The statements by which version 0001 inserted an entity."""
    table = TABLES[type(entity)]
    with transaction(engine, Access.WRITE, 5.0) as connection:
        connection.execute(table.insert().values(row_of(entity)))
        log_as_0001(connection, entity)


def log_as_0001(connection: Connection, entity: Entity) -> None:
    advance = text("UPDATE authz_head SET rev=(authz_head.rev + :changes) RETURNING authz_head.rev")
    revision = connection.execute(advance, {"changes": 1}).scalar_one()
    connection.execute(
        text("INSERT INTO authz_log (rev, kind, key, payload) VALUES (:rev, :kind, :key, :payload)"),
        {
            "rev": revision,
            "kind": KIND[type(entity)].value,
            "key": entity.id,  # type: ignore[attr-defined]
            "payload": encode_entity(entity).decode(),
        },
    )


@pytest.fixture
def upgraded(old: Engine, url: str) -> Iterator[SqlDatabase]:
    assert migrate(url) is SchemaState.BEHIND
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    yield database
    database.close()


def all_entities(tx: Transaction) -> list[Entity]:
    return [entity for kind in TABLES for entity in tx.all(kind)]


def test_rows_of_every_table_are_tried() -> None:
    assert {type(entity) for entity in ENTITIES} == set(ENTITY_OF.values())


def test_the_old_schema_is_behind_and_the_upgraded_one_is_used(old: Engine, url: str) -> None:
    assert schema_state(url) is SchemaState.BEHIND
    assert migrate(url) is SchemaState.BEHIND
    assert schema_state(url) is SchemaState.CURRENT
    check_usable(url)


async def test_all_data_and_the_whole_log_are_there(upgraded: SqlDatabase) -> None:
    rows = (await upgraded.write(all_entities)).value
    assert sorted(rows, key=repr) == sorted(ENTITIES, key=repr)
    poll = await upgraded.feed_source().poll(0)
    assert [change.entity for change in poll.changes] == ENTITIES
    directory = (await upgraded.feed_source().load()).directory
    assert (directory.epoch, directory.revision) == (poll.epoch, poll.revision)


async def test_the_new_version_writes_on_where_the_old_one_stood(upgraded: SqlDatabase) -> None:
    assert (await upgraded.write(inserting(numbered_team(1)))).revision == len(ENTITIES) + 1


async def test_the_triggers_are_live(upgraded: SqlDatabase, engine: Engine, url: str) -> None:
    def close_all_teams() -> None:
        with transaction(engine, Access.WRITE, 5.0) as connection:
            connection.exec_driver_sql("UPDATE teams SET active = false")

    if url.startswith("sqlite"):
        close_all_teams()
        with pytest.raises(UnreadableLog):
            await upgraded.feed_source().poll(len(ENTITIES))
    else:
        with pytest.raises(IntegrityError, match="without its row in authz_log"):
            close_all_teams()


async def test_a_writer_of_the_old_version_is_followed_or_leads_to_a_load(
    upgraded: SqlDatabase, engine: Engine, url: str
) -> None:
    write_as_0001(engine, numbered_team(1))
    write_as_0001(engine, numbered_team(2))
    feed = upgraded.feed_source()
    if url.startswith("sqlite"):
        with pytest.raises(UnreadableLog):
            await feed.poll(len(ENTITIES))
    else:
        changes = (await feed.poll(len(ENTITIES))).changes
        assert [change.entity for change in changes] == [numbered_team(1), numbered_team(2)]
    directory = (await feed.load()).directory
    assert {"team_1", "team_2"} <= set(directory.teams)
    poll = await feed.poll(directory.revision)
    assert (poll.revision, poll.changes) == (directory.revision, ())


def test_who_reads_everything_for_long_hinders_no_upgrade_and_so_no_poll_queues_behind_one(
    old: Engine, url: str
) -> None:
    with transaction(old, Access.READ, 5.0) as backup:
        for table in (*TABLES.values(), authz_head, authz_log):
            backup.execute(table.select()).all()
        assert migrate(url) is SchemaState.BEHIND


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_an_upgrade_gives_up_soon_when_a_writer_stays_and_changes_nothing(old: Engine, url: str) -> None:
    with transaction(old, Access.WRITE, 60.0) as stuck:
        stuck.exec_driver_sql("UPDATE teams SET active = true")
        with pytest.raises(ConfigurationError, match="locked by a transaction that takes long"):
            migrate(url)
    assert migrate(url) is SchemaState.BEHIND


def test_migrate_takes_the_direct_way_to_postgresql(tmp_path: Path, postgres_server: Server) -> None:
    with fresh_database(postgres_server) as name:
        settings = Settings(
            data_dir=tmp_path / "data",
            database_url=SecretStr(f"postgresql://127.0.0.1:{free_port()}/{name}"),
            database_direct_url=SecretStr(postgres_server.url(name)),
        )
        assert bootstrap.migrate(settings) is SchemaState.EMPTY
        assert schema_state(postgres_server.url(name)) is SchemaState.CURRENT
