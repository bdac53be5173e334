"""What streams wait for, how late changes come, how a burst is applied, and how an old directory is given up."""

import asyncio
import gc
import threading
import weakref

import pytest
from msgspec.structs import replace

from sluicegate.core.errors import DatabaseBusy
from sluicegate.usecases.follow_feed import SLICE, DirectoryFeed
from tests.support.memory import FakeClock
from tests.support.world import ALICE
from tests.usecases.following import LEASE, ScriptedSource, metric, running, until


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000.0)


@pytest.fixture
async def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
def feed(source: ScriptedSource, clock: FakeClock) -> DirectoryFeed:
    return DirectoryFeed(source, clock, LEASE, source.forget)


async def test_a_stream_is_woken_by_the_next_change(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        waiting = [asyncio.create_task(feed.next_change(1, 60.0)) for _ in range(100)]
        await feed.catch_up(5.0)
        assert not any(each.done() for each in waiting)
        source.commit(False)
        async with asyncio.timeout(10):
            await asyncio.gather(*waiting)
        assert feed.directory.revision == 2
        await feed.next_change(1, 60.0)


async def test_a_stream_is_woken_when_everything_was_loaded_anew(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        waiting = asyncio.create_task(feed.next_change(1, 60.0))
        await feed.catch_up(5.0)
        source.epoch = "two"
        async with asyncio.timeout(10):
            await waiting
        assert feed.directory.epoch == "two"


async def test_a_stream_looks_again_after_its_time_even_if_nothing_changed(feed):
    async with running(feed):
        await until(lambda: feed.fresh)
        async with asyncio.timeout(10):
            await feed.next_change(1, 0.01)


async def test_the_lag_of_a_change_counts_from_its_writing_until_it_is_applied(feed, source, clock):
    def observed() -> list[float]:
        return [metric("revocation_lag_seconds_count"), metric("revocation_lag_seconds_sum")]

    async with running(feed):
        await until(lambda: feed.fresh)
        count, total = observed()
        source.gate.clear()
        polls = source.polls
        await until(lambda: source.polls > polls)
        source.commit(False)
        source.lag = 0.5
        source.on_poll = lambda: None
        source.gate.set()
        await feed.reach(2)
        assert observed() == pytest.approx([count + 1, total + 0.5])
        source.on_poll = source.gate.clear
        source.commit(True)
        polls = source.polls
        await until(lambda: source.polls > polls)
        clock.now += 1.5  # the answer is on its way
        source.gate.set()
        await feed.reach(3)
        assert observed() == pytest.approx([count + 2, total + 0.5 + 2.0])


async def test_a_burst_is_applied_in_slices_between_which_others_get_their_turn(feed, source):
    steps: list[int] = []

    async def watch() -> None:
        seen = feed.directory.revision
        while True:
            steps.append(feed.directory.revision - seen)
            seen = feed.directory.revision
            await asyncio.sleep(0)

    async with running(feed):
        await until(lambda: feed.fresh)
        source.commit(*[True, False] * SLICE * 2)
        watching = asyncio.create_task(watch())
        await until(lambda: feed.directory.revision == source.revision)
        watching.cancel()
    assert 0 < max(steps) <= SLICE


async def test_while_a_directory_is_loaded_no_full_collection_walks_it_and_then_it_is_exempt(feed, source):
    gc.unfreeze()
    before = gc.get_threshold()
    during: list[tuple[int, int, int]] = []
    source.on_load = lambda: during.append(gc.get_threshold())
    source.load_down = DatabaseBusy("away")
    with pytest.raises(DatabaseBusy):
        await feed.load()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
    source.load_down = None
    await feed.load()
    assert [each[:2] for each in during] == [before[:2]] * 2
    assert all(each[2] > 1_000_000 for each in during)
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() > 0


async def test_the_directory_of_before_stays_whole_while_it_is_used_and_is_then_freed(feed):
    await feed.load()
    old = weakref.ref(feed.directory)
    in_use = feed.directory
    everything = len(in_use)
    await feed.load()
    await until(lambda: given_up() > 0)
    assert len(in_use) == everything
    assert in_use.users[ALICE].id == ALICE
    del in_use
    await until(lambda: old() is None and given_up() == 0)


def given_up() -> int:
    """How many directories are on their way out."""
    return sum(thread.name == "give-up-directory" for thread in threading.enumerate())


async def test_nothing_is_decided_in_the_middle_of_a_transaction(feed, source):
    seen: set[int] = set()

    async def looking() -> None:
        while True:
            seen.add(feed.directory.revision)
            await asyncio.sleep(0)

    async with running(feed):
        await until(lambda: feed.fresh)
        source.commit(*[False, True] * SLICE)
        *before_last, _ = range(len(source.changes))
        for each in before_last:
            source.changes[each] = replace(source.changes[each], more=True)
        look = asyncio.create_task(looking())
        await until(lambda: feed.directory.revision == source.revision)
        look.cancel()
        await asyncio.gather(look, return_exceptions=True)
    assert seen <= {1, source.revision}
