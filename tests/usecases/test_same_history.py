"""The log is followed only while it is the one that was followed so far, and only on a server that does not lag."""

import pytest

from sluicegate.core.catalog import Kind
from sluicegate.core.errors import ReadReplica
from sluicegate.core.events import Change
from sluicegate.core.lease import LeaseState
from sluicegate.usecases.follow_feed import DirectoryFeed
from tests.support.memory import FakeClock
from tests.support.world import ALICE, BOB, user
from tests.usecases.following import LEASE, ScriptedSource, alice_is_active, metric, running, until


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000.0)


@pytest.fixture
async def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
def feed(source: ScriptedSource, clock: FakeClock) -> DirectoryFeed:
    return DirectoryFeed(source, clock, LEASE, source.forget)


def alarms(kind: str) -> float:
    return metric("authz_alarms_total", kind=kind)


async def test_a_restored_backup_is_noticed_even_when_its_revision_has_overtaken_ours(feed, source):
    before = alarms("diverged")
    async with running(feed):
        await until(lambda: feed.fresh)
        source.commit(True, False)
        await feed.reach(3)
        lost = source.changes.pop()
        source.changes.append(Change(lost.rev, Kind.USER, BOB, user(BOB, active=False)))
        source.commit(True, True)  # written before the next poll: the numbers continue ours
        await until(lambda: feed.directory.revision == 5)
        assert source.loads == 2
    assert not feed.directory.users[BOB].active
    assert alarms("diverged") == before + 1


async def test_the_same_change_written_again_after_a_failover_is_another_history(feed, source):
    source.commit(False)
    async with running(feed):
        await until(lambda: feed.fresh)
        source.history += 1
        await until(lambda: source.loads == 2)
        await until(lambda: feed.fresh)


async def test_a_row_that_vanished_or_appeared_at_our_revision_is_another_history(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.changes = [Change(1, Kind.USER, ALICE, user(ALICE, active=False))]
        await until(lambda: source.loads == 2)
        source.changes = []
        await until(lambda: source.loads == 3)


async def test_a_revision_before_the_one_at_which_our_epoch_began_is_another_history(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.start = source.floor = 0
        await until(lambda: source.loads == 2)
        assert feed.directory.revision == 0


async def test_after_each_change_and_each_load_the_same_history_goes_on(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.commit(False)
        await feed.reach(2)
        source.epoch = "two"
        await until(lambda: source.loads == 2)
        source.commit(True, False, True)
        await feed.reach(5)
        await feed.catch_up(5.0)
        assert source.loads == 2


async def test_a_new_epoch_is_loaded_without_an_alarm(feed, source):
    before = alarms("diverged")
    async with running(feed):
        await until(lambda: feed.fresh)
        source.epoch = "two"
        await until(lambda: source.loads == 2)
    assert alarms("diverged") == before


async def test_a_replica_renews_no_lease_and_when_it_is_promoted_all_goes_on(feed, source, clock):
    before = alarms("replica")
    async with running(feed):
        await until(lambda: feed.fresh)
        source.down = ReadReplica("this one lags")
        source.commit(False)
        clock.now += 2.5
        await until(lambda: feed.state is LeaseState.OUTAGE)
        assert alarm_rang(before)
        assert alice_is_active(feed)
        source.down = None
        await until(lambda: feed.fresh and not alice_is_active(feed))
        assert source.loads == 1


async def test_nothing_is_loaded_from_a_replica(feed, source):
    before = alarms("replica")
    source.down = ReadReplica("this one lags")
    async with running(feed):
        await until(lambda: alarm_rang(before))
        assert feed.state is LeaseState.CLOSED
        source.down = None
        await until(lambda: feed.fresh)


def alarm_rang(before: float) -> bool:
    return alarms("replica") > before
