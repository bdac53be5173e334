"""When polls come: soon for those who wait, never more than 20 a second, and not in step while they fail."""

import asyncio
import itertools

import pytest

from sluicegate.core.errors import DatabaseBusy
from sluicegate.usecases.follow_feed import DirectoryFeed
from sluicegate.usecases.rounds import PACE, Pace, Rounds
from tests.support.memory import FakeClock
from tests.usecases.following import LEASE, ScriptedSource, running, until

NEVER = 3600.0
ROUNDING = 0.002
"""Seconds by which a timer of the event loop may come early."""


@pytest.fixture
async def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
def feed(source: ScriptedSource) -> DirectoryFeed:
    return DirectoryFeed(source, FakeClock(1000.0), LEASE, source.forget)


def instants_of_polls(source: ScriptedSource) -> list[float]:
    instants: list[float] = []
    source.on_poll = lambda: instants.append(asyncio.get_running_loop().time())
    return instants


def gaps(instants: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(instants)]


async def test_however_many_wait_there_are_at_most_twenty_polls_a_second(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        instants = instants_of_polls(source)
        for _ in range(6):
            await asyncio.gather(*(feed.catch_up(5.0) for _ in range(200)))
    assert len(instants) <= 7
    assert min(gaps(instants)) >= PACE.least - ROUNDING


async def test_failing_polls_come_at_random_and_nobody_who_waits_hastens_them(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.down = DatabaseBusy("away")
        instants = instants_of_polls(source)
        while len(instants) < 5:
            await feed.catch_up(0.01)
    first, *rest = gaps(instants)
    assert min(first, *rest) >= PACE.failing[0] - ROUNDING
    assert max(abs(gap - first) for gap in rest) > ROUNDING


def test_after_the_database_is_back_the_next_poll_comes_within_a_second():
    assert max(PACE.failing) < 1.0


async def test_after_a_load_which_may_have_taken_long_the_lease_is_renewed_at_once(source):
    feed = DirectoryFeed(source, FakeClock(1000.0), LEASE, source.forget, Pace(idle=NEVER))
    async with running(feed):
        await until(lambda: source.polls == 1)


async def test_a_wish_from_another_thread_is_heard_at_once():
    rounds = Rounds(Pace(idle=NEVER, least=0.0))
    async with rounds.one():
        pass
    async with asyncio.timeout(10):
        await asyncio.gather(rounds.pause(failing=False), asyncio.to_thread(rounds.wish_from_thread))


@pytest.mark.parametrize("turns", range(5))
async def test_who_is_cancelled_while_a_wish_comes_true_does_not_go_on(turns):
    rounds = Rounds(Pace(idle=NEVER, least=0.0))
    pausing = asyncio.create_task(rounds.pause(failing=False))
    for _ in range(5):
        await asyncio.sleep(0)
    rounds.wish()
    for _ in range(turns):
        await asyncio.sleep(0)
    if pausing.cancel():
        with pytest.raises(asyncio.CancelledError):
            await pausing


async def test_a_wish_does_not_come_before_the_least_interval():
    rounds = Rounds(Pace(idle=NEVER, least=NEVER))
    rounds.wish()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await rounds.pause(failing=False)


async def test_without_a_wish_the_next_round_comes_after_the_idle_interval():
    async with asyncio.timeout(10):
        await Rounds(Pace(idle=0.01, least=0.0)).pause(failing=False)


def test_a_wish_after_the_event_loop_has_ended_is_forgotten():
    rounds = asyncio.run(begun())
    rounds.wish_from_thread()


async def begun() -> Rounds:
    rounds = Rounds(PACE)
    async with rounds.one():
        return rounds
