"""The law of the feed: each change has its revision, revisions have no gaps, and nothing changes without one."""

import asyncio
import contextlib
import threading
from collections.abc import Callable

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, delete, func, insert, select, text, update

from sluicegate.core.catalog import Entity, Kind, Team, Tool
from sluicegate.core.directory import Directory
from sluicegate.core.errors import Conflict, DatabaseBusy
from sluicegate.core.permissions import Role
from sluicegate.ports import Transaction, UnreadableLog
from sluicegate.store import SqlDatabase, SqlFeedSource
from sluicegate.store.feed import SLICE
from sluicegate.store.revision_log import UnrecordedWrite
from sluicegate.store.schema import authz_head, authz_log, teams
from tests.store.writing import ABSENT, inserting, numbered_team
from tests.support import world
from tests.support.memory import entities_of
from tests.support.world import ALICE, PAYMENTS, SEARCH

RunSql = Callable[[str], None]


def held_by(directory: Directory) -> list[Entity]:
    """All entities, with the definitions of tools as they were written."""
    held = entities_of(directory)
    tools = [replace(each, definition=each.described) for each in held if isinstance(each, Tool)]
    return sorted([*tools, *(each for each in held if not isinstance(each, Tool))], key=repr)


async def test_a_fresh_log_stands_at_zero(feed: SqlFeedSource) -> None:
    poll = await feed.poll(0)
    assert (poll.revision, poll.floor, poll.changes) == (0, 0, ())


async def test_each_change_gets_the_next_revision_and_its_new_state(database: SqlDatabase, feed: SqlFeedSource) -> None:
    team, closed = world.team(PAYMENTS, "payments"), world.team(PAYMENTS, "payments", active=False)
    assert (await database.write(inserting(team, world.team(SEARCH, "search")))).revision == 2
    assert (await database.write(lambda tx: tx.update(closed))).revision == 3
    assert (await database.write(lambda tx: tx.delete(closed))).revision == 4
    changes = (await feed.poll(0)).changes
    assert [(c.rev, c.kind, c.key) for c in changes] == [
        (1, Kind.TEAM, PAYMENTS),
        (2, Kind.TEAM, SEARCH),
        (3, Kind.TEAM, PAYMENTS),
        (4, Kind.TEAM, PAYMENTS),
    ]
    assert [c.entity for c in changes] == [team, world.team(SEARCH, "search"), closed, None]


async def test_a_poll_brings_what_lies_above_the_revision(database: SqlDatabase, feed: SqlFeedSource) -> None:
    await database.write(inserting(*map(numbered_team, range(5))))
    assert [change.rev for change in (await feed.poll(3)).changes] == [4, 5]
    assert (await feed.poll(5)).changes == ()
    assert (await feed.poll(99)).revision == 5


async def test_a_long_log_comes_in_slices_without_gaps(feed: SqlFeedSource, run_sql: RunSql) -> None:
    run_sql(
        "INSERT INTO authz_log (rev, kind, key) "
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {SLICE + 3}) "
        "SELECT i, 'team', 'team_x' FROM n"
    )
    run_sql(f"UPDATE authz_head SET rev = {SLICE + 3}")
    first = await feed.poll(1)
    assert (first.revision, len(first.changes)) == (SLICE + 3, SLICE)
    rest = await feed.poll(first.changes[-1].rev)
    assert [change.rev for change in rest.changes] == [SLICE + 2, SLICE + 3]
    assert rest.here == first.last


async def test_reading_and_writing_the_same_again_move_nothing(database: SqlDatabase, feed: SqlFeedSource) -> None:
    await database.write(inserting(world.team(PAYMENTS, "payments")))
    assert (await database.write(lambda tx: tx.all(Team))).revision == 1
    assert (await database.write(lambda tx: tx.update(world.team(PAYMENTS, "payments")))).revision == 1
    assert len((await feed.poll(0)).changes) == 1


async def test_nothing_is_logged_for_what_was_rolled_back(database: SqlDatabase, feed: SqlFeedSource) -> None:
    with pytest.raises(Conflict):
        await database.write(inserting(numbered_team(1), numbered_team(1)))
    poll = await feed.poll(0)
    assert (poll.revision, poll.changes) == (0, ())
    assert (await database.write(inserting(numbered_team(1)))).revision == 1


