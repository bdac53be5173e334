"""Writers wake the feed through LISTEN: a hint, which may fail to come and is never needed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from threading import Event

import pytest

from sluicegate.core.errors import ConfigurationError
from sluicegate.store import SqlDatabase, SqlFeedSource
from sluicegate.store.wakeup import Wakeup
from sluicegate.usecases.follow_feed import DirectoryFeed
from sluicegate.usecases.rounds import Pace
from tests.store.writing import inserting, until_free
from tests.support import world
from tests.support.memory import FakeClock, FakeUpstreams
from tests.support.servers import Server, free_port, run_as_superuser
from tests.support.world import ZOE
from tests.usecases.following import LEASE, running, until

LISTENERS = "FROM pg_stat_activity WHERE query = 'LISTEN sluicegate'"
SELDOM = Pace(idle=3600.0)

pytestmark = pytest.mark.parametrize("url", ["pgbouncer"], indirect=True)


@pytest.fixture(autouse=True)
async def quiet(database: SqlDatabase) -> AsyncIterator[None]:
    """A poll that a test abandoned has ended before the next test needs the connection."""
    yield
    await until_free(database)


@contextmanager
def listening(direct_url: str, wake: Callable[[], None]) -> Iterator[None]:
    wakeup = Wakeup(direct_url, wake)
    wakeup.start()
    try:
        yield
    finally:
        wakeup.close()


async def came(event: Event) -> bool:
    return await asyncio.to_thread(event.wait, 10)


async def test_a_change_is_seen_long_before_the_next_poll_is_due(
    database: SqlDatabase, feed: SqlFeedSource, postgresql_url: str
) -> None:
    following = DirectoryFeed(feed, FakeClock(1000.0), LEASE, FakeUpstreams().forget, SELDOM)
    listens = Event()

    def wake() -> None:
        following.wake()
        listens.set()

    async with running(following):
        await until(lambda: following.fresh)
        with listening(postgresql_url, wake):
            assert await came(listens)
            await following.catch_up(10.0)  # from here on nothing but a notification makes it poll within the hour
            await database.write(inserting(world.user(ZOE)))
            await until(lambda: ZOE in following.directory.users)


async def test_a_listener_whose_connection_was_lost_wakes_the_feed_again(
    database: SqlDatabase, postgresql_url: str, postgres_server: Server
) -> None:
    woken = Event()
    with listening(postgresql_url, woken.set):
        assert await came(woken)
        woken.clear()
        await asyncio.to_thread(run_as_superuser, postgres_server, f"SELECT pg_terminate_backend(pid) {LISTENERS}")
        assert await came(woken), "it looks once when it is back: something may have been written meanwhile"
        woken.clear()
        await database.write(inserting(world.user(ZOE)))
        assert await came(woken)


async def test_without_a_database_to_listen_to_changes_still_come_by_polling(
    database: SqlDatabase, feed: SqlFeedSource
) -> None:
    following = DirectoryFeed(feed, FakeClock(1000.0), LEASE, FakeUpstreams().forget)
    with listening(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", following.wake):
        async with running(following):
            await until(lambda: following.fresh)
            await database.write(inserting(world.user(ZOE)))
            await until(lambda: ZOE in following.directory.users)


def test_only_postgresql_can_be_listened_to(sqlite_url: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match="SLUICEGATE_DATABASE_DIRECT_URL"):
        Wakeup(sqlite_url, lambda: None)
