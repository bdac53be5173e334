"""`DB_POOL_SIZE`, `DB_MAX_OVERFLOW` and `DB_POOL_TIMEOUT` mean what they mean to SQLAlchemy, side by side."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from msgspec import Struct
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sluicegate.core.errors import DatabaseBusy
from sluicegate.store import open_database
from tests.support.servers import Server

SIZE, OVERFLOW, TIMEOUT = 20, 10, 1.0
ALL = SIZE + OVERFLOW
LIMIT = 30


class Outcome(Struct, frozen=True):
    """All connections are held; one more asks in vain, then a second one, which gets the first that is given back."""

    held: int
    waited: float
    """Seconds until the first of the two was refused."""
    refusal: str
    kept: int
    """Connections that are left when nobody uses one."""


def connections(server: Server, name: str) -> int:
    """How many the server has from the application of that name."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        row = session.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [name]).fetchone()
    assert row is not None
    return int(row[0])


def at_rest(server: Server, name: str) -> int:
    """The same, once the server has noticed what was closed."""
    end = time.monotonic() + LIMIT
    while (found := connections(server, name)) > SIZE and time.monotonic() < end:
        time.sleep(0.01)
    return found


def of_the_queue_pool(server: Server) -> Outcome:
    name = "queue-pool"
    url = server.url("contract").replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(
        f"{url}?application_name={name}", pool_size=SIZE, max_overflow=OVERFLOW, pool_timeout=TIMEOUT
    )
    holding = [engine.connect() for _ in range(ALL)]
    held = connections(server, name)
    began = time.monotonic()
    with pytest.raises(PoolTimeout) as refused:
        engine.connect()
    waited = time.monotonic() - began
    with ThreadPoolExecutor(1) as thread:
        second = thread.submit(engine.connect)
        holding.pop().close()
        holding.append(second.result(LIMIT))
    for connection in holding:
        connection.close()
    kept = at_rest(server, name)
    engine.dispose()
    return Outcome(held, waited, str(refused.value), kept)


class Hold:
    """Work that holds its connection until it is let go."""

    def __init__(self) -> None:
        self._begun, self._go_on = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT 1")
        self._begun.release()
        assert self._go_on.acquire(timeout=LIMIT)

    async def begun(self, count: int) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self._begun.acquire, timeout=LIMIT)

    def let_go(self, count: int) -> None:
        self._go_on.release(count)


async def of_ours(server: Server) -> Outcome:
    name, hold = "ours", Hold()
    url = f"{server.url('contract')}?application_name={name}"
    database = open_database(url, pool_size=SIZE, max_overflow=OVERFLOW, pool_timeout=TIMEOUT, deadline=LIMIT)
    holding = [asyncio.ensure_future(database.read(hold)) for _ in range(ALL)]
    await hold.begun(ALL)
    held = await asyncio.to_thread(connections, server, name)
    began = time.monotonic()
    with pytest.raises(DatabaseBusy) as refused:
        await database.read(hold)
    waited = time.monotonic() - began
    second = asyncio.ensure_future(database.read(hold))
    await asyncio.sleep(0)
    hold.let_go(1)
    await hold.begun(1)
    hold.let_go(ALL)
    await asyncio.gather(*holding, second)
    kept = await asyncio.to_thread(at_rest, server, name)
    database.close()
    return Outcome(held, waited, str(refused.value), kept)


async def test_20_and_10_are_what_they_are_to_the_queue_pool(postgres_server: Server, postgresql_url: str) -> None:
    theirs = await asyncio.to_thread(of_the_queue_pool, postgres_server)
    ours = await of_ours(postgres_server)
    assert (theirs.held, ours.held) == (ALL, ALL)
    assert (theirs.kept, ours.kept) == (SIZE, SIZE), "those beyond the pool's size are closed after use"
    assert min(theirs.waited, ours.waited) >= TIMEOUT
    assert "QueuePool limit of size 20 overflow 10 reached" in theirs.refusal
    assert "all 30 database connections for `admin` are in use, and none became free within 1 s" in ours.refusal
