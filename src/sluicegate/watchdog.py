"""What a blocked event loop cannot notice itself: a thread that watches the loop, the clocks and held connections."""

import asyncio
import sys
import threading
import time

import structlog
from prometheus_client import Counter, Gauge, Histogram

from sluicegate import ledger, telemetry
from sluicegate.ports import Clock
from sluicegate.telemetry import Alarm

log = structlog.get_logger()

HEARTBEAT = 0.25
"""Seconds between two beats of the loop, and between two looks of the thread."""
MISSED = 4
"""Looks without a beat between them that make a block: a second. Looks, not time: who was stopped missed none."""
JUMP = 3.0
"""Seconds of difference between the clocks that are more than an adjustment."""
READ_WITHIN = 0.1
"""Seconds in which both clocks must have been read, or the process was stopped between them."""

LAG = Histogram(
    "event_loop_lag_seconds",
    "Seconds that the event loop was late, four times a second",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
TASKS = Gauge("event_loop_tasks", "Tasks on the event loop now", multiprocess_mode="livesum")
BLOCKS = Counter("event_loop_blocks_total", "Times that the event loop did not run for a second")


class Watchdog:
    """Warns, each once: the loop is blocked, the wall clock jumped, a database connection is held for too long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beats = 0
        self._offset = _offset(clock)

    async def run(self) -> None:
        """Watches the loop that it runs on, until cancelled."""
        ended = threading.Event()
        loop_thread = threading.get_ident()
        threading.Thread(target=self._watch, args=(loop_thread, ended), name="watchdog", daemon=True).start()
        try:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(HEARTBEAT)
                LAG.observe(max(0.0, time.perf_counter() - began - HEARTBEAT))
                self._beats += 1
                TASKS.set(len(asyncio.all_tasks()))
        finally:
            ended.set()

    def _watch(self, loop_thread: int, ended: threading.Event) -> None:
        seen, missed = self._beats, 0
        while not ended.wait(HEARTBEAT):
            missed = missed + 1 if self._beats == seen else 0
            seen = self._beats
            try:
                if missed == MISSED:
                    _warn_of_block(loop_thread)
                self._look_at_clocks()
                _warn_of_leaks()
            except Exception:  # of a background loop: it must go on watching
                telemetry.unexpected_errors.labels("watchdog").inc()
                log.error("the watchdog failed", exc_info=True)

    def _look_at_clocks(self) -> None:
        """The lease does not mind a jump, but tokens expire by the wall clock."""
        offset = _offset(self._clock)
        if offset is None:
            return
        before, self._offset = self._offset, offset
        if before is not None and abs(offset - before) > JUMP:
            telemetry.authz_alarms.labels(Alarm.CLOCK_JUMP).inc()
            log.warning(
                "the wall clock jumped: tokens may count as expired, or no longer", seconds=round(offset - before, 3)
            )


def _offset(clock: Clock) -> float | None:
    """Wall time less boot time; None when the process stood still while it read them."""
    before = clock.boot()
    wall = clock.wall()
    return wall - before if clock.boot() - before < READ_WITHIN else None


def _warn_of_block(loop_thread: int) -> None:
    BLOCKS.inc()
    stack = ledger.stack_of(sys._current_frames().get(loop_thread))
    log.warning("the event loop is blocked: nothing is answered", seconds=MISSED * HEARTBEAT, stack=stack)


def _warn_of_leaks() -> None:
    for leak in ledger.new_leaks():
        log.warning(
            "a database connection is held for too long",
            owner=leak.owner,
            seconds=leak.seconds,
            asked=leak.asked,
            now=leak.now,
        )
