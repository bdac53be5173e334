"""What is particular to PostgreSQL and to PgBouncer before it."""

import asyncio
import os
import signal
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import Connection, text

from sluicegate.core.errors import ConfigurationError, DatabaseBusy
from sluicegate.store import SqlDatabase, SqlFeedSource, open_database
from tests.store.writing import inserting, until_free
from tests.support import world
from tests.support.servers import Server, pgbouncer, run_as_superuser
from tests.support.world import PAYMENTS

Open = Callable[..., SqlDatabase]

both = pytest.mark.parametrize("url", ["postgresql", "pgbouncer"], indirect=True)


@both
async def test_every_transaction_has_time_limits_and_no_session_keeps_them(open_with: Open, url: str) -> None:
    database = open_with(pool_timeout=3.0)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")

    def limits(connection: Connection) -> list[str]:
        return [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]

    assert await database.read(limits) == ["3s", "3s", "5s"]
    with psycopg.connect(url, autocommit=True) as session:
        assert [session.execute(f"SHOW {name}".encode()).fetchone() for name in names] == [("0",)] * 3


@both
async def test_a_statement_that_takes_too_long_is_ended_by_the_server(open_with: Open) -> None:
    def sleep(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(60)"))

    database = open_with(pool_timeout=0.2)
    async with asyncio.timeout(10):
        with pytest.raises(DatabaseBusy):
            await database.read(sleep)
        await until_free(database)


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
    run_as_superuser(
        postgres_server,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'contract'",
    )
    assert (await database.write(inserting(world.team(PAYMENTS, "payments")))).revision == 1
    assert (await feed.poll(0)).revision == 1


@pytest.mark.parametrize("url", ["pgbouncer"], indirect=True)
async def test_a_frozen_database_is_waited_for_with_a_deadline_and_used_again_when_it_thaws(
    open_with: Open, pgbouncer_server: Server
) -> None:
    database = open_with(pool_timeout=0.3)
    feed = database.feed_source()
    await feed.poll(0)
    os.kill(pgbouncer_server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(DatabaseBusy, match=r"did not answer within 0\.3 s"):
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


@pytest.mark.parametrize("url", ["pgbouncer"], indirect=True)
def test_a_database_that_is_frozen_at_the_start_is_named(url: str, pgbouncer_server: Server) -> None:
    os.kill(pgbouncer_server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(ConfigurationError, match=r"cannot be used: .*timeout"):
            open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    finally:
        os.kill(pgbouncer_server.pid, signal.SIGCONT)
