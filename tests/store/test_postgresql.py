"""What is particular to PostgreSQL and to PgBouncer before it."""

import asyncio
import os
import signal
import time
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, text

from sluicegate.core.catalog import Team
from sluicegate.core.errors import ConfigurationError, DatabaseBusy
from sluicegate.core.identity import TeamId
from sluicegate.ports import Transaction
from sluicegate.store import SqlDatabase, SqlFeedSource, check_usable, open_database
from tests.store.writing import inserting, until_free
from tests.support import world
from tests.support.servers import Server, free_port, pgbouncer, run_as_superuser
from tests.support.world import PAYMENTS

Open = Callable[..., SqlDatabase]

LIMIT = 30
TERMINATE_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'contract'"
both = pytest.mark.parametrize("url", ["postgresql", "pgbouncer"], indirect=True)


@both
async def test_every_transaction_has_time_limits_and_no_session_keeps_them(open_with: Open, url: str) -> None:
    database = open_with(deadline=5.0)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")

    def limits(connection: Connection) -> list[str]:
        return [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]

    assert await database.read(limits) == ["4s", "4s", "5s"], "shorter than its caller waits"
    with psycopg.connect(url, autocommit=True) as session:
        assert [session.execute(f"SHOW {name}".encode()).fetchone() for name in names] == [("0",)] * 3


