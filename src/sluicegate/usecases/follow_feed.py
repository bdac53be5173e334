"""Keep the directory in memory true: load it once, then follow the revision log, and know how far it can be trusted.

`confirmed_at` is the instant at which the last successful poll was *sent*, and moves only after everything that the
poll brought was applied (design, section 5). Changes are applied on the event loop, so no request sees half of one.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from sluicegate import telemetry
from sluicegate.core.catalog import Entity, Kind, Upstream
from sluicegate.core.directory import Directory, RevisionGap
from sluicegate.core.errors import AuthorizationStale, ReadReplica, Unavailable
from sluicegate.core.events import Change
from sluicegate.core.identity import UpstreamId
from sluicegate.core.lease import Lease, LeaseState
from sluicegate.ports import Clock, FeedSource, Mark, Poll, UnreadableLog
from sluicegate.telemetry import Alarm
from sluicegate.usecases.large_directory import give_up, large_heap_expected
from sluicegate.usecases.rounds import PACE, Pace, Rounds
from sluicegate.usecases.self_audit import AuditOutcome, Trail

log = structlog.get_logger()

LATE_WAIT = 0.25
"""Seconds a request waits for the shared poll when the lease is late."""
REACH_WAIT = 1.0
"""Seconds a writer waits to see its own write."""
SLICE = 100
"""Changes applied before other tasks get a turn: about a millisecond."""

Forget = Callable[[UpstreamId], Awaitable[None]]


class OtherHistory(RevisionGap):
    """The log is not the one that was followed so far: a backup was restored, or a failover lost commits."""


class DirectoryFeed:
    """The process's directory and its lease. `run` must be running for anything to be decided for long."""

    def __init__(self, source: FeedSource, clock: Clock, lease: Lease, forget: Forget, pace: Pace = PACE) -> None:
        """`forget` is told each upstream that is gone or is to be reached in another way, whoever changed it."""
        self._source = source
        self._forget = forget
        self._clock = clock
        self._lease = lease
        self._directory: Directory | None = None
        self._mark: Mark | None = None
        """The log's row at the directory's revision: by it the same history is known again."""
        self._confirmed_at: float | None = None
        self._failing = False
        self._diverged = False
        """The log could not be followed, and the state was not loaded anew since: nothing may be applied to it."""
        self._rounds = Rounds(pace)
        self._moved = asyncio.Event()
        """Set, and replaced, when the directory was changed."""
        self._trail: Trail | None = None

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
        await self._rounds.next(at_most)

    async def reach(self, revision: int) -> None:
        """Waits, for at most a second, until the directory stands at `revision`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REACH_WAIT):
                while self._directory is None or self._directory.revision < revision:
                    await self._rounds.next(REACH_WAIT)

    async def next_change(self, above: int, at_most: float) -> None:
        """Waits, for `at_most` seconds, until the directory has passed revision `above`, the one it was last seen at,
        or was loaded anew. Cheap: asks for no poll, so thousands of streams may wait.
        """
        seen = self._directory
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                while self._directory is seen and (seen is None or seen.revision <= above):
                    await self._moved.wait()

    def wake(self) -> None:
        """Polls as soon as it may; from any thread. A hint that something was written, never needed."""
        self._rounds.wish_from_thread()

    async def run(self) -> None:
        """Polls until cancelled; the first successful round loads the directory."""
        while True:
            async with self._rounds.one():
                await self._one_round()
                telemetry.record_authz(self.state, self._directory.revision if self._directory else 0, self.age)
            await self._rounds.pause(failing=self._failing)

    async def load(self) -> None:
        """Loads the whole state anew. Raises what the source raises."""
        sent_at = self._clock.boot()
        with large_heap_expected():
            snapshot = await self._source.load()
        before = self._directory
        self._directory, self._mark = snapshot.directory, snapshot.mark
        self._confirmed_at = sent_at
        self._failing = self._diverged = False
        self._tell_moved()
        self._rounds.wish()  # loading may have taken most of the lease
        log.info("directory loaded", revision=snapshot.directory.revision)
        if before is not None:
            give_up(before)
            for known in before.upstreams.values():
                if _leads_elsewhere(known, snapshot.directory.upstreams.get(known.id)):
                    await self._forget(known.id)

    async def audit(self) -> AuditOutcome:
        """Compares the directory with the database, entity by entity; a difference is an alarm and loads it anew.

        Takes as long as loading does. Raises AuthorizationStale while there is no directory, and what the source does.
        """
        directory = self.directory
        trail = self._trail = Trail(directory)
        try:
            found = await self._source.audit(directory.tokens_from)
            await self.reach(found.revision)
        finally:
            self._trail = None
        outcome = trail.compared(found) if directory is self._directory else AuditOutcome.UNMATCHED
        telemetry.authz_audits.labels(outcome).inc()
        if outcome is AuditOutcome.DIFFERENT:
            telemetry.authz_alarms.labels(Alarm.AUDIT_DIFFERENCE).inc()
            log.error("the directory is not what the database holds: loading anew", revision=found.revision)
            self._diverged = True
            self._rounds.wish()
        else:
            log.info("directory audited", outcome=outcome, revision=found.revision)
        return outcome

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
                await self._follow_or_load(self._directory)
            if self._failing:
                log.info("the database answers again")
            self._failing = False
        except (Unavailable, UnreadableLog) as error:
            if isinstance(error, ReadReplica):
                telemetry.authz_alarms.labels(Alarm.REPLICA).inc()
            if not self._failing:
                log.warning("authorization data cannot be read", error=str(error), cause=repr(error.__cause__))
            self._failing = True
        except Exception:  # of a background loop: whatever it is, the lease bounds what it can do
            telemetry.unexpected_errors.labels("feed").inc()
            log.error("authorization data cannot be read", exc_info=not self._failing)
            self._failing = True

    async def _follow_or_load(self, directory: Directory) -> None:
        try:
            await self._follow(directory)
        except (RevisionGap, UnreadableLog) as reason:
            if isinstance(reason, OtherHistory | UnreadableLog):
                telemetry.authz_alarms.labels(Alarm.DIVERGED).inc()
            log.warning("the revision log cannot be followed: loading anew", reason=str(reason))
            self._diverged = True
            await self.load()

    async def _follow(self, directory: Directory) -> None:
        while True:
            sent_at = self._clock.boot()
            poll = await self._source.poll(directory.revision)
            self._check_continues(poll, directory)
            if poll.changes:
                await self._apply(poll.changes, directory)
                self._mark = poll.last
                self._tell_moved()
                if poll.lag is not None:
                    telemetry.revocation_lag.observe(poll.lag + self._clock.boot() - sent_at)
            if directory.revision == poll.revision:
                self._confirmed_at = sent_at
                return

    async def _apply(self, changes: tuple[Change, ...], directory: Directory) -> None:
        since_others = 0
        for change in changes:
            known = directory.upstreams.get(UpstreamId(change.key)) if change.kind is Kind.UPSTREAM else None
            if known is not None and _leads_elsewhere(known, change.entity):
                await self._forget(known.id)
            directory.apply(change)
            if self._trail is not None:
                self._trail.note(directory)
            since_others += 1
            if since_others >= SLICE and not change.more:
                await asyncio.sleep(0)
                since_others = 0

    def _check_continues(self, poll: Poll, directory: Directory) -> None:
        if poll.epoch != directory.epoch:
            raise RevisionGap("the database has another epoch")
        if poll.revision < directory.revision:
            raise OtherHistory(f"the database is at revision {poll.revision}, before our {directory.revision}")
        if directory.revision < poll.floor:
            raise RevisionGap(f"the log begins after revision {poll.floor}")
        if poll.here != self._mark:
            raise OtherHistory(f"the log has another change at revision {directory.revision} than was applied")
        if poll.revision > directory.revision and not poll.changes:
            raise OtherHistory("the log has no rows for the revisions above ours")

    def _tell_moved(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


def _leads_elsewhere(known: Upstream, after: Entity | None) -> bool:
    return not isinstance(after, Upstream) or (known.url, known.auth) != (after.url, after.auth)
