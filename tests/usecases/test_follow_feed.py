"""The directory follows the log, and the lease says how far it can be trusted. The source and the clock are fakes."""

import asyncio

import pytest
from msgspec.structs import replace

from sluicegate.core.catalog import BearerAuth, Kind
from sluicegate.core.errors import AuthorizationStale, DatabaseBusy
from sluicegate.core.events import Change
from sluicegate.core.lease import LeaseState
from sluicegate.ports import UnreadableLog
from sluicegate.usecases.follow_feed import DirectoryFeed
from tests.support.memory import FakeClock
from tests.support.world import ALICE, BOB, CLOCK, user, world
from tests.usecases.following import LEASE, ScriptedSource, alice_is_active, running, until

CLOCK_NOW = world().upstreams[CLOCK]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000.0)


@pytest.fixture
async def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
def feed(source: ScriptedSource, clock: FakeClock) -> DirectoryFeed:
    return DirectoryFeed(source, clock, LEASE, source.forget)


async def test_before_the_first_load_nothing_may_be_decided(feed):
    assert feed.state is LeaseState.CLOSED
    assert not feed.fresh
    with pytest.raises(AuthorizationStale):
        await feed.ensure_current()
    with pytest.raises(AuthorizationStale):
        _ = feed.directory


async def test_it_loads_once_and_then_follows(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.commit(False)
        await feed.reach(2)
    assert not alice_is_active(feed)
    assert source.loads == 1


async def test_a_writer_reads_its_own_write_without_waiting_for_the_interval(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.commit(False)
        async with asyncio.timeout(0.2):
            await feed.reach(2)
    assert not alice_is_active(feed)


async def test_reach_gives_up_after_a_second_instead_of_hanging(feed):
    async with running(feed):
        await until(lambda: feed.fresh)
        async with asyncio.timeout(3):
            await feed.reach(99)


async def test_many_who_wait_share_the_polls(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        before = source.polls
        source.commit(False)
        await asyncio.gather(*(feed.reach(2) for _ in range(500)))
        assert source.polls - before <= 2


async def test_the_lease_counts_from_when_the_poll_was_sent_not_from_its_answer(feed, source, clock):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.gate.clear()
        polls = source.polls
        await until(lambda: source.polls > polls)
        clock.now += 1.5
        ages: list[float | None] = []
        source.on_poll = lambda: ages.append(feed.age)  # at the next poll, the slow one has been taken in
        source.gate.set()
        await until(lambda: len(ages) > 0)
    assert ages[0] == pytest.approx(1.5)


async def test_a_late_lease_waits_for_the_shared_poll_and_sees_the_change(feed, source, clock):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.commit(False)
        clock.now += 60
        assert feed.state is LeaseState.LATE
        await feed.ensure_current()
        assert not alice_is_active(feed)
        assert feed.fresh


async def test_while_the_database_hangs_a_late_lease_waits_briefly_and_goes_on(feed, source, clock):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.gate.clear()
        polls = source.polls
        await until(lambda: source.polls > polls)
        clock.now += 60
        async with asyncio.timeout(1):
            await feed.ensure_current()
        assert not feed.fresh


async def test_an_outage_goes_on_until_its_bound_and_then_closes(feed, source, clock):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.down = DatabaseBusy("away")
        clock.now += 2.5
        await until(lambda: feed.state is LeaseState.OUTAGE)
        await feed.ensure_current()
        clock.now += 300
        assert feed.state is LeaseState.CLOSED
        with pytest.raises(AuthorizationStale):
            await feed.ensure_current()
        source.down = None
        await until(lambda: feed.fresh)


async def test_a_poll_that_fails_never_renews_the_lease(feed, source, clock):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.down = DatabaseBusy("away")
        clock.now += 1
        polls = source.polls
        await until(lambda: source.polls > polls + 1)
        assert feed.age == pytest.approx(1.0)


@pytest.mark.parametrize("damage", ["epoch", "gap", "backwards", "floor", "no rows"])
async def test_a_log_that_cannot_be_followed_is_answered_by_loading_anew(feed, source, damage):
    source.commit(True, True, True)
    async with running(feed):
        await until(lambda: feed.fresh and feed.directory.revision == 4)
        if damage == "epoch":
            source.epoch = "two"
        elif damage == "gap":
            source.commit(True, False)
            del source.changes[-2]
        elif damage == "backwards":
            source.changes = [Change(2, Kind.USER, BOB, user(BOB, active=False))]
        elif damage == "floor":
            source.commit(False)
            source.floor = 5
        else:
            source.changes = [Change(9, Kind.USER, ALICE, user(ALICE, active=False))]
        await until(lambda: (feed.directory.epoch, feed.directory.revision) == (source.epoch, source.revision))
        assert source.loads == 2
        assert feed.fresh


async def test_an_unreadable_log_row_is_answered_by_loading_anew(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)

        def unreadable() -> None:
            source.on_poll = lambda: None
            raise UnreadableLog("kind `planet`")

        source.on_poll = unreadable
        await until(lambda: source.loads == 2)
        await until(lambda: feed.fresh)


async def test_when_the_reload_fails_too_nothing_is_decided_from_the_old_state(feed, source, clock):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.epoch = "two"
        source.load_down = DatabaseBusy("away")
        await until(lambda: source.failed_loads > 0)
        await feed.ensure_current()  # the bound has not passed yet
        clock.now += 2.5
        assert feed.state is LeaseState.CLOSED
        with pytest.raises(AuthorizationStale):
            await feed.ensure_current()
        source.load_down = None
        await until(lambda: feed.fresh)
        assert feed.directory.epoch == "two"


async def test_a_history_that_was_left_once_is_not_followed_again_even_if_it_seems_to_continue(feed, source):
    """A restore from a backup, a reload that fails, and new revisions whose numbers fit the old state."""
    source.commit(True, True, True)
    async with running(feed):
        await until(lambda: feed.fresh and feed.directory.revision == 4)
        source.load_down = DatabaseBusy("away")
        source.changes = source.changes[:1]
        await until(lambda: source.failed_loads > 0)
        source.commit(False, False, False)
        source.load_down = None
        await until(lambda: not alice_is_active(feed))
        assert source.loads == 2


async def test_an_error_that_nobody_foresaw_does_not_end_the_feed(feed, source, clock):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.down = RuntimeError("a table is away during a restore")
        clock.now += 2.5
        await until(lambda: feed.state is LeaseState.OUTAGE)
        source.down = None
        await until(lambda: feed.fresh)


@pytest.mark.parametrize(
    ("changed", "forgotten"),
    [
        (None, [CLOCK]),
        (replace(CLOCK_NOW, url="http://127.0.0.1:9/elsewhere"), [CLOCK]),
        (replace(CLOCK_NOW, auth=BearerAuth("sealed")), [CLOCK]),
        (replace(CLOCK_NOW, enabled=False, sync_warnings=("odd",)), []),
    ],
    ids=["deleted", "another address", "another credential", "reached as before"],
)
@pytest.mark.parametrize("epoch", ["one", "two"], ids=["followed", "loaded anew"])
async def test_connections_are_forgotten_wherever_an_upstream_was_changed(feed, source, changed, forgotten, epoch):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.changes.append(Change(2, Kind.UPSTREAM, CLOCK, changed))
        source.epoch = epoch
        await until(lambda: feed.directory.revision == 2)
    assert source.forgotten == forgotten
