"""Slots by themselves, without a database: who gets one, who waits, who is refused, and that none is ever lost."""

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import REGISTRY

from sluicegate.core.errors import DatabaseBusy
from sluicegate.ledger import Owner
from sluicegate.store.bulkhead import MAX_WAITING, Bulkhead
from tests.store.writing import checked_out

LIMIT = 30
DEADLINE = 20.0
"""Long enough that it never passes in a test that is not about it."""


class Gate:
    """Work that stops at the gate until it is opened, and counts who went in."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._entered = threading.Semaphore(0)
        self.order: list[object] = []

    def work(self, name: object = None) -> Callable[[], object]:
        def stop() -> object:
            self.order.append(name)
            self._entered.release()
            assert self._open.wait(LIMIT)
            return name

        return stop

    async def entered(self, count: int = 1) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self._entered.acquire, timeout=LIMIT)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate():
    found = Gate()
    yield found
    found.open()


def waiting() -> float:
    return REGISTRY.get_sample_value("db_waiting", {"owner": "admin"}) or 0


def timeouts(wait: str) -> float:
    return REGISTRY.get_sample_value("db_timeouts_total", {"owner": "admin", "wait": wait}) or 0


def threads() -> int:
    return sum(thread.name.startswith("database-admin") for thread in threading.enumerate())


async def until_waiting(count: int) -> None:
    async with asyncio.timeout(LIMIT):
        while waiting() != count:
            await asyncio.to_thread(time.sleep, 0.001)


async def settled(bulkhead: Bulkhead, size: int) -> None:
    """All slots are free: as many works run at the same time, and no counter is left."""
    together = threading.Barrier(size)
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*(bulkhead.run(lambda: together.wait(LIMIT), DEADLINE) for _ in range(size)))
    assert (checked_out("admin"), waiting()) == (0, 0)


async def test_who_finds_no_slot_waits_in_turn(gate: Gate) -> None:
    bulkhead = Bulkhead(Owner.ADMIN, 1, wait=LIMIT)
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        group.create_task(bulkhead.run(gate.work(0), DEADLINE))
        await gate.entered()
        tasks = []
        for number in range(1, 5):
            tasks.append(group.create_task(bulkhead.run(gate.work(number), DEADLINE)))
            await until_waiting(number)
        assert gate.order == [0]
        gate.open()
        assert [await task for task in tasks] == [1, 2, 3, 4]
    assert gate.order == [0, 1, 2, 3, 4]
    await settled(bulkhead, 1)
    bulkhead.close()


async def test_who_waits_too_long_for_a_slot_is_told_which_setting_it_was_and_nothing_was_done(gate: Gate) -> None:
    bulkhead = Bulkhead(Owner.ADMIN, 1, wait=0.05)
    before = timeouts("pool")
    first = asyncio.ensure_future(bulkhead.run(gate.work(), DEADLINE))
    await gate.entered()
    refusal = r"none became free within 0\.05 s \(SLUICEGATE_DB_POOL_TIMEOUT\): nothing was done"
    with pytest.raises(DatabaseBusy, match=refusal):
        await bulkhead.run(gate.work("never"), DEADLINE)
    gate.open()
    await first
    await settled(bulkhead, 1)
    assert gate.order == [None]
    assert timeouts("pool") == before + 1
    bulkhead.close()


async def test_work_that_takes_too_long_is_told_apart_and_goes_on(gate: Gate) -> None:
    bulkhead = Bulkhead(Owner.ADMIN, 1, wait=0.05)
    before = timeouts("deadline")
    with pytest.raises(DatabaseBusy, match=r"within 0\.2 s \(SLUICEGATE_DB_DEADLINE\): .* may still happen"):
        await bulkhead.run(gate.work("slow"), 0.2)
    assert (timeouts("deadline"), checked_out("admin")) == (before + 1, 1)
    with pytest.raises(DatabaseBusy, match="POOL_TIMEOUT"):
        await bulkhead.run(gate.work("never"), DEADLINE)
    gate.open()
    await settled(bulkhead, 1)
    bulkhead.close()


async def test_the_deadline_of_the_work_begins_when_it_has_its_slot(gate: Gate) -> None:
    bulkhead = Bulkhead(Owner.ADMIN, 1, wait=LIMIT)
    first = asyncio.ensure_future(bulkhead.run(gate.work(), DEADLINE))
    await gate.entered()
    second = asyncio.ensure_future(bulkhead.run(lambda: "done", 0.5))
    await until_waiting(1)
    await asyncio.sleep(0.6)  # longer than its deadline
    gate.open()
    assert (await first, await second) == (None, "done")
    bulkhead.close()


async def test_without_a_wait_a_full_bulkhead_answers_at_once(gate: Gate) -> None:
    bulkhead = Bulkhead(Owner.ADMIN, 1)
    first = asyncio.ensure_future(bulkhead.run(gate.work(), DEADLINE))
    await gate.entered()
    refused = bulkhead.run(gate.work("never"), DEADLINE)
    with pytest.raises(DatabaseBusy, match=r"all 1 .* in use \(SLUICEGATE_DB_POOL_SIZE\)"):
        refused.send(None)  # the first step of the coroutine, not even a turn of the event loop
    gate.open()
    await first
    bulkhead.close()


async def test_the_queue_is_bounded(gate: Gate) -> None:
    bulkhead = Bulkhead(Owner.ADMIN, 1, wait=LIMIT)
    running = [asyncio.ensure_future(bulkhead.run(gate.work(), DEADLINE)) for _ in range(MAX_WAITING + 1)]
    await until_waiting(MAX_WAITING)
    with pytest.raises(DatabaseBusy, match=f"and {MAX_WAITING} works wait for one"):
        await bulkhead.run(gate.work("never"), DEADLINE)
    gate.open()
    assert len(await asyncio.gather(*running)) == MAX_WAITING + 1
    await settled(bulkhead, 1)
    bulkhead.close()


async def test_a_waiter_who_goes_away_leaves_no_trace_and_its_turn_to_the_next(gate: Gate) -> None:
    bulkhead = Bulkhead(Owner.ADMIN, 1, wait=LIMIT)
    first = asyncio.ensure_future(bulkhead.run(gate.work(0), DEADLINE))
    await gate.entered()
    gone, stays = (asyncio.ensure_future(bulkhead.run(gate.work(number), DEADLINE)) for number in (1, 2))
    await until_waiting(2)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert waiting() == 1
    gate.open()
    assert (await first, await stays) == (0, 2)
    assert gate.order == [0, 2]
    await settled(bulkhead, 1)
    bulkhead.close()


@contextmanager
def no_other_thread() -> Iterator[None]:
    """None runs until this one waits for something."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(LIMIT)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


