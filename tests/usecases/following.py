"""A feed over a revision log in a list, for tests: the log, the clock, and the feed running."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY

from sluicegate.core.catalog import Entity, Kind
from sluicegate.core.directory import Directory
from sluicegate.core.events import Change
from sluicegate.core.lease import Lease
from sluicegate.ports import Audit, Mark, Poll, Snapshot
from sluicegate.usecases.follow_feed import DirectoryFeed
from tests.support.world import ALICE, entities, user

LEASE = Lease(revocation=2.0, outage=300.0)


class ScriptedSource:
    """A revision log in a list. `down` is raised while set; `gate` and `audit_gate` hold answers back while cleared."""

    def __init__(self) -> None:
        self.epoch = "one"
        self.changes: list[Change] = []
        self.start = 1
        """The revision without any change."""
        self.floor = 1
        self.history = 0
        """Stands for the instants at which rows were written: the same changes written again have other marks."""
        self.unlogged: list[Entity] = []
        """What the database holds although the log never said so."""
        self.lag: float | None = None
        self.down: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.audit_gate = asyncio.Event()
        self.audit_gate.set()
        self.load_down: Exception | None = None
        self.loads = self.failed_loads = 0
        self.polls = 0
        self.on_poll: Callable[[], None] = lambda: None
        self.on_load: Callable[[], None] = lambda: None
        self.on_audit: Callable[[], None] = lambda: None
        """Runs when the database has been read: what it does, the audit has not seen."""
        self.forgotten: list[str] = []

    async def forget(self, upstream_id: str) -> None:
        self.forgotten.append(upstream_id)

    @property
    def revision(self) -> int:
        return self.changes[-1].rev if self.changes else self.start

    def commit(self, *active: bool) -> None:
        for each in active:
            self.changes.append(Change(self.revision + 1, Kind.USER, ALICE, user(ALICE, active=each)))

    async def load(self) -> Snapshot:
        self.on_load()
        if failure := self.down or self.load_down:
            self.failed_loads += 1
            raise failure
        self.loads += 1
        return Snapshot(self.directory(), self.mark(self.revision))

    async def poll(self, above: int) -> Poll:
        self.polls += 1
        self.on_poll()
        changes = tuple(change for change in self.changes if change.rev > above)
        here, last = self.mark(above), self.mark(changes[-1].rev) if changes else None
        answer = Poll(self.epoch, self.revision, self.floor, changes, self.lag, here, last)
        await self.gate.wait()
        if self.down:
            raise self.down
        return answer

    async def audit(self, tokens_from: int) -> Audit:
        if self.down:
            raise self.down
        directory = self.directory()
        self.on_audit()
        await self.audit_gate.wait()
        return Audit(directory.epoch, directory.revision, directory.digest)

    def directory(self) -> Directory:
        """What the database holds."""
        last = {change.key: change.entity for change in self.changes}
        kept = [entity for entity in entities() if getattr(entity, "id", None) not in last]
        held = [*kept, *(entity for entity in last.values() if entity), *self.unlogged]
        return Directory(self.epoch, self.revision, held)

    def mark(self, revision: int) -> Mark | None:
        rows = [change for change in self.changes if change.rev == revision]
        return Mark(hash((rows[0], self.history))) if rows else None


@asynccontextmanager
async def running(feed: DirectoryFeed) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for changes with time
            await asyncio.sleep(0.005)


def alice_is_active(feed: DirectoryFeed) -> bool:
    return feed.directory.users[ALICE].active


def metric(name: str, **labels: str) -> float:
    """What /metrics shows now."""
    return REGISTRY.get_sample_value(name, labels) or 0.0
