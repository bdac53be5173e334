"""The revision log as the directory follows it, over a connection and a thread that nothing else uses.

The audit has a connection of its own, and only while it runs: it takes as long as loading, and must keep neither the
polls waiting nor the reports that upkeep makes every second.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace
from sqlalchemy import Connection, Engine, bindparam, select, true

from sluicegate.core.events import Change, decode_change
from sluicegate.ledger import Owner
from sluicegate.ports import Audit, Mark, Poll, Snapshot, UnreadableLog
from sluicegate.store.bulkhead import Bulkhead
from sluicegate.store.database_clock import database_now, unix_seconds
from sluicegate.store.head import in_recovery, mark_of, refuse_replica
from sluicegate.store.lending import Access, faults_are_busy, transaction
from sluicegate.store.loading import MAX_ENTITIES, audit, load
from sluicegate.store.schema import authz_head, authz_log

T = TypeVar("T")

POLL_DEADLINE = 1.0
"""Seconds for one poll: shorter than the bound on revocations, so that an outage is known before it passes."""
LOAD_DEADLINE = 60.0
"""Seconds for reading everything."""
SLICE = 2000
"""Changes in one poll at most."""

_tail = (
    select(
        authz_log.c.rev,
        authz_log.c.kind,
        authz_log.c.key,
        authz_log.c.payload,
        unix_seconds(authz_log.c.at).label("at"),
    )
    .where(authz_log.c.rev >= bindparam("above"))  # the row at `above` shows whether this is the same history
    .where(authz_log.c.rev <= select(authz_head.c.rev).where(authz_head.c.id == 1).scalar_subquery())
    .order_by(authz_log.c.rev)
    .limit(SLICE + 1)
    .subquery("tail")
)
_now = unix_seconds(database_now())
_POLL = (
    select(authz_head.c.epoch, authz_head.c.rev, authz_head.c.floor, in_recovery(), _now, *_tail.c)
    .select_from(authz_head.outerjoin(_tail, true()))
    .where(authz_head.c.id == 1)  # or PostgreSQL expects a thousand heads, and compiles a plan for millions of rows
    .order_by(_tail.c.rev)
)

LogRow = tuple[int, str, str, str | None, float | None]
"""Revision, kind, key, payload, and Unix seconds at which it was written."""


class SqlFeedSource:
    """Implements `ports.FeedSource`."""

    def __init__(self, engine: Engine, audits: Engine) -> None:
        self._engine = engine
        self.max_entities = MAX_ENTITIES
        """More than these are refused, see `loading.load`."""
        self._bulkhead = Bulkhead(Owner.FEED, 1)
        self._audits = audits
        self._auditing = Bulkhead(Owner.UPKEEP, 1)

    async def load(self) -> Snapshot:
        """The whole state, in one snapshot of the database; without tokens that expired more than a day ago."""
        return await self._read(lambda connection: load(connection, self.max_entities), LOAD_DEADLINE)

    async def poll(self, above: int) -> Poll:
        """The head, and at most some thousands of changes above revision `above`, in one statement."""
        return await self._read(lambda connection: _poll(connection, above), POLL_DEADLINE)

    async def audit(self, tokens_from: int) -> Audit:
        """Reads everything again, over a connection that is closed afterwards."""

        def read_again() -> Audit:
            try:
                return _reading(self._audits, lambda connection: audit(connection, tokens_from), LOAD_DEADLINE)
            finally:
                self._audits.dispose()

        return await self._auditing.run(read_again, LOAD_DEADLINE)

    def close(self) -> None:
        """Gives the connections back to the database."""
        for bulkhead, engine in ((self._bulkhead, self._engine), (self._auditing, self._audits)):
            bulkhead.close()
            engine.dispose()

    async def _read(self, work: Callable[[Connection], T], deadline: float) -> T:
        return await self._bulkhead.run(lambda: _reading(self._engine, work, deadline), deadline)


def _reading(engine: Engine, work: Callable[[Connection], T], deadline: float) -> T:
    with faults_are_busy(), transaction(engine, Access.READ, deadline) as connection:
        return work(connection)


def _poll(connection: Connection, above: int) -> Poll:
    rows = connection.execute(_POLL, {"above": above}).all()
    if not rows:
        raise UnreadableLog("the revision log has no head")
    epoch, revision, floor, replica, now = rows[0][:5]
    refuse_replica(replica)
    if not floor <= above <= revision:
        return Poll(epoch, revision, floor, (), None, None, None)
    logged: list[LogRow] = [tuple(row[5:]) for row in rows if row[5] is not None]
    here = _mark(logged.pop(0)) if logged and logged[0][0] == above else None
    if not logged and revision > above:
        raise UnreadableLog(f"revision {above + 1} is missing from the log")
    logged = _whole(logged, revision)
    last = _mark(logged[-1]) if logged else None
    return Poll(epoch, revision, floor, _changes(logged, above), _lag(logged, now), here, last)


def _mark(row: LogRow) -> Mark:
    _, kind, key, payload, at = row
    return mark_of(kind, key, payload, at)


def _whole(rows: list[LogRow], revision: int) -> list[LogRow]:
    """Without the transaction that the limit has cut, or all of it when it alone is longer than the limit."""
    if not rows or rows[-1][0] == revision:
        return rows
    *_, cut = rows[-1]
    return [row for row in rows if row[-1] != cut] or rows


def _lag(rows: Sequence[LogRow], now: float) -> float | None:
    """Seconds since the oldest row was written; 0 at least, for a clock may be set back."""
    written = [at for *_, at in rows if at is not None]
    return max(0.0, now - min(written)) if written else None


def _changes(rows: Sequence[LogRow], above: int) -> tuple[Change, ...]:
    changes: list[Change] = []
    following = [at for *_, at in rows[1:]] + [None]
    for expected, (rev, kind, key, payload, at) in enumerate(rows, above + 1):
        if rev != expected:
            raise UnreadableLog(f"revision {expected} is missing from the log")
        try:
            more = at is not None and following[len(changes)] == at
            changes.append(replace(decode_change(rev, kind, key, payload), more=more))
        except ValueError as error:
            raise UnreadableLog(f"revision {rev} of the log cannot be read: {error}") from error
    return tuple(changes)
