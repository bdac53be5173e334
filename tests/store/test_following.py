"""What a poll says beyond the changes: by which row the same history is known again, and how old the changes are."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sluicegate.store import SqlDatabase, SqlFeedSource
from sluicegate.store.feed import SLICE
from sluicegate.usecases.follow_feed import DirectoryFeed
from tests.store.conftest import RunSql
from tests.store.writing import inserting, numbered_team, until_free
from tests.support import world
from tests.support.memory import FakeClock, FakeUpstreams
from tests.support.world import ALICE, BOB, PAYMENTS, SEARCH, ZOE
from tests.usecases.following import LEASE, running, until

LONG_AGO = {"sqlite": "'2026-01-01 00:00:00'", "postgresql": "'2026-01-01 00:00:00+00'"}
AHEAD = {"sqlite": "'2999-01-01 00:00:00'", "postgresql": "'2999-01-01 00:00:00+00'"}
DAY = 86400.0


@pytest.fixture(autouse=True)
async def quiet(database: SqlDatabase) -> AsyncIterator[None]:
    """A poll that a test abandoned has ended before the next test needs the connection."""
    yield
    await until_free(database)


@pytest.fixture
def dialect(url: str) -> str:
    return url.partition(":")[0]


async def test_the_row_that_was_last_is_known_again(database: SqlDatabase, feed: SqlFeedSource) -> None:
    assert (await feed.poll(0)).here is None, "the epoch begins at 0, without a row"
    await database.write(inserting(world.team(PAYMENTS, "payments"), world.team(SEARCH, "search")))
    before = await feed.poll(0)
    await database.write(inserting(world.user(ALICE)))
    after = await feed.poll(2)
    assert before.last == after.here is not None
    assert after.last == (await feed.poll(3)).here == (await feed.load()).mark
    assert (await feed.poll(3)).last is None
    assert len({before.last, after.last, (await feed.poll(1)).here}) == 3


@pytest.mark.parametrize("column", ["kind", "key", "payload", "at"])
async def test_a_row_that_differs_in_anything_is_another_one(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql, dialect: str, column: str
) -> None:
    await database.write(inserting(world.team(PAYMENTS, "payments")))
    before = (await feed.poll(1)).here
    other = {"kind": "'user'", "key": "'team_other'", "payload": "NULL", "at": LONG_AGO[dialect]}
    run_sql(f"UPDATE authz_log SET {column} = {other[column]}")
    assert (await feed.poll(1)).here != before


async def test_the_row_at_the_floor_is_shown_and_below_it_nothing(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql
) -> None:
    await database.write(inserting(*(world.user(each) for each in (ALICE, BOB, ZOE))))
    run_sql("UPDATE authz_head SET floor = 2")
    run_sql("DELETE FROM authz_log WHERE rev < 2")
    assert (await feed.poll(2)).here is not None
    assert (await feed.poll(1)).here is None


async def test_a_row_above_the_head_is_not_followed(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql
) -> None:
    await database.write(inserting(world.user(ALICE)))
    run_sql("INSERT INTO authz_log (rev, kind, key) VALUES (2, 'user', 'usr_nobody')")
    poll = await feed.poll(0)
    assert [change.rev for change in poll.changes] == [poll.revision] == [1]


async def test_what_one_transaction_wrote_stays_together(database: SqlDatabase, feed: SqlFeedSource) -> None:
    await database.write(inserting(*map(numbered_team, range(3))))
    await written_at_another_instant(database, 3)
    assert [change.more for change in (await feed.poll(0)).changes] == [True, True, False, False]


@pytest.mark.parametrize(
    ("written", "polled"),
    [((1500, 1000), [1500, 2500]), ((2500,), [SLICE + 1, 2500])],
    ids=["a transaction is not cut", "but one that is longer than a poll"],
)
async def test_a_poll_ends_where_a_transaction_ends(
    database: SqlDatabase, feed: SqlFeedSource, written: tuple[int, ...], polled: list[int]
) -> None:
    first = 0
    for count in written:
        await database.write(inserting(*map(numbered_team, range(first, first + count))))
        first += count
    ends = [0]
    while ends[-1] < first:
        ends.append((await feed.poll(ends[-1])).changes[-1].rev)
    assert ends[1:] == polled


async def test_the_lag_is_the_age_of_the_oldest_change(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql, dialect: str
) -> None:
    await database.write(inserting(world.user(ALICE), world.user(BOB)))
    new = (await feed.poll(0)).lag
    assert new is not None
    assert 0 <= new < 120
    run_sql(f"UPDATE authz_log SET at = {LONG_AGO[dialect]} WHERE rev = 2")
    old = (await feed.poll(0)).lag
    assert old is not None
    assert old > DAY
    assert (await feed.poll(2)).lag is None


async def test_a_change_from_the_future_has_no_lag(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql, dialect: str
) -> None:
    await database.write(inserting(world.user(ALICE)))
    run_sql(f"UPDATE authz_log SET at = {AHEAD[dialect]}")
    assert (await feed.poll(0)).lag == 0.0


async def test_a_feed_loads_anew_when_the_history_behind_it_was_exchanged(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql
) -> None:
    following = DirectoryFeed(feed, FakeClock(1000.0), LEASE, FakeUpstreams().forget)
    async with running(following):
        await database.write(inserting(world.user(ALICE)))
        await following.reach(1)
        await until(lambda: following.fresh)
        run_sql("DELETE FROM users")  # a restored backup, in miniature: zoe's change has alice's number
        run_sql("DELETE FROM authz_log")
        run_sql("UPDATE authz_head SET rev = 0")
        await database.write(inserting(world.user(ZOE)))
        await database.write(inserting(world.user(BOB)))
        await until(lambda: set(following.directory.users) == {ZOE, BOB})


@pytest.mark.parametrize("kind", ["planet", "unrecorded", ""])
async def test_a_change_of_an_unknown_kind_is_answered_by_loading_and_then_followed_on(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql, kind: str
) -> None:
    following = DirectoryFeed(feed, FakeClock(1000.0), LEASE, FakeUpstreams().forget)
    async with running(following):
        await until(lambda: following.fresh)
        loaded = following.directory
        run_sql(f"INSERT INTO authz_log (rev, kind, key) VALUES (1, '{kind}', 'x')")
        run_sql("UPDATE authz_head SET rev = 1")
        await until(lambda: following.directory is not loaded)
        loaded = following.directory
        await database.write(inserting(world.user(ALICE)))
        await until(lambda: ALICE in following.directory.users)
        assert following.directory is loaded


async def test_a_state_that_stays_unreadable_closes_the_feed(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql
) -> None:
    await database.write(inserting(*world.entities()))
    clock = FakeClock(1000.0)
    following = DirectoryFeed(feed, clock, LEASE, FakeUpstreams().forget)
    async with running(following):
        await until(lambda: following.fresh)
        run_sql("UPDATE memberships SET role = 'emperor'")
        run_sql("UPDATE authz_head SET epoch = 'another'")
        clock.now += 2.5
        await until(lambda: following.state == "closed")
        run_sql("UPDATE memberships SET role = 'viewer'")
        await until(lambda: following.fresh)


async def written_at_another_instant(database: SqlDatabase, number: int) -> None:
    """SQLite's clock has milliseconds: two transactions within one count as one, and nobody minds but this test."""
    await asyncio.sleep(0.01)
    await database.write(inserting(numbered_team(number)))
