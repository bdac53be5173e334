"""PostgreSQL fails over to a standby that had not received the last commits: fault 9 of the list. With both servers."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from sluicegate.bootstrap.adapters import SystemClock
from sluicegate.core.catalog import Entity
from sluicegate.store import migrate, open_database
from sluicegate.usecases.follow_feed import DirectoryFeed
from tests.e2e.running import wait_until
from tests.faults.directly import revision_of
from tests.faults.site import PATIENCE
from tests.store.writing import inserting
from tests.support import world
from tests.support.memory import FakeUpstreams
from tests.support.servers import Server, fresh_database, pgbouncer, postgresql, run_as_superuser, standby
from tests.support.world import ALICE, BOB, OLGA, ROOT, VERA, ZOE
from tests.usecases.following import LEASE, metric, running

KEPT = world.user(BOB)
LOST = (world.user(ALICE), world.user(VERA))
"""Committed, followed, and never received by the standby."""
SINCE = tuple(map(world.user, (OLGA, ROOT, ZOE)))
"""Committed since, over the numbers of what was lost."""
DIVERGED = "authz_alarms_total"


class Failover:
    """A primary with a standby, and one address for whoever is the primary."""

    def __init__(self, running: ExitStack) -> None:
        self.primary = running.enter_context(postgresql())
        self.name = running.enter_context(fresh_database(self.primary))
        migrate(self.primary.url(self.name))
        self.standby = running.enter_context(standby(self.primary))
        self._way = running.enter_context(ExitStack())
        self._port = self._way.enter_context(pgbouncer(self.primary)).port

    @property
    def url(self) -> str:
        return Server(self._port, 0).url(self.name)

    def lose_touch(self) -> None:
        """The standby has everything so far, and receives nothing more."""
        end = value(self.primary, "SELECT pg_current_wal_insert_lsn()")  # commits are written later than answered
        reached = f"SELECT pg_last_wal_replay_lsn() >= '{end}'"
        wait_until(lambda: value(self.standby, reached) is True, PATIENCE, "the standby has caught up")
        run_as_superuser(self.standby, "ALTER SYSTEM SET primary_conninfo = ''")
        run_as_superuser(self.standby, "SELECT pg_reload_conf()")
        receiving = "SELECT count(*) FROM pg_stat_wal_receiver"
        wait_until(lambda: value(self.standby, receiving) == 0, PATIENCE, "the standby receives nothing")

    @contextmanager
    def failing_over(self) -> Iterator[str]:
        """The database is away; then the standby takes the old one's place. In between, its own URL."""
        self._way.close()
        run_as_superuser(self.standby, "SELECT pg_promote()")
        yield self.standby.url(self.name)
        self._way.enter_context(pgbouncer(self.standby, self._port))


def value(server: Server, query: str) -> object:
    with psycopg.connect(server.url("postgres"), autocommit=True, connect_timeout=10) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row and row[0]


async def test_after_a_failover_that_lost_commits_everything_is_loaded_anew() -> None:
    """Nothing tells it but the log itself: the epoch is the same, and the revision has overtaken the lost one."""
    with ExitStack() as servers:
        failover = Failover(servers)
        database = open_database(failover.url, pool_size=1, max_overflow=0, pool_timeout=PATIENCE)
        servers.callback(database.close)
        feed = DirectoryFeed(database.feed_source(), SystemClock(), LEASE, FakeUpstreams().forget)
        async with running(feed):
            await database.write(inserting(KEPT))
            await asyncio.to_thread(failover.lose_touch)
            await database.write(inserting(*LOST))
            await until_it_has(feed, KEPT, *LOST)
            before, alarms = feed.directory, metric(DIVERGED, kind="diverged")
            with failover.failing_over() as url:
                revision = await asyncio.to_thread(revision_of, url, inserting(*SINCE))
            assert revision > before.revision
            await until_it_has(feed, KEPT, *SINCE)
        assert (feed.directory.epoch, feed.directory.revision) == (before.epoch, revision)
        assert metric(DIVERGED, kind="diverged") > alarms


async def until_it_has(feed: DirectoryFeed, *users: Entity) -> None:
    """Exactly these; it may be cut off from the database before."""
    async with asyncio.timeout(PATIENCE):
        while set(feed.directory.users.values()) != set(users) or not feed.fresh:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
