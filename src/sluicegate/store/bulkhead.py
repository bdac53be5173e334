"""Lend a thread to database work, wait for it with a deadline, and abandon it when the deadline passes.

Abandoned work goes on: cancelling a driver inside a query was measured to hang for seconds when the database freezes.
It keeps its slot until it really ends, so the number of threads and connections in use never passes `size`.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

import structlog
from msgspec import Struct

from sluicegate import ledger
from sluicegate.core.errors import DatabaseBusy

log = structlog.get_logger()
T = TypeVar("T")


class _Job(Struct, frozen=True):
    run: Callable[[], Any]
    context: Context
    outcome: Future[Any]
    abandoned: threading.Event


class Bulkhead:
    """`size` threads for the work of one owner. There is no queue: a full bulkhead refuses at once."""

    def __init__(self, owner: ledger.Owner, size: int) -> None:
        self._owner = owner
        self._size = size
        self._closed = False
        self._free = threading.Semaphore(size)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        for number in range(size):
            # Daemons: a database that never answers must not keep the process from ending.
            threading.Thread(target=self._serve, name=f"database-{owner}-{number}", daemon=True).start()

    async def run(self, work: Callable[[], T], deadline: float) -> T:
        """What `work` returns or raises, run in a thread as one checkout of the ledger.

        Raises DatabaseBusy when all slots are taken, or after `deadline` seconds; `work` then still goes on.
        """
        checkout = ledger.checkout(self._owner)
        if self._closed:
            raise DatabaseBusy("the database is closed: the process is ending")
        if not self._free.acquire(blocking=False):
            raise DatabaseBusy(f"all {self._size} database connections for `{self._owner}` are in use: try again")

        def counted() -> T:
            with checkout:
                return work()

        job = _Job(counted, copy_context(), Future(), threading.Event())
        job.outcome.set_running_or_notify_cancel()  # from here on cancelling the waiter leaves the work alone
        self._jobs.put(job)
        value: T = await _wait(job, deadline)
        return value

    def close(self) -> None:
        """Lets each thread end after the work that it is doing, without waiting for it."""
        self._closed = True
        for _ in range(self._size):
            self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._finish(job)
            del job  # or the last result would live until the next job

    def _finish(self, job: _Job) -> None:
        try:
            value = job.context.run(job.run)
        except BaseException as error:  # noqa: BLE001 - the outer boundary of the thread: it is raised in the waiter
            self._free.release()
            if job.abandoned.is_set():
                log.warning("abandoned database work failed", owner=self._owner, error=repr(error))
            job.outcome.set_exception(error)
        else:
            self._free.release()
            job.outcome.set_result(value)


async def _wait(job: _Job, deadline: float) -> Any:
    waiter = asyncio.wrap_future(job.outcome)
    try:
        done, _ = await asyncio.wait([waiter], timeout=deadline)
        if done:
            return waiter.result()
    finally:
        if not waiter.done():
            job.abandoned.set()
            waiter.cancel()
    raise DatabaseBusy(f"the database did not answer within {deadline:g} s: what was asked for may still happen")
