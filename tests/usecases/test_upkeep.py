"""The background work of one worker: it reports, cleans and checks, and nothing that fails ends it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Never

import pytest
from msgspec import Struct
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from sluicegate.core.errors import AuthorizationStale, DatabaseBusy
from sluicegate.usecases.own_instance import OwnInstance
from sluicegate.usecases.upkeep import HOUR, LITTLE, LOG_KEPT, MIN_INTERVAL, TRIM_PAUSE, Chore, Upkeep, trimming
from tests.support.instances import FakeInstances
from tests.support.memory import FakeFeed
from tests.support.world import world

WITHIN = 20.0


class Pauses:
    """Pauses by the table of what was asked for: short ones are over at once, long ones when `end` is called."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.long = asyncio.Semaphore(0)
        self.in_a_long_one = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        if seconds < 1:
            await asyncio.sleep(0)
        else:
            self.in_a_long_one.set()
            await self.long.acquire()

    async def end(self) -> None:
        """Ends the long pause that is asked for now, and waits for the next one."""
        await self.in_a_long_one.wait()
        self.in_a_long_one.clear()
        self.long.release()
        await self.in_a_long_one.wait()


class Worker:
    """One worker with its upkeep, and what it reported."""

    def __init__(self, *chores: Callable[[], Awaitable[object]]) -> None:
        self.feed = FakeFeed(world())
        self.instances = FakeInstances()
        self.pauses = Pauses()
        self.me = OwnInstance(self.feed, 300.0, "own")
        named = [Chore(f"chore {number}", do) for number, do in enumerate(chores)]
        self.upkeep = Upkeep(self.me, self.feed, self.instances, named, self.pauses)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.timeout(WITHIN):
            task = asyncio.create_task(self.upkeep.run())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def reports(self, count: int) -> list[int]:
        """The revisions of the first so many reports, when they are there."""
        async with self.instances.reported:
            await self.instances.reported.wait_for(lambda: len(self.instances.reports) >= count)
        return [report.revision for report in self.instances.reports[:count]]

    def move(self) -> None:
        """The directory goes one revision on."""
        self.feed.directory = type(self.feed.directory)("epoch", self.feed.directory.revision + 1, [])
        self.feed.moved.set()


def failures(chore: str) -> float:
    return REGISTRY.get_sample_value("upkeep_failures_total", {"chore": chore}) or 0


# --- reports ------------------------------------------------------------------------------------------------------


async def test_a_worker_reports_at_its_start_and_at_once_when_its_directory_has_moved() -> None:
    worker = Worker()
    async with worker.running():
        assert await worker.reports(1) == [1]
        worker.move()
        assert await worker.reports(2) == [1, 2]
        worker.move()
        assert await worker.reports(3) == [1, 2, 3]
    report = worker.instances.reports[0]
    assert (report.instance, report.name, report.trust) == (worker.me.id, "own", 300.0)


async def test_a_worker_whose_directory_stands_still_reports_all_the_same() -> None:
    worker = Worker()
    async with worker.running():
        assert await worker.reports(3) == [1, 1, 1]


async def test_between_two_reports_there_is_a_pause_however_much_changes() -> None:
    worker = Worker()
    async with worker.running():
        for count in range(1, 6):
            await worker.reports(count)
            worker.move()
    assert worker.pauses.asked.count(MIN_INTERVAL) >= 4


async def test_a_worker_without_a_directory_is_known_at_revision_0() -> None:
    class NotLoaded(FakeFeed):
        def __init__(self) -> None: ...

        @property
        def directory(self) -> Never:  # type: ignore[override]
            raise AuthorizationStale("not loaded yet")

    assert OwnInstance(NotLoaded(), 2.0).report().revision == 0


async def test_two_starts_on_one_machine_are_two_instances_with_a_name_for_people() -> None:
    first, second = (OwnInstance(FakeFeed(world()), 2.0).report() for _ in range(2))
    assert first.instance != second.instance
    assert first.name
    assert first.name.rpartition(":")[2].isdecimal()


