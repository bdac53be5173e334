"""What each worker does for the whole in the background: it reports how far it is, and hourly it cleans and checks.

Nothing waits for it, and whatever fails here is tried again: the lease alone bounds what an old directory can do.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog
from msgspec import Struct

from sluicegate import telemetry
from sluicegate.core.errors import Unavailable
from sluicegate.ports import AuthzFeed, Instances, LogKeeping
from sluicegate.usecases.own_instance import OwnInstance

log = structlog.get_logger()

REPORT_INTERVAL = 1.0
"""Seconds between reports when nothing changes."""
MIN_INTERVAL = 0.25
"""Seconds between any two reports: at most 4 a second, however many changes there are."""
HOUR = 3600.0
LOG_KEPT = 86400.0
"""Seconds for which the revision log keeps a change: who slept for longer loads everything anew."""
LITTLE = 100
"""Rows of the log whose removal can wait for another hour."""
TRIM_PAUSE = 0.25
"""Seconds between two slices of the log, so that the report gets its turn on the one connection."""

Pause = Callable[[float], Awaitable[None]]


class Chore(Struct, frozen=True):
    """Something to be done about once an hour."""

    name: str
    do: Callable[[], Awaitable[object]]


class Upkeep:
    """`run` goes on until it is cancelled; `leave` comes after it."""

    def __init__(
        self,
        me: OwnInstance,
        feed: AuthzFeed,
        instances: Instances,
        chores: Sequence[Chore],
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._me = me
        self._feed = feed
        self._instances = instances
        self._chores = (*chores, Chore("forget silent instances", instances.forget_silent))
        self._pause = pause
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Reports and does the chores until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_reporting())
            group.create_task(self._keep_doing_chores())

    async def leave(self) -> None:
        """Removes this worker from those that are known; to be called when it decides nothing any more."""
        await self._attempt(Chore("leave", lambda: self._instances.leave(self._me.id)))

    async def _keep_reporting(self) -> None:
        while True:
            report = self._me.report()
            await self._attempt(Chore("report", lambda: self._instances.report(report)))  # noqa: B023 - it ends here
            await self._pause(MIN_INTERVAL)
            await self._feed.next_change(report.revision, REPORT_INTERVAL - MIN_INTERVAL)

    async def _keep_doing_chores(self) -> None:
        """Each worker at its own time, so that many workers do not meet."""
        await self._pause(random.uniform(0, HOUR))  # noqa: S311 - no secret
        while True:
            for chore in self._chores:
                await self._attempt(chore)
            await self._pause(random.uniform(0.9, 1.1) * HOUR)  # noqa: S311

    async def _attempt(self, chore: Chore) -> None:
        """Does it, and logs only the first failure of a row."""
        try:
            await chore.do()
        except Unavailable as error:
            if self._first_failure(chore):
                log.warning("upkeep cannot be done", chore=chore.name, error=str(error), cause=repr(error.__cause__))
        except Exception:  # of a background loop
            telemetry.unexpected_errors.labels("upkeep").inc()
            if self._first_failure(chore):
                log.error("upkeep cannot be done", chore=chore.name, exc_info=True)
        else:
            if chore.name in self._failing:
                self._failing.remove(chore.name)
                log.info("upkeep can be done again", chore=chore.name)

    def _first_failure(self, chore: Chore) -> bool:
        """Counts it; true for the first of a row."""
        telemetry.upkeep_failures.labels(chore.name).inc()
        first = chore.name not in self._failing
        self._failing.add(chore.name)
        return first


def trimming(keeping: LogKeeping, pause: Pause = asyncio.sleep) -> Chore:
    """Removes old changes from the revision log, slice by slice, until little is left."""

    async def trim() -> None:
        while await keeping.trim(LOG_KEPT) > LITTLE:
            await pause(TRIM_PAUSE)

    return Chore("trim the revision log", trim)