async def test_replaying_the_log_gives_the_loaded_state_even_when_names_are_swapped(
    database: SqlDatabase, feed: SqlFeedSource
) -> None:
    replayed = (await feed.load()).directory
    await database.write(inserting(*world.entities()))

    def swap_slugs(tx: Transaction) -> None:
        tx.update(world.team(PAYMENTS, "tmp"))
        tx.update(world.team(SEARCH, "payments"))
        tx.update(world.team(PAYMENTS, "search"))

    await database.write(swap_slugs)
    for change in (await feed.poll(0)).changes:
        replayed.apply(change)
    loaded = (await feed.load()).directory
    assert replayed.revision == loaded.revision
    assert held_by(replayed) == held_by(loaded)
    assert replayed.digest == loaded.digest
    assert [replayed.team(slug) for slug in ("payments", "search")] == [
        loaded.team(slug) for slug in ("payments", "search")
    ]


async def test_concurrent_writers_leave_no_gap_and_no_follower_ever_sees_one(
    database: SqlDatabase, feed: SqlFeedSource
) -> None:
    revisions: dict[int, str] = {}
    seen: list[tuple[int, str]] = []

    async def write_ten(writer: int) -> None:
        for number in range(10):
            team = numbered_team(writer * 100 + number)
            revisions[(await database.write(inserting(team))).revision] = team.id

    async def follow() -> None:
        while len(seen) < 40:
            seen.extend((change.rev, change.key) for change in (await feed.poll(len(seen))).changes)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(follow())
        for writer in range(4):
            group.create_task(write_ten(writer))
    assert [rev for rev, _ in seen] == list(range(1, 41))
    assert dict(seen) == revisions


async def test_a_row_that_was_read_is_locked_so_no_update_is_lost(database: SqlDatabase) -> None:
    await database.write(inserting(Team(PAYMENTS, "payments", "", True)))

    def lengthen(tx: Transaction) -> None:
        team = tx.get(Team, PAYMENTS)
        assert team is not None
        tx.update(replace(team, name=team.name + "x"))

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(database.write(lengthen))
    teams_now = (await database.write(lambda tx: tx.all(Team))).value
    assert [team.name for team in teams_now] == ["xxxx"]


@pytest.mark.parametrize("url", ["postgresql", "pgbouncer"], indirect=True)
async def test_what_is_added_while_its_owner_is_being_deleted_goes_too(
    database: SqlDatabase, feed: SqlFeedSource, postgresql_url: str
) -> None:
    inserted, go_on = threading.Event(), threading.Event()
    member = world.member(ALICE, PAYMENTS, Role.VIEWER)

    def join(tx: Transaction) -> None:
        tx.insert(member)
        inserted.set()
        assert go_on.wait(10)

    def wait_until_one_waits_for_a_lock() -> None:
        with psycopg.connect(postgresql_url, autocommit=True) as connection:  # PgBouncer may have no third one
            while connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone() is None:
                pass

    await database.write(inserting(world.team(PAYMENTS, "payments"), world.user(ALICE)))
    async with asyncio.timeout(20):
        joining = asyncio.ensure_future(database.write(join))
        await asyncio.to_thread(inserted.wait, 10)
        deleting = asyncio.ensure_future(database.write(lambda tx: tx.delete(world.team(PAYMENTS, "payments"))))
        await asyncio.to_thread(wait_until_one_waits_for_a_lock)
        go_on.set()
        await joining
        await deleting
    assert [change.key for change in (await feed.poll(2)).changes] == [member.id, member.id, PAYMENTS]


@pytest.mark.parametrize("url", ["postgresql", "pgbouncer"], indirect=True)
async def test_revisions_are_in_the_order_of_commits_not_of_beginnings(database: SqlDatabase) -> None:
    inserted, go_on = threading.Event(), threading.Event()

    def slow(tx: Transaction) -> None:
        tx.insert(numbered_team(1))
        inserted.set()
        go_on.wait(10)

    async with asyncio.timeout(20):
        first = asyncio.ensure_future(database.write(slow))
        await asyncio.to_thread(inserted.wait, 10)
        assert (await database.write(inserting(numbered_team(2)))).revision == 1
        go_on.set()
        assert (await first).revision == 2


async def test_a_load_is_one_snapshot_that_the_next_poll_continues(database: SqlDatabase, feed: SqlFeedSource) -> None:
    await database.write(inserting(*world.entities()))
    snapshot = await feed.load()
    loaded = snapshot.directory
    assert loaded.revision == len(world.entities())
    assert held_by(loaded) == sorted(world.entities(), key=repr)
    await database.write(inserting(numbered_team(1)))
    poll = await feed.poll(loaded.revision)
    assert (poll.epoch, [change.key for change in poll.changes]) == (loaded.epoch, ["team_1"])
    assert poll.here == snapshot.mark is not None