@both
async def test_a_statement_that_takes_too_long_is_ended_by_the_server(open_with: Open) -> None:
    def sleep(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(60)"))

    database = open_with(deadline=5.0)
    async with asyncio.timeout(LIMIT):
        with pytest.raises(DatabaseBusy, match="ended a statement that took or waited too long: nothing was changed"):
            await database.read(sleep)


@both
async def test_no_statement_is_prepared(database: SqlDatabase) -> None:
    def ask_often(connection: Connection) -> int:
        for number in range(10):
            connection.execute(text("SELECT CAST(:number AS integer)"), {"number": number})
        count: int = connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
        return count

    assert await database.read(ask_often) == 0


@both
async def test_a_connection_that_the_server_ended_is_replaced_unseen(
    database: SqlDatabase, feed: SqlFeedSource, postgres_server: Server
) -> None:
    await feed.poll(0)
    run_as_superuser(postgres_server, TERMINATE_ALL)
    assert (await database.write(inserting(world.team(PAYMENTS, "payments")))).revision == 1
    assert (await feed.poll(0)).revision == 1


@both
async def test_when_the_connection_breaks_at_the_commit_nobody_is_told_that_nothing_happened(
    database: SqlDatabase, postgres_server: Server
) -> None:
    def break_off(_: Connection) -> None:
        run_as_superuser(postgres_server, TERMINATE_ALL)

    event.listen(Engine, "commit", break_off)
    try:
        with pytest.raises(DatabaseBusy, match="may have happened"):
            await database.write(inserting(world.team(PAYMENTS, "payments")))
    finally:
        event.remove(Engine, "commit", break_off)


@pytest.mark.parametrize("url", ["pgbouncer"], indirect=True)
async def test_a_frozen_database_is_waited_for_with_a_deadline_and_used_again_when_it_thaws(
    open_with: Open, pgbouncer_server: Server
) -> None:
    database = open_with(pool_timeout=0, deadline=0.3)
    feed = database.feed_source()
    await feed.poll(0)
    os.kill(pgbouncer_server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(DatabaseBusy, match=r"did not answer within 0\.3 s \(SLUICEGATE_DB_DEADLINE\)"):
                await database.write(inserting(world.team(PAYMENTS, "payments")))
            with pytest.raises(DatabaseBusy, match="did not answer within 1 s"):
                await feed.poll(0)
            with pytest.raises(DatabaseBusy, match="are in use"):
                await feed.poll(0)
    finally:
        os.kill(pgbouncer_server.pid, signal.SIGCONT)
    await until_free(database)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_database_that_went_away_is_unavailable_and_its_return_is_noticed(
    url: str, postgres_server: Server
) -> None:
    with pgbouncer(postgres_server) as before:
        database = open_database(before.url("contract"), pool_size=1, max_overflow=0, pool_timeout=5.0)
        await database.feed_source().poll(0)
    for attempt in (database.write(inserting()), database.feed_source().poll(0), database.feed_source().load()):
        with pytest.raises(DatabaseBusy, match="try again"):
            await attempt
    with pgbouncer(postgres_server, before.port):
        assert (await database.write(inserting(world.team(PAYMENTS, "payments")))).revision == 1
        assert (await database.feed_source().poll(0)).revision == 1
    database.close()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_database_that_is_away_when_it_is_opened_is_unavailable_until_it_comes(
    url: str, postgres_server: Server
) -> None:
    port = free_port()
    nobody = f"postgresql://sluicegate@127.0.0.1:{port}/contract"
    database = open_database(nobody, pool_size=1, max_overflow=0, pool_timeout=5.0)
    for attempt in (database.feed_source().poll(0), database.feed_source().load(), database.write(inserting())):
        with pytest.raises(DatabaseBusy, match="try again"):
            await attempt
    with pgbouncer(postgres_server, port):
        assert (await database.feed_source().poll(0)).revision == 0
        assert (await database.write(inserting(world.team(PAYMENTS, "payments")))).revision == 1
    database.close()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_upkeep_does_not_wait_for_the_disk_and_changes_do(url: str) -> None:
    def setting(connection: Connection) -> object:
        return connection.execute(text("SHOW synchronous_commit")).scalar_one()

    durable = f"{url}?options=-csynchronous_commit%3Don"  # the tests' server is not
    database = open_database(durable, pool_size=1, max_overflow=0, pool_timeout=5.0)
    assert await database.upkeep(setting, LIMIT) == "off"
    assert await database.read(setting) == "on"
    database.close()


class Turn:
    """Works of several statements, which wait between them so that others come in between."""

    def __init__(self, number: int) -> None:
        self._team = world.team(TeamId(f"team_{number}"), f"team-{number}")

    def found_team(self, tx: Transaction) -> None:
        tx.insert(self._team)
        time.sleep(0.002)
        assert tx.get(Team, self._team.id) == self._team

    @staticmethod
    def mode(connection: Connection) -> tuple[object, object]:
        limit = connection.execute(text("SHOW transaction_read_only")).scalar_one()
        time.sleep(0.002)
        return limit, connection.execute(text("SHOW transaction_isolation")).scalar_one()


@pytest.mark.parametrize("url", ["pgbouncer"], indirect=True)
async def test_transactions_that_take_turns_on_two_server_connections_do_not_see_each_other(
    open_with: Open, url: str
) -> None:
    database = open_with(pool_size=8, pool_timeout=LIMIT, deadline=LIMIT)

    async def follow() -> set[tuple[object, object]]:
        for _ in range(20):
            await database.feed_source().poll(0)
        return {await database.upkeep(Turn.mode, LIMIT) for _ in range(20)}

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        following = group.create_task(follow())
        writes = [group.create_task(database.write(Turn(number).found_team)) for number in range(40)]
        reads = [group.create_task(database.read(Turn.mode)) for _ in range(40)]
    assert sorted(task.result().revision for task in writes) == list(range(1, 41))
    assert {task.result() for task in reads} == {("on", "repeatable read")}
    assert following.result() == {("off", "read committed")}
    with psycopg.connect(url) as one, psycopg.connect(url) as other:  # each in a transaction, so on both connections
        for session in (one, other):
            assert session.execute(b"SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
            assert session.execute(b"SHOW statement_timeout").fetchone() == ("0",)


@pytest.mark.parametrize("url", ["pgbouncer"], indirect=True)
def test_a_database_that_is_frozen_at_the_start_is_named(url: str, pgbouncer_server: Server) -> None:
    os.kill(pgbouncer_server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(ConfigurationError, match=r"cannot be used: .*timeout"):
            check_usable(url)
    finally:
        os.kill(pgbouncer_server.pid, signal.SIGCONT)