async def test_who_leaves_is_not_known_any_more() -> None:
    worker = Worker()
    async with worker.running():
        await worker.reports(1)
    assert worker.me.id in worker.instances.rows
    await worker.upkeep.leave()
    assert worker.instances.rows == {}


async def test_leaving_never_fails() -> None:
    worker = Worker()
    worker.instances.failure = DatabaseBusy("the database is away")
    await worker.upkeep.leave()


@pytest.mark.parametrize("failure", [DatabaseBusy("busy"), ZeroDivisionError("a bug")], ids=["foreseen", "a bug"])
async def test_a_report_that_fails_is_counted_each_time_logged_once_and_tried_again(failure: Exception) -> None:
    worker = Worker()
    worker.instances.failure = failure
    before = failures("report")
    with capture_logs() as logs:
        async with worker.running():
            for count in range(1, 4):
                await worker.reports(count)
                worker.move()
            await worker.reports(4)
            worker.instances.failure = None
            worker.move()
            await worker.reports(6)
    assert failures("report") >= before + 3
    said = [entry["event"] for entry in logs if entry.get("chore") == "report"]
    assert said == ["upkeep cannot be done", "upkeep can be done again"]
    assert worker.me.id in worker.instances.rows


# --- chores -------------------------------------------------------------------------------------------------------


async def test_chores_wait_for_a_time_of_their_own_and_come_again_about_every_hour() -> None:
    done: list[str] = []

    async def sweep() -> None:
        done.append("swept")

    first_pauses = set()
    for _ in range(3):
        worker = Worker(sweep)
        async with worker.running():
            await worker.pauses.in_a_long_one.wait()
            assert done == []
            await worker.pauses.end()
            assert done == ["swept"]
            await worker.pauses.end()
            assert done == ["swept", "swept"]
        first, *later = (each for each in worker.pauses.asked if each != MIN_INTERVAL)
        assert all(0.9 * HOUR <= each <= 1.1 * HOUR for each in later)
        first_pauses.add(first)
        done.clear()
    assert len(first_pauses) == 3


async def test_a_chore_that_fails_keeps_no_other_from_being_done() -> None:
    done: list[str] = []

    async def fail() -> None:
        raise ZeroDivisionError

    async def sweep() -> None:
        done.append("swept")

    worker = Worker(fail, sweep)
    bugs = REGISTRY.get_sample_value("unexpected_errors_total", {"place": "upkeep"}) or 0
    with capture_logs():
        async with worker.running():
            await worker.pauses.in_a_long_one.wait()
            await worker.pauses.end()
            await worker.pauses.end()
            await worker.reports(2)
    assert done == ["swept", "swept"]
    assert REGISTRY.get_sample_value("unexpected_errors_total", {"place": "upkeep"}) == bugs + 2


async def test_instances_that_were_silent_for_a_day_are_forgotten() -> None:
    worker = Worker()
    worker.instances.stands("killed", 1, ago=90_000.0)
    worker.instances.stands("alive", 1)
    async with worker.running():
        await worker.pauses.in_a_long_one.wait()
        await worker.pauses.end()
    assert sorted(seen.report.name for seen in worker.instances.rows.values()) == ["alive", "own"]


class Log(Struct):
    """A revision log with so many old rows; a slice of 1000 goes at a time."""

    old: int
    kept: list[float]

    async def trim(self, keep: float) -> int:
        self.kept.append(keep)
        gone = min(self.old, 1000)
        self.old -= gone
        return gone


async def test_the_log_is_trimmed_slice_by_slice_until_little_is_left() -> None:
    log, pauses = Log(3000 + LITTLE, []), Pauses()
    await trimming(log, pauses).do()
    assert log.old == 0
    assert log.kept == [LOG_KEPT] * 4
    assert pauses.asked == [TRIM_PAUSE] * 3
