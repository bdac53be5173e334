"""After a change: which instances decide by it, and until when one that is away may still decide without it.

The bound: an instance that has not applied a change cannot have polled successfully since it was committed, so it stops
deciding when its trust in the last poll before that ends. No clock but our own is asked.
"""

import asyncio
import contextlib
import math
from collections.abc import Sequence

from msgspec import Struct

from sluicegate.core.errors import DatabaseBusy
from sluicegate.ports import Clock, Instances, Seen
from sluicegate.usecases.own_instance import OwnInstance

PAUSE = 0.1
"""Seconds between two looks at the table, in which nobody holds a connection."""
SILENT = 5.0
"""Seconds without a report after which a row's revision proves nothing: it may be one of a history that a failover
forgot, and whoever stands in that one has not applied the change.
"""
BEYOND_BOUND = 1.5
"""Seconds waited beyond L: for the report that follows, and for the look at it."""


class Away(Struct, frozen=True):
    """An instance that is not known to have applied the change."""

    name: str
    revision: int
    """Where it stood when it last reported."""
    trusted_until: int
    """Unix seconds: it decides nothing without the change after this, whatever has become of it."""


class Applied(Struct, frozen=True):
    """Of the instances that are known, how many decide by the change, and who does not yet."""

    known: int
    away: tuple[Away, ...]

    @property
    def applied(self) -> int:
        """Instances that decide by the change."""
        return self.known - len(self.away)


class Look(Struct, frozen=True):
    """What the table held, and the number of the look at it."""

    number: int
    seen: Sequence[Seen]


class WhoApplied:
    """Asks the table of instances; however many wait, one look at a time serves them all."""

    def __init__(self, me: OwnInstance, instances: Instances, clock: Clock, patience: float) -> None:
        """`patience`: seconds that one asker waits at most. Who has been silent for longer is not waited for."""
        self._me = me
        self._instances = instances
        self._clock = clock
        self._patience = patience
        self._looking = asyncio.Lock()
        self._begun = 0
        self._latest = Look(0, ())

    async def wait(self, revision: int) -> Applied | None:
        """Returns when all instances have applied `revision`, which is committed, or with those that are away by then.

        None when the table could not be read in time: nobody knows.
        """
        committed_by = self._clock.wall()
        number = self._begun
        standing: list[Seen] | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                while standing is None or self._worth_waiting(standing, revision):
                    if standing is not None:
                        await asyncio.sleep(PAUSE)
                    look = await self._look_after(number)
                    number, standing = look.number, self._with_own(look.seen)
        return None if standing is None else _applied(standing, revision, committed_by)

    def _worth_waiting(self, standing: Sequence[Seen], revision: int) -> bool:
        return any(not _has_applied(seen, revision) and seen.ago <= self._patience for seen in standing)

    def _with_own(self, seen: Sequence[Seen]) -> list[Seen]:
        """This worker counts by its directory, also when it could not report yet."""
        return [Seen(self._me.report(), 0.0), *(each for each in seen if each.report.instance != self._me.id)]

    async def _look_after(self, number: int) -> Look:
        """The first look that begins after look `number`; one that fails is tried again while somebody asks."""
        while True:
            with contextlib.suppress(DatabaseBusy):
                async with self._looking:
                    if self._latest.number <= number:
                        await self._look()
                    return self._latest
            await asyncio.sleep(PAUSE)

    async def _look(self) -> None:
        self._begun += 1
        self._latest = Look(self._begun, await self._instances.seen())


def _applied(standing: Sequence[Seen], revision: int, committed_by: float) -> Applied:
    behind = [seen.report for seen in standing if not _has_applied(seen, revision)]
    away = [Away(each.name, each.revision, math.ceil(committed_by + each.trust)) for each in behind]
    return Applied(len(standing), tuple(sorted(away, key=lambda each: each.name)))


def _has_applied(seen: Seen, revision: int) -> bool:
    return seen.report.revision >= revision and seen.ago <= SILENT