async def test_a_read_sees_one_snapshot(database: SqlDatabase) -> None:
    counted, deleted = threading.Event(), threading.Event()
    count = select(func.count()).select_from(teams)

    def look_twice(connection: Connection) -> tuple[int, int]:
        before = connection.execute(count).scalar_one()
        counted.set()
        assert deleted.wait(10)
        return before, connection.execute(count).scalar_one()

    await database.write(inserting(world.team(PAYMENTS, "payments")))
    async with asyncio.timeout(20):
        looking = asyncio.ensure_future(database.read(look_twice))
        await asyncio.to_thread(counted.wait, 10)
        await database.write(lambda tx: tx.delete(world.team(PAYMENTS, "payments")))
        deleted.set()
        assert await looking == (1, 1)


async def test_tokens_that_expired_more_than_a_day_ago_are_not_loaded(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql, url: str
) -> None:
    await database.write(inserting(*world.entities(), ABSENT))
    now = "strftime('%s')" if url.startswith("sqlite") else "extract(epoch from now())::bigint"
    for name, age in (("long_gone", 86400 + 600), ("just_gone", 86400 - 600)):
        run_sql(
            "INSERT INTO tokens (id, user_id, name, created_at, expires_at)"
            f" VALUES ('{name}', 'usr_alice', '', 1, {now} - {age})"
        )
    loaded = (await feed.load()).directory
    assert set(loaded.tokens) == {"tok_absent", "just_gone"}


@pytest.mark.parametrize(
    "damage, sentence",
    [
        ("UPDATE authz_log SET kind = 'wormhole' WHERE rev = 2", "revision 2 of the log cannot be read"),
        ("UPDATE authz_log SET payload = '{\"id\":7}' WHERE rev = 2", "revision 2 of the log cannot be read"),
        ("UPDATE authz_log SET payload = 'not json' WHERE rev = 2", "revision 2 of the log cannot be read"),
        ("DELETE FROM authz_log WHERE rev = 2", "revision 2 is missing"),
        ("DELETE FROM authz_log WHERE rev = 1", "revision 1 is missing"),
        ("DELETE FROM authz_log", "revision 1 is missing"),
        ("DELETE FROM authz_head", "no head"),
    ],
)
async def test_a_damaged_log_is_unreadable(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql, damage: str, sentence: str
) -> None:
    await database.write(inserting(numbered_team(1), numbered_team(2), numbered_team(3)))
    run_sql(damage)
    with pytest.raises(UnreadableLog, match=sentence):
        await feed.poll(0)


async def test_below_the_floor_the_head_alone_is_answered(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql
) -> None:
    await database.write(inserting(numbered_team(1), numbered_team(2), numbered_team(3)))
    run_sql("UPDATE authz_head SET floor = 2")
    run_sql("DELETE FROM authz_log WHERE rev <= 2")
    poll = await feed.poll(0)
    assert (poll.floor, poll.revision, poll.changes) == (2, 3, ())
    assert [change.rev for change in (await feed.poll(2)).changes] == [3]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE memberships SET role = 'emperor'",
        "UPDATE servers SET tools = 'not json'",
        "UPDATE servers SET tools = '[7]'",
        "DELETE FROM authz_head",
    ],
)
async def test_a_damaged_row_makes_the_state_unreadable(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql, damage: str
) -> None:
    await database.write(inserting(*world.entities()))
    run_sql(damage)
    with pytest.raises(UnreadableLog):
        await feed.load()


@pytest.mark.parametrize(
    "statement",
    [
        insert(teams).values(id="t", slug="t", name="", active=True),
        update(teams).values(active=False),
        delete(teams),
        update(authz_head).values(rev=7),
        insert(authz_log).values(rev=9, kind="team", key="x"),
        text("UPDATE teams SET name = ''"),
        text("delete\n from teams"),
        text('INSERT INTO "users" (id, email, active, platform_admin) VALUES (1, 2, true, true)'),
        text("WITH gone AS (SELECT 1) DELETE FROM authz_log"),
    ],
    ids=str,
)
async def test_a_write_behind_the_back_of_the_log_is_refused(database: SqlDatabase, statement: object) -> None:
    with pytest.raises(UnrecordedWrite):
        await database.read(lambda connection: connection.execute(statement))  # type: ignore[call-overload]


async def test_reads_pass_the_guard_and_leave_no_trace(database: SqlDatabase) -> None:
    def leave_a_trace(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE trace (id integer)"))

    await database.write(inserting(world.team(PAYMENTS, "update teams set")))
    slugs = await database.read(lambda connection: list(connection.execute(select(teams.c.slug)).scalars()))
    assert slugs == ["update teams set"]
    with contextlib.suppress(DatabaseBusy):  # PostgreSQL refuses it, SQLite rolls it back
        await database.read(leave_a_trace)
    assert not await database.read(lambda connection: connection.dialect.has_table(connection, "trace"))


async def test_a_result_cannot_be_carried_out_of_the_loan(database: SqlDatabase) -> None:
    connection = await database.read(lambda connection: connection)
    assert connection.closed
