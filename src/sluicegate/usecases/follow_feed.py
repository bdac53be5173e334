"""Keep the directory in memory true: load it once, then follow the revision log, and know how far it can be trusted.

`confirmed_at` is the instant at which the last successful poll was *sent*, and moves only after everything that the
poll brought was applied (design, section 5). Changes are applied on the event loop, so no request sees half of one.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from sluicegate import telemetry
from sluicegate.core.catalog import Kind, Upstream
from sluicegate.core.directory import Directory, RevisionGap
from sluicegate.core.errors import AuthorizationStale, Unavailable
from sluicegate.core.events import Change
from sluicegate.core.identity import UpstreamId
from sluicegate.core.lease import Lease, LeaseState
from sluicegate.ports import Clock, FeedSource, Poll, UnreadableLog

log = structlog.get_logger()

POLL_INTERVAL = 0.25
"""Seconds between polls that nobody asked for."""
MIN_INTERVAL = 0.05
"""Seconds between any two polls: at most 20 a second, however many requests wait for one."""
LATE_WAIT = 0.25
"""Seconds a request waits for the shared poll when the lease is late."""
REACH_WAIT = 1.0
"""Seconds a writer waits to see its own write."""
SLICE = 500
"""Changes applied before other tasks get a turn."""


Forget = Callable[[UpstreamId], Awaitable[None]]


class DirectoryFeed:
    """The process's directory and its lease. `run` must be running for anything to be decided for long."""

    def __init__(self, source: FeedSource, clock: Clock, lease: Lease, forget: Forget) -> None:
        """`forget` is told each upstream that is gone or is to be reached in another way, whoever changed it."""
        self._source = source
        self._forget = forget
        self._clock = clock
        self._lease = lease
        self._directory: Directory | None = None
        self._confirmed_at: float | None = None
        self._failing = False
        self._diverged = False
        """The log could not be followed, and the state was not loaded anew since: nothing may be applied to it."""
        self._wanted = asyncio.Event()
        self._round = asyncio.Condition()
        self._rounds_begun = 0
        self._rounds_done = 0

    @property
    def directory(self) -> Directory:
        """The current directory. Raises AuthorizationStale while there is none."""
        if self._directory is None:
            raise AuthorizationStale("the directory is not loaded yet: try again in a moment")
        return self._directory

    @property
    def state(self) -> LeaseState:
        """The lease at this instant."""
        return self._state(self._failing)

    @property
    def fresh(self) -> bool:
        """True when a decision may be made at once: the only question on the way of a warm request."""
        return self._lease.fresh(self._confirmed_at, self._clock.boot())

    @property
    def age(self) -> float | None:
        """Seconds since the directory was last known to be current; None if it cannot be trusted."""
        return None if self._confirmed_at is None else self._clock.boot() - self._confirmed_at

    async def ensure_current(self) -> None:
        """Returns when decisions may be made; raises AuthorizationStale when they may not."""
        if self.state is LeaseState.LATE:
            await self.catch_up()
        if self._state(failing=True) is LeaseState.CLOSED:  # still late is no better than an outage
            raise AuthorizationStale("authorization data is too old to decide with: the database does not answer")

    async def catch_up(self, at_most: float = LATE_WAIT) -> None:
        """Waits, for `at_most` seconds, for a poll that begins now; all who wait share it. For ids unknown yet."""
        await self._next_round(at_most)

    async def reach(self, revision: int) -> None:
        """Waits, for at most a second, until the directory stands at `revision`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REACH_WAIT):
                while self._directory is None or self._directory.revision < revision:
                    await self._next_round(REACH_WAIT)

    async def run(self) -> None:
        """Polls until cancelled; the first successful round loads the directory."""
        while True:
            self._wanted.clear()
            self._rounds_begun += 1
            await self._one_round()
            telemetry.record_authz(self.state, self._directory.revision if self._directory else 0, self.age)
            async with self._round:
                self._rounds_done = self._rounds_begun
                self._round.notify_all()
            await asyncio.sleep(MIN_INTERVAL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), POLL_INTERVAL - MIN_INTERVAL)

    async def load(self) -> None:
        """Loads the whole state anew. Raises what the source raises."""
        sent_at = self._clock.boot()
        snapshot = await self._source.load()
        self._directory = await asyncio.to_thread(Directory, snapshot.epoch, snapshot.revision, snapshot.entities)
        self._confirmed_at = sent_at
        self._failing = self._diverged = False
        log.info("directory loaded", revision=snapshot.revision, entities=len(snapshot.entities))

    def _state(self, failing: bool) -> LeaseState:
        """A state that the log has left behind is good for as long as its lease is fresh, and not for an outage."""
        if self._diverged and not self.fresh:
            return LeaseState.CLOSED
        return self._lease.state(self._confirmed_at, failing, self._clock.boot())

    async def _one_round(self) -> None:
        try:
            if self._directory is None or self._diverged:
                await self.load()
            else:
                await self._follow(self._directory)
            if self._failing:
                log.info("the database answers again")
            self._failing = False
        except (Unavailable, UnreadableLog) as error:
            if not self._failing:
                log.warning("authorization data cannot be read", error=str(error), cause=repr(error.__cause__))
            self._failing = True
        except Exception:  # of a background loop: whatever it is, the lease bounds what it can do
            telemetry.unexpected_errors.labels("feed").inc()
            log.error("authorization data cannot be read", exc_info=not self._failing)
            self._failing = True

    async def _follow(self, directory: Directory) -> None:
        while True:
            sent_at = self._clock.boot()
            try:
                poll = await self._source.poll(directory.revision)
                self._check_continues(poll, directory)
                for count, change in enumerate(poll.changes, 1):
                    if change.kind is Kind.UPSTREAM and _leads_elsewhere(change, directory):
                        await self._forget(UpstreamId(change.key))
                    directory.apply(change)
                    if count % SLICE == 0:
                        await asyncio.sleep(0)
            except (RevisionGap, UnreadableLog) as reason:
                log.warning("the revision log cannot be followed: loading anew", reason=str(reason))
                self._diverged = True
                await self.load()
                return
            if directory.revision == poll.revision:
                self._confirmed_at = sent_at
                return

    @staticmethod
    def _check_continues(poll: Poll, directory: Directory) -> None:
        if poll.epoch != directory.epoch:
            raise RevisionGap("the database has another epoch")
        if poll.revision < directory.revision:
            raise RevisionGap(f"the database is at revision {poll.revision}, before our {directory.revision}")
        if directory.revision < poll.floor:
            raise RevisionGap(f"the log begins after revision {poll.floor}")
        if poll.revision > directory.revision and not poll.changes:
            raise RevisionGap("the log has no rows for the revisions above ours")

    async def _next_round(self, at_most: float) -> None:
        """Waits for a round that begins after this call; all who wait share it."""
        target = self._rounds_begun + 1
        self._wanted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most), self._round:
                await self._round.wait_for(lambda: self._rounds_done >= target)


def _leads_elsewhere(change: Change, directory: Directory) -> bool:
    before, after = directory.upstreams.get(UpstreamId(change.key)), change.entity
    if before is None:
        return False
    return not isinstance(after, Upstream) or (before.url, before.auth) != (after.url, after.auth)
