"""The directory follows the log, and the lease says how far it can be trusted. The source and the clock are fakes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from sluicegate.core.catalog import BearerAuth, Kind
from sluicegate.core.errors import AuthorizationStale, DatabaseBusy
from sluicegate.core.events import Change
from sluicegate.core.lease import Lease, LeaseState
from sluicegate.ports import Poll, Snapshot, UnreadableLog
from sluicegate.usecases.follow_feed import DirectoryFeed
from tests.support.world import ALICE, BOB, CLOCK, entities, user, world

CLOCK_NOW = world().upstreams[CLOCK]
LEASE = Lease(revocation=2.0, outage=300.0)


class ManualClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def boot(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class ScriptedSource:
    """A revision log in a list. `down` is raised while set; `gate` holds polls back while it is cleared."""

    def __init__(self) -> None:
        self.epoch = "one"
        self.changes: list[Change] = []
        self.floor = 1
        self.down: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.load_down: Exception | None = None
        self.loads = self.failed_loads = 0
        self.polls = 0
        self.on_poll: Callable[[], None] = lambda: None
        self.forgotten: list[str] = []

    async def forget(self, upstream_id: str) -> None:
        self.forgotten.append(upstream_id)

    @property
    def revision(self) -> int:
        return self.changes[-1].rev if self.changes else 1

    def commit(self, *active: bool) -> None:
        for each in active:
            self.changes.append(Change(self.revision + 1, Kind.USER, ALICE, user(ALICE, active=each)))

    async def load(self) -> Snapshot:
        if failure := self.down or self.load_down:
            self.failed_loads += 1
            raise failure
        self.loads += 1
        last = {change.key: change.entity for change in self.changes}
        kept = [entity for entity in entities() if getattr(entity, "id", None) not in last]
        return Snapshot(self.epoch, self.revision, [*kept, *(entity for entity in last.values() if entity)])

    async def poll(self, above: int) -> Poll:
        self.polls += 1
        self.on_poll()
        answer = Poll(self.epoch, self.revision, self.floor, tuple(c for c in self.changes if c.rev > above), None)
        await self.gate.wait()
        if self.down:
            raise self.down
        return answer


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
def feed(source: ScriptedSource, clock: ManualClock) -> DirectoryFeed:
    return DirectoryFeed(source, clock, LEASE, source.forget)


@asynccontextmanager
async def running(feed: DirectoryFeed) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for changes with time
            await asyncio.sleep(0.005)


def alice_is_active(feed: DirectoryFeed) -> bool:
    return feed.directory.users[ALICE].active


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
async def test_connections_are_forgotten_wherever_an_upstream_was_changed(feed, source, changed, forgotten):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.changes.append(Change(2, Kind.UPSTREAM, CLOCK, changed))
        await feed.reach(2)
    assert source.forgotten == forgotten
