"""Lend a slot and a thread to database work, wait for it with a deadline, and abandon it when the deadline passes.

Two waits, as SQLAlchemy's pool has them: for a free slot (`wait`), and for the work itself (`deadline`). Abandoned work
goes on: cancelling a driver inside a query was measured to hang for seconds when the database freezes. It keeps its
slot until it really ends, so the number of threads and connections in use never passes `size`.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

import structlog
from prometheus_client import Counter, Gauge

from sluicegate import ledger
from sluicegate.core.errors import DatabaseBusy
from sluicegate.settings import variable

log = structlog.get_logger()
T = TypeVar("T")

MAX_WAITING = 1000
"""Works that wait for a slot of one bulkhead; one more is refused at once."""
CLOSED = "the database is closed: the process is ending"

WAITING = Gauge(
    "db_waiting", "Work that waits for a free database connection now", ["owner"], multiprocess_mode="livesum"
)
TIMEOUTS = Counter("db_timeouts_total", "Work given up, by what it waited for: `pool` or `deadline`", ["owner", "wait"])
for _owner in ledger.Owner:
    WAITING.labels(_owner)  # so that /metrics shows a 0, not nothing
    for _wait in ("pool", "deadline"):
        TIMEOUTS.labels(_owner, _wait)


class _Job:
    """Work on its way: it waits until it has a `slot`, then runs in a thread until it has an `outcome`."""

    __slots__ = ("abandoned", "context", "outcome", "run", "slot")

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run
        self.context = copy_context()
        self.slot: Future[None] = Future()
        self.outcome: Future[Any] = Future()
        self.abandoned = False


class Bulkhead:
    """`size` slots for the work of one owner; who finds none free waits `wait` seconds for one, in the order of coming.

    Threads are started when they are needed.
    """

    def __init__(self, owner: ledger.Owner, size: int, wait: float = 0.0) -> None:
        self._owner = owner
        self._size = size
        self._wait = wait
        self._lock = threading.Lock()
        self._closed = False
        self._taken = 0
        self._threads = 0
        self._waiting: deque[_Job] = deque()
        self._begun: SimpleQueue[_Job | None] = SimpleQueue()

    async def run(self, work: Callable[[], T], deadline: float, leak_after: float | None = None) -> T:
        """What `work` returns or raises, run in a thread as one checkout of the ledger.

        Raises DatabaseBusy when no slot became free in time; nothing was done then. Raises it too when the work has not
        ended `deadline` seconds after it got its slot; it then still goes on. It counts as a leak after `leak_after`
        seconds, or else after the deadline.
        """
        patience = max(ledger.LEAK_AFTER, deadline) if leak_after is None else leak_after
        checkout = ledger.checkout(self._owner, patience)

        def counted() -> T:
            with checkout:
                return work()

        job = _Job(counted)
        self._enter(job)
        try:
            if not job.slot.done():
                await self._wait_for_slot(job)
            value: T = await self._wait_for_outcome(job, deadline)
            return value
        finally:
            self._leave(job)

    def close(self) -> None:
        """Refuses those who wait, and lets each thread end after the work that it is doing, without waiting for it."""
        with self._lock:
            self._closed = True
            refused, threads = list(self._waiting), self._threads
            self._waiting.clear()
            WAITING.labels(self._owner).dec(len(refused))
        for job in refused:
            job.slot.set_exception(DatabaseBusy(CLOSED))
        for _ in range(threads):
            self._begun.put(None)

    def _enter(self, job: _Job) -> None:
        """Gives the job a slot or a place among those who wait for one."""
        with self._lock:
            if self._closed:
                raise DatabaseBusy(CLOSED)
            if self._taken == self._size:
                self._queue(job)
                return
            if self._taken == self._threads:
                self._start_thread()
            self._taken += 1
            self._begin(job)

    def _queue(self, job: _Job) -> None:
        if self._wait <= 0 or len(self._waiting) == MAX_WAITING:
            TIMEOUTS.labels(self._owner, "pool").inc()
            queue = f", and {MAX_WAITING} works wait for one" if self._waiting else ""
            raise DatabaseBusy(f"{self._full}{queue}{self._named('db_pool_size')}: nothing was done, try again")
        self._waiting.append(job)
        WAITING.labels(self._owner).inc()

    def _start_thread(self) -> None:
        # Daemons: a database that never answers must not keep the process from ending.
        name = f"database-{self._owner}-{self._threads}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._threads += 1

    def _begin(self, job: _Job) -> None:
        job.slot.set_result(None)
        self._begun.put(job)

    async def _wait_for_slot(self, job: _Job) -> None:
        waiter = asyncio.wrap_future(job.slot)  # never cancelled: only who holds the lock may end the wait
        done, _ = await asyncio.wait([waiter], timeout=self._wait)
        if done:
            waiter.result()
        elif self._withdraw(job):
            TIMEOUTS.labels(self._owner, "pool").inc()
            why = f"none became free within {self._wait:g} s{self._named('db_pool_timeout')}"
            raise DatabaseBusy(f"{self._full}, and {why}: nothing was done, try again")

    async def _wait_for_outcome(self, job: _Job, deadline: float) -> Any:
        waiter = asyncio.wrap_future(job.outcome)
        try:
            done, _ = await asyncio.wait([waiter], timeout=deadline)
            if done:
                return waiter.result()
        finally:
            waiter.cancel()
        TIMEOUTS.labels(self._owner, "deadline").inc()
        why = f"the database did not answer within {deadline:g} s{self._named('db_deadline')}"
        raise DatabaseBusy(f"{why}: what was asked for may still happen")

    def _leave(self, job: _Job) -> None:
        """After this nobody waits for the job: it never begins, has ended, or is abandoned."""
        if not self._withdraw(job) and not job.outcome.cancel():
            job.abandoned = True

    def _withdraw(self, job: _Job) -> bool:
        """True when the job had no slot yet, and now will get none."""
        with self._lock:
            if job.slot.done():
                return False
            job.slot.cancel()
            self._waiting.remove(job)
            WAITING.labels(self._owner).dec()
            return True

    def _serve(self) -> None:
        while (job := self._begun.get()) is not None:
            self._carry_out(job)
            del job  # or the last result would live until the next job

    def _carry_out(self, job: _Job) -> None:
        if not job.outcome.set_running_or_notify_cancel():
            self._give_back()
            return
        try:
            value = job.context.run(job.run)
        except BaseException as error:  # noqa: BLE001 - the outer boundary of the thread: it is raised in the waiter
            self._give_back()
            if job.abandoned:
                log.warning("abandoned database work failed", owner=self._owner, error=repr(error))
            job.outcome.set_exception(error)
        else:
            self._give_back()
            job.outcome.set_result(value)

    def _give_back(self) -> None:
        """Hands the slot to who waits longest."""
        with self._lock:
            if not self._waiting:
                self._taken -= 1
                return
            WAITING.labels(self._owner).dec()
            self._begin(self._waiting.popleft())

    @property
    def _full(self) -> str:
        return f"all {self._size} database connections for `{self._owner}` are in use"

    def _named(self, setting: str) -> str:
        """The setting behind a limit, for the owner whose limits are settings."""
        return f" ({variable(setting)})" if self._owner is ledger.Owner.ADMIN else ""
