"""The log is kept short: old rows go, nobody who stands above the floor notices, and the state is never touched."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, select

from sluicegate.ports import UnreadableLog
from sluicegate.store import SqlDatabase, SqlFeedSource
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import engine_for, located
from sluicegate.store.schema import authz_head, authz_log
from sluicegate.store.trimming import AT_ONCE, trim
from tests.store.writing import inserting, numbered_team

RunSql = Callable[[str], None]
HOUR = 3600.0


@pytest.fixture
def hours_old(url: str, run_sql: RunSql) -> Callable[[int], None]:
    """Makes the log's rows up to a revision two hours old."""
    then = "datetime('now', '-2 hours')" if url.startswith("sqlite") else "now() - interval '2 hours'"
    return lambda revision: run_sql(f"UPDATE authz_log SET at = {then} WHERE rev <= {revision}")


def trimmed(url: str, keep: float = HOUR) -> int:
    """How many rows one transaction deleted."""
    engine = engine_for(located(url), ONE, 5.0)
    try:
        with transaction(engine, Access.WRITE, 5.0) as connection:
            return trim(connection, keep)
    finally:
        engine.dispose()


def logged(connection: Connection) -> list[int]:
    return list(connection.execute(select(authz_log.c.rev).order_by(authz_log.c.rev)).scalars())


async def test_a_young_log_is_left_alone(database: SqlDatabase, feed: SqlFeedSource, url: str) -> None:
    assert trimmed(url) == 0
    await database.write(inserting(*map(numbered_team, range(5))))
    assert trimmed(url) == 0
    poll = await feed.poll(0)
    assert (poll.floor, len(poll.changes)) == (0, 5)


async def test_rows_below_the_newest_old_one_go_and_it_is_the_floor(
    database: SqlDatabase, feed: SqlFeedSource, url: str, hours_old: Callable[[int], None]
) -> None:
    await database.write(inserting(*map(numbered_team, range(5))))
    hours_old(3)
    before = await feed.load()
    assert [trimmed(url), trimmed(url)] == [2, 0]
    assert await database.read(logged) == [3, 4, 5]
    assert [change.rev for change in (await feed.poll(3)).changes] == [4, 5]
    below = await feed.poll(2)
    assert (below.floor, below.revision, below.changes) == (3, 5, ())
    after = await feed.load()
    assert (after.directory.epoch, after.directory.revision) == (before.directory.epoch, before.directory.revision)
    assert after.directory.digest == before.directory.digest


async def test_the_row_of_the_newest_revision_stays_however_old_it_is(
    database: SqlDatabase, feed: SqlFeedSource, url: str, hours_old: Callable[[int], None]
) -> None:
    await database.write(inserting(*map(numbered_team, range(5))))
    hours_old(5)
    assert [trimmed(url), trimmed(url)] == [4, 0]
    assert await database.read(logged) == [5]
    assert (await database.write(inserting(numbered_team(9)))).revision == 6
    assert [change.rev for change in (await feed.poll(5)).changes] == [6]


async def test_what_a_new_epoch_left_behind_goes(database: SqlDatabase, url: str, run_sql: RunSql) -> None:
    await database.write(inserting(*map(numbered_team, range(5))))
    run_sql("UPDATE authz_head SET floor = 5")
    assert [trimmed(url), trimmed(url)] == [4, 0]
    assert await database.read(logged) == [5]


async def test_a_floor_is_never_lowered(
    database: SqlDatabase, feed: SqlFeedSource, url: str, run_sql: RunSql, hours_old: Callable[[int], None]
) -> None:
    await database.write(inserting(*map(numbered_team, range(5))))
    hours_old(2)
    run_sql("UPDATE authz_head SET floor = 4")
    assert trimmed(url) == 3
    assert (await feed.poll(4)).floor == 4


async def test_a_long_log_is_trimmed_in_bounded_transactions(
    database: SqlDatabase, url: str, run_sql: RunSql, hours_old: Callable[[int], None]
) -> None:
    rows = 2 * AT_ONCE + 10
    run_sql(
        "INSERT INTO authz_log (rev, kind, key)"
        f" WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        " SELECT i, 'team', 'team_x' FROM n"
    )
    run_sql(f"UPDATE authz_head SET rev = {rows}")
    hours_old(rows)
    deleted = list(iter(lambda: trimmed(url), 0))
    assert sum(deleted) == rows - 1
    assert max(deleted) <= AT_ONCE
    assert await database.read(logged) == [rows]


async def test_trimming_that_fails_half_way_leaves_the_whole_log(
    database: SqlDatabase, url: str, hours_old: Callable[[int], None]
) -> None:
    await database.write(inserting(*map(numbered_team, range(5))))
    hours_old(5)
    engine = engine_for(located(url), ONE, 5.0)
    with engine.connect().execution_options(sluicegate_terms=(Access.WRITE, 5.0)) as connection:
        connection.begin()
        assert trim(connection, HOUR) == 4
        connection.rollback()
    engine.dispose()
    assert await database.read(logged) == [1, 2, 3, 4, 5]


async def test_rows_without_the_floor_raised_would_be_a_gap(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql
) -> None:
    await database.write(inserting(*map(numbered_team, range(5))))
    run_sql("DELETE FROM authz_log WHERE rev < 3")
    with pytest.raises(UnreadableLog, match="revision 1 is missing"):
        await feed.poll(0)


async def test_the_head_is_not_touched_when_nothing_is_old(database: SqlDatabase, url: str) -> None:
    await database.write(inserting(numbered_team(1)))
    engine = engine_for(located(url), ONE, 5.0)
    with transaction(engine, Access.WRITE, 5.0) as connection:
        trim(connection, HOUR)
        if not url.startswith("sqlite"):  # whose writers are one at a time
            assert (await database.write(inserting(numbered_team(2)))).revision == 2
    engine.dispose()
    assert await database.read(lambda connection: connection.execute(select(authz_head.c.floor)).scalar_one()) == 0
