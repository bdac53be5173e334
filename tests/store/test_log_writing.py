"""What else the end of a write does: a precise instant, a wake-up, and an epoch in the place of a flood of rows."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from sluicegate.core.catalog import Kind
from sluicegate.store import SqlDatabase, SqlFeedSource
from sluicegate.store.database_clock import database_now, unix_seconds
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import engine_for, located
from sluicegate.store.registry import SqlTransaction
from sluicegate.store.revision_log import BULK, RECORDED, Recorded, append
from sluicegate.store.schema import authz_log, teams
from tests.store.writing import failing_after, inserting, numbered_team

on_postgresql = pytest.mark.parametrize("url", ["postgresql", "pgbouncer"], indirect=True)
LONG = 10.0
"""Seconds after which a notification that did not come is lost."""


@pytest.fixture
def writing(url: str) -> Iterator[Connection]:
    """A connection in a write transaction that is committed when the test ends."""
    engine = engine_for(located(url), ONE, 30.0)
    with transaction(engine, Access.WRITE, 30.0) as connection:
        yield connection
    engine.dispose()


@pytest.mark.usefixtures("database")
async def test_a_row_states_the_instant_of_the_write_not_of_the_transactions_beginning(writing: Connection) -> None:
    changing = SqlTransaction(writing)
    before = writing.execute(select(unix_seconds(database_now()))).scalar_one()
    changing.insert(numbered_team(1))
    changing.finish()
    written = writing.execute(select(unix_seconds(authz_log.c.at))).scalar_one()
    assert before <= written <= before + 60


@on_postgresql
@pytest.mark.usefixtures("database")
def test_what_the_triggers_refuse_ends_a_statement_for_no_time_limit_ends_a_commit(url: str) -> None:
    engine = engine_for(located(url), ONE, 30.0)
    with transaction(engine, Access.WRITE, 30.0) as connection:
        changing = SqlTransaction(connection)
        changing.insert(numbered_team(1))
        unlogged = insert(teams).values(id="team_x", slug="x", name="X", active=True)
        connection.execute(unlogged, execution_options=RECORDED)
        with pytest.raises(IntegrityError, match="without its row in authz_log"):
            changing.finish()
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_sqlite_states_it_to_the_millisecond(database: SqlDatabase) -> None:
    await database.write(inserting(*map(numbered_team, range(3))))

    def instants(connection: Connection) -> list[str]:
        return list(connection.exec_driver_sql("SELECT at FROM authz_log").scalars())

    assert {instant.partition(".")[2][3:] for instant in await database.read(instants)} == {"000"}


@on_postgresql
async def test_whoever_listens_hears_of_each_commit(database: SqlDatabase, postgresql_url: str) -> None:
    with psycopg.connect(postgresql_url, autocommit=True) as listening:
        listening.execute("LISTEN sluicegate")
        await database.write(inserting(numbered_team(1), numbered_team(2)))
        with pytest.raises(ZeroDivisionError):
            await database.write(failing_after(numbered_team(3)))
        await database.write(inserting())
        await database.write(inserting(numbered_team(4)))
        heard = list(listening.notifies(timeout=LONG, stop_after=2))
    assert [each.payload for each in heard] == ["2", "3"]


async def test_a_flood_of_changes_is_one_revision_that_begins_an_epoch(
    database: SqlDatabase, feed: SqlFeedSource, url: str
) -> None:
    await database.write(inserting(*map(numbered_team, range(3))))
    before = await feed.poll(3)
    assert flooded(url, BULK + 1) == 4
    after = await feed.poll(3)
    assert (after.revision, after.floor, after.changes) == (4, 4, ())
    assert after.epoch != before.epoch
    assert (await feed.load()).directory.epoch == after.epoch
    await database.write(inserting(numbered_team(9)))
    assert [change.rev for change in (await feed.poll(4)).changes] == [5]


async def test_the_first_revision_of_an_epoch_has_a_row_by_which_its_history_is_known(
    database: SqlDatabase, url: str
) -> None:
    flooded(url, BULK + 1)

    def rows(connection: Connection) -> list[tuple[int, str]]:
        return [(rev, kind) for rev, kind in connection.execute(select(authz_log.c.rev, authz_log.c.kind))]

    assert await database.read(rows) == [(1, "epoch")]


async def test_as_many_changes_as_can_be_followed_begin_no_epoch(
    database: SqlDatabase, feed: SqlFeedSource, url: str
) -> None:
    before = await feed.poll(0)
    assert flooded(url, 1000) == 1000
    assert (await feed.poll(0)).epoch == before.epoch


@on_postgresql
async def test_a_bulk_import_by_sql_ends_with_a_new_epoch(feed: SqlFeedSource, url: str) -> None:
    before = await feed.load()
    with psycopg.connect(url, prepare_threshold=None) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY teams (id, slug, name, active) FROM STDIN (FORMAT csv)") as teams:
            teams.write("".join(f"team_{number},t{number},Team {number},true\n" for number in range(1000)))
        with pytest.raises(psycopg.IntegrityError, match="without its row in authz_log"):
            connection.commit()
        with cursor.copy("COPY teams (id, slug, name, active) FROM STDIN (FORMAT csv)") as teams:
            teams.write("".join(f"team_{number},t{number},Team {number},true\n" for number in range(1000)))
        cursor.execute("UPDATE authz_head SET rev = rev + 1, floor = rev + 1, epoch = gen_random_uuid()")
    after = (await feed.load()).directory
    assert (len(after.teams), after.revision) == (1000, 1)
    assert after.epoch != before.directory.epoch


def flooded(url: str, count: int) -> int:
    """The revision after that many changes in one transaction."""
    engine = engine_for(located(url), ONE, 30.0)
    changes = [Recorded(Kind.TEAM, f"team_{number}", None) for number in range(count)]
    try:
        with transaction(engine, Access.WRITE, 30.0) as connection:
            return append(connection, changes)
    finally:
        engine.dispose()
