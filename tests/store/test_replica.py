"""A read replica may lag behind by any time: it renews no lease, until it is promoted. With a real standby."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from sluicegate.core.errors import ReadReplica
from sluicegate.core.lease import LeaseState
from sluicegate.store import SqlDatabase, open_database
from sluicegate.usecases.follow_feed import DirectoryFeed
from tests.store.writing import inserting
from tests.support import world
from tests.support.memory import FakeClock, FakeUpstreams
from tests.support.servers import Server, run_as_superuser, standby
from tests.usecases.following import LEASE, metric, running, until

ALARM = ("authz_alarms_total", {"kind": "replica"})


@pytest.fixture(scope="module")
def replica(postgres_server: Server, migrated_postgresql: str) -> Iterator[Server]:
    with standby(postgres_server) as server:
        yield server


@pytest.fixture
async def following(replica: Server, migrated_postgresql: str) -> AsyncIterator[SqlDatabase]:
    database = open_database(replica.url(migrated_postgresql), pool_size=1, max_overflow=0, pool_timeout=5.0)
    yield database
    database.close()


async def test_nothing_is_read_from_a_replica_until_it_is_promoted(following: SqlDatabase, replica: Server) -> None:
    source = following.feed_source()
    for reading in (source.load(), source.poll(0), source.audit(0)):
        with pytest.raises(ReadReplica, match="set SLUICEGATE_DATABASE_URL to the primary"):
            await reading
    feed = DirectoryFeed(source, FakeClock(1000.0), LEASE, FakeUpstreams().forget)
    alarms = metric(ALARM[0], **ALARM[1])
    async with running(feed):
        await until(lambda: metric(ALARM[0], **ALARM[1]) > alarms)
        assert feed.state is LeaseState.CLOSED
        await asyncio.to_thread(run_as_superuser, replica, "SELECT pg_promote()")
        await until(lambda: feed.fresh)
        await following.write(inserting(world.user(world.ZOE)))
        await feed.reach(1)
        await until(lambda: world.ZOE in feed.directory.users)
