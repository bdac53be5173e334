"""Who has applied a change, and until when somebody who is away may decide without it."""

import asyncio

import pytest

from sluicegate.core.errors import DatabaseBusy
from sluicegate.usecases.applied import Applied, Away, WhoApplied
from sluicegate.usecases.own_instance import OwnInstance
from tests.support.instances import FakeInstances
from tests.support.memory import FakeClock, FakeFeed
from tests.support.world import NOW, world

HERE = 1
"""The revision of the world, and so of this worker."""
PLENTY = 20.0
"""Seconds that no test takes."""


class Asking:
    """This worker at revision 1, and the table of the others."""

    def __init__(self, patience: float = PLENTY) -> None:
        self.instances = FakeInstances()
        self.me = OwnInstance(FakeFeed(world()), 300.0, "own")
        self.who = WhoApplied(self.me, self.instances, FakeClock(NOW + 0.5), patience)

    async def wait(self, revision: int = HERE) -> Applied | None:
        async with asyncio.timeout(PLENTY / 2):
            return await self.who.wait(revision)


@pytest.fixture
def asking() -> Asking:
    return Asking()


async def test_what_all_have_applied_is_answered_after_one_look(asking: Asking) -> None:
    asking.instances.stands("b", HERE)
    asking.instances.stands("c", HERE + 5)
    assert await asking.wait() == Applied(3, ())
    assert asking.instances.looks == 1


async def test_one_that_is_late_is_waited_for(asking: Asking) -> None:
    asking.instances.stands("b", HERE - 1)

    def catches_up() -> None:
        if asking.instances.looks == 3:
            asking.instances.stands("b", HERE)

    asking.instances.when_looked_at = catches_up
    assert await asking.wait() == Applied(2, ())
    assert asking.instances.looks == 3


async def test_one_that_stays_away_is_named_with_the_end_of_its_trust_counted_from_the_change() -> None:
    asking = Asking(patience=0.25)
    asking.instances.stands("b", HERE - 1, trust=2.0)
    asking.instances.stands("a", 0, trust=300.0)
    answer = await asking.wait()
    assert answer == Applied(3, (Away("a", 0, int(NOW) + 301), Away("b", HERE - 1, int(NOW) + 3)))
    assert answer.applied == 1
    assert asking.instances.looks > 1


async def test_one_that_has_been_silent_for_long_is_named_but_not_waited_for(asking: Asking) -> None:
    asking.instances.stands("killed", HERE - 1, ago=PLENTY + 1)
    assert await asking.wait() == Applied(2, (Away("killed", HERE - 1, int(NOW) + 301),))
    assert asking.instances.looks == 1


async def test_one_that_has_been_silent_is_not_taken_at_its_word_for_a_history_may_have_been_forgotten(
    asking: Asking,
) -> None:
    asking.instances.stands("cut off before a failover", HERE + 5, ago=PLENTY + 1)
    answer = await asking.wait()
    assert answer is not None
    assert (answer.applied, [each.name for each in answer.away]) == (1, ["cut off before a failover"])


async def test_this_worker_counts_by_its_directory_and_once(asking: Asking) -> None:
    assert await asking.wait() == Applied(1, ())
    await asking.instances.report(asking.me.report())
    assert await asking.wait() == Applied(1, ())
    ahead = Asking(patience=0.05)
    assert await ahead.wait(HERE + 1) == Applied(1, (Away("own", HERE, int(NOW) + 301),))


async def test_when_the_table_cannot_be_read_nobody_knows() -> None:
    asking = Asking(patience=0.25)
    asking.instances.failure = DatabaseBusy("busy")
    assert await asking.wait() is None
    assert asking.instances.looks > 1


async def test_when_looking_hangs_nobody_knows_and_nobody_waits_for_long() -> None:
    asking = Asking(patience=0.1)
    asking.instances.may_be_read.clear()
    answers = await asyncio.gather(*(asking.wait() for _ in range(5)))
    assert answers == [None] * 5


async def test_a_look_that_fails_is_tried_again(asking: Asking) -> None:
    asking.instances.failure = DatabaseBusy("busy")

    def recovers() -> None:
        if asking.instances.looks == 2:
            asking.instances.failure = None

    asking.instances.when_looked_at = recovers
    assert await asking.wait() == Applied(1, ())


async def test_any_number_of_askers_share_the_looks_but_none_trusts_one_that_began_before_it_asked(
    asking: Asking,
) -> None:
    begun = asyncio.Event()
    asking.instances.when_looked_at = begun.set
    asking.instances.may_be_read.clear()
    first = asyncio.create_task(asking.wait())
    await begun.wait()
    others = [asyncio.create_task(asking.wait()) for _ in range(50)]
    await asyncio.sleep(0)
    asking.instances.may_be_read.set()
    assert await asyncio.gather(first, *others) == [Applied(1, ())] * 51
    assert asking.instances.looks == 2