async def test_who_goes_away_with_a_slot_but_before_the_work_began_begins_nothing(gate: Gate) -> None:
    bulkhead = Bulkhead(Owner.ADMIN, 1, wait=LIMIT)
    await bulkhead.run(lambda: None, DEADLINE)  # its thread waits for work now
    with no_other_thread():
        gone = bulkhead.run(gate.work("gone"), DEADLINE)
        gone.send(None)
        gone.close()  # as a cancelled task closes its coroutine
    gate.open()
    await settled(bulkhead, 1)
    assert gate.order == []
    bulkhead.close()


async def test_threads_are_started_when_they_are_needed() -> None:
    before = threads()
    bulkhead = Bulkhead(Owner.ADMIN, 30)
    for _ in range(5):
        await bulkhead.run(lambda: None, DEADLINE)
    assert threads() <= before + 1
    await settled(bulkhead, 7)
    assert threads() <= before + 7
    bulkhead.close()


async def test_closing_refuses_those_who_wait(gate: Gate) -> None:
    bulkhead = Bulkhead(Owner.ADMIN, 1, wait=LIMIT)
    first = asyncio.ensure_future(bulkhead.run(gate.work(), DEADLINE))
    await gate.entered()
    second = asyncio.ensure_future(bulkhead.run(gate.work("never"), DEADLINE))
    await until_waiting(1)
    bulkhead.close()
    with pytest.raises(DatabaseBusy, match="closed"):
        await second
    gate.open()
    await first
    assert (gate.order, waiting()) == ([None], 0)


class Crowd:
    """Many who want a slot, of whom some go away, some are impatient, and some fail."""

    def __init__(self, seed: int, size: int) -> None:
        self._random = random.Random(seed)
        self._bulkhead = Bulkhead(Owner.ADMIN, size, wait=0.03)
        self._lock = threading.Lock()
        self._inside = 0
        self.most_inside = 0
        self.ran: list[int] = []
        self.answered: list[int] = []
        self.not_begun: list[int] = []
        self.bulkhead = self._bulkhead

    async def pass_through(self, count: int) -> None:
        tasks = [asyncio.ensure_future(self._one(number)) for number in range(count)]
        for task in self._random.sample(tasks, count // 4):
            asyncio.get_running_loop().call_later(self._random.random() * 0.2, task.cancel)
        await asyncio.wait(tasks, timeout=LIMIT)
        assert all(task.done() for task in tasks)

    async def _one(self, number: int) -> None:
        await asyncio.sleep(self._random.random() * 0.2)
        lasts, deadline, fails = self._random.random() * 0.01, self._random.choice([0.002, 1.0]), number % 7 == 0
        try:
            await self._bulkhead.run(lambda: self._work(number, lasts, fails), deadline)
        except ZeroDivisionError:
            pass
        except DatabaseBusy as error:
            if "nothing was done" in str(error):
                self.not_begun.append(number)
            return
        self.answered.append(number)

    def _work(self, number: int, lasts: float, fails: bool) -> None:
        with self._lock:
            self._inside += 1
            self.most_inside = max(self.most_inside, self._inside)
        time.sleep(lasts)
        with self._lock:
            self._inside -= 1
            self.ran.append(number)
        if fails:
            raise ZeroDivisionError


@pytest.mark.parametrize("seed", range(5))
async def test_no_slot_is_lost_whatever_the_crowd_does(seed: int) -> None:
    size = 1 + seed % 3
    crowd = Crowd(seed, size)
    await crowd.pass_through(300)
    await settled(crowd.bulkhead, size)
    assert crowd.most_inside <= size
    assert len(crowd.ran) == len(set(crowd.ran))
    assert set(crowd.answered) <= set(crowd.ran), "who got an answer was served"
    assert not set(crowd.not_begun) & set(crowd.ran), "who was told that nothing was done was not"
    assert crowd.answered
    assert crowd.not_begun
    crowd.bulkhead.close()
