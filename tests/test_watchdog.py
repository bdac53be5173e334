"""A blocked loop, a clock that jumps, a connection that is kept: each is noticed while it lasts, and said once."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from sluicegate.ledger import Owner, checkout
from sluicegate.watchdog import HEARTBEAT, JUMP, Watchdog

LIMIT = 30.0
HOUR = 3600.0
Logs = list[Any]


class Clocks:
    """Both clocks at zero, until a test sets them; counts how often they were looked at."""

    def __init__(self) -> None:
        self.wall_time = 0.0
        self.boot_time = 0.0
        self.stops = 0.0
        """Seconds that the process stands still each time that it has read one clock and not yet the other."""
        self.looks = 0

    def wall(self) -> float:
        self.looks += 1
        self.boot_time += self.stops
        return self.wall_time

    def boot(self) -> float:
        return self.boot_time


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as found:
        yield found


@pytest.fixture
async def watched(clocks: Clocks, logs: Logs):
    """A watchdog is running, on the loop of the test."""
    watching = asyncio.create_task(Watchdog(clocks).run())
    await asyncio.sleep(0)
    yield
    watching.cancel()
    await until(lambda: not watchdogs())


def watchdogs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "watchdog"]


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def events(logs: Logs, beginning: str) -> Logs:
    return [log for log in logs if log["event"].startswith(beginning)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.to_thread(time.sleep, 0.01)


def block_until(condition: Callable[[], bool]) -> None:
    """As a bug does it: the loop does not run meanwhile."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


async def looked(clocks: Clocks, times: int) -> None:
    target = clocks.looks + times
    await until(lambda: clocks.looks >= target)


async def test_a_blocked_loop_is_noticed_while_it_is_blocked_and_its_stack_is_logged_once(
    watched: None, clocks: Clocks, logs: Logs
) -> None:
    blocks, slow = sample("event_loop_blocks_total"), sample("event_loop_lag_seconds_count") - quick_beats()
    block_until(lambda: sample("event_loop_blocks_total") > blocks)
    after = clocks.looks
    block_until(lambda: clocks.looks >= after + 3)
    assert sample("event_loop_blocks_total") == blocks + 1
    (said,) = events(logs, "the event loop is blocked")
    assert any(line.endswith("in block_until") for line in said["stack"])
    await until(lambda: sample("event_loop_lag_seconds_count") - quick_beats() > slow)

    block_until(lambda: sample("event_loop_blocks_total") > blocks + 1)
    assert len(events(logs, "the event loop is blocked")) == 2


def quick_beats() -> float:
    return sample("event_loop_lag_seconds_bucket", le="0.5")


async def test_a_loop_that_runs_is_not_reported(watched: None, clocks: Clocks, logs: Logs) -> None:
    blocks, beats = sample("event_loop_blocks_total"), sample("event_loop_lag_seconds_count")
    await looked(clocks, 6)
    assert sample("event_loop_blocks_total") == blocks
    assert sample("event_loop_lag_seconds_count") > beats
    assert logs == []


async def test_a_jump_of_the_wall_clock_is_an_alarm_in_either_direction(
    watched: None, clocks: Clocks, logs: Logs
) -> None:
    before = sample("authz_alarms_total", kind="clock_jump")
    await looked(clocks, 1)
    for seconds in (HOUR, -HOUR):
        clocks.wall_time += seconds
        await looked(clocks, 3)
    assert [log["seconds"] for log in events(logs, "the wall clock jumped")] == [HOUR, -HOUR]
    assert sample("authz_alarms_total", kind="clock_jump") == before + 2


async def test_a_clock_that_is_adjusted_or_a_machine_that_slept_is_no_jump(
    watched: None, clocks: Clocks, logs: Logs
) -> None:
    await looked(clocks, 1)
    for _ in range(2):
        clocks.wall_time += JUMP * 0.9  # far more than any adjustment between two looks
        await looked(clocks, 2)
    clocks.boot_time += HOUR  # CLOCK_BOOTTIME goes on while the machine sleeps
    clocks.wall_time += HOUR
    await looked(clocks, 2)
    assert logs == []


async def test_a_process_that_stood_still_between_the_two_clocks_is_no_jump(
    watched: None, clocks: Clocks, logs: Logs
) -> None:
    await looked(clocks, 1)
    clocks.stops = HOUR
    await looked(clocks, 3)
    clocks.wall_time, clocks.stops = clocks.boot_time, 0.0
    await looked(clocks, 2)
    assert logs == []


async def test_a_connection_that_is_kept_is_logged_with_both_stacks(watched: None, logs: Logs) -> None:
    before = sample("db_leaks_total", owner="admin")
    with checkout(Owner.ADMIN):
        await until(lambda: bool(events(logs, "a database connection is held for too long")))
        await asyncio.sleep(2 * HEARTBEAT)  # it is said once
    (said,) = events(logs, "a database connection is held for too long")
    assert (said["owner"], said["seconds"] > 1) == ("admin", True)
    assert "in test_a_connection_that_is_kept_is_logged_with_both_stacks" in said["asked"][0]
    assert said["now"], "where the thread is now"
    assert sample("db_leaks_total", owner="admin") == before + 1


async def test_the_thread_ends_with_its_task(clocks: Clocks) -> None:
    before = len(watchdogs())
    watching = asyncio.create_task(Watchdog(clocks).run())
    await until(lambda: len(watchdogs()) == before + 1)
    watching.cancel()
    await until(lambda: len(watchdogs()) == before)
