"""The revision log as the directory follows it, over a connection and a thread that nothing else uses."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, Row, bindparam, extract, func, select, true

from sluicegate.core.catalog import Entity, Token
from sluicegate.core.events import Change, decode_change
from sluicegate.ledger import Owner
from sluicegate.ports import Poll, Snapshot, UnreadableLog
from sluicegate.store.bulkhead import Bulkhead
from sluicegate.store.lending import Access, faults_are_busy, transaction
from sluicegate.store.rows import BATCH, columns_of, kind_word, read_rows
from sluicegate.store.schema import TABLES, authz_head, authz_log, tokens

T = TypeVar("T")

POLL_DEADLINE = 1.0
"""Seconds for one poll: shorter than the bound on revocations, so that an outage is known before it passes."""
LOAD_DEADLINE = 60.0
"""Seconds for loading everything."""
SLICE = 2000
"""Changes in one poll at most."""
EXPIRED_FOR = 86400
"""Seconds after which an expired token is no longer loaded."""

_tail = (
    select(authz_log.c.rev, authz_log.c.kind, authz_log.c.key, authz_log.c.payload)
    .where(authz_log.c.rev > bindparam("above"))
    .order_by(authz_log.c.rev)
    .limit(SLICE)
    .subquery("tail")
)
_POLL = (
    select(authz_head.c.epoch, authz_head.c.rev, authz_head.c.floor, *_tail.c)
    .select_from(authz_head.outerjoin(_tail, true()))
    .order_by(_tail.c.rev)
)
_HEAD = select(authz_head.c.epoch, authz_head.c.rev)
_DATABASE_NOW = extract("epoch", func.current_timestamp())


class SqlFeedSource:
    """Implements `ports.FeedSource`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._bulkhead = Bulkhead(Owner.FEED, 1)

    async def load(self) -> Snapshot:
        """The whole state, in one snapshot of the database; without tokens that expired more than a day ago."""
        return await self._read(_load, LOAD_DEADLINE)

    async def poll(self, above: int) -> Poll:
        """The head, and at most some thousands of changes above revision `above`, in one statement."""
        return await self._read(lambda connection: _poll(connection, above), POLL_DEADLINE)

    def close(self) -> None:
        """Gives the connection back to the database."""
        self._bulkhead.close()
        self._engine.dispose()

    async def _read(self, work: Callable[[Connection], T], deadline: float) -> T:
        def read() -> T:
            with faults_are_busy(), transaction(self._engine, Access.READ, deadline) as connection:
                return work(connection)

        return await self._bulkhead.run(read, deadline)


def _load(connection: Connection) -> Snapshot:
    head = connection.execute(_HEAD).one_or_none()  # first: on SQLite the snapshot is taken here
    if head is None:
        raise UnreadableLog("the revision log has no head")
    entities: list[Entity] = []
    for entity in TABLES:
        entities.extend(_load_kind(connection, entity))
    return Snapshot(head.epoch, head.rev, entities)


def _load_kind(connection: Connection, entity: type[Entity]) -> Iterator[Entity]:
    rows = columns_of(entity).execution_options(yield_per=BATCH)
    if entity is Token:
        rows = rows.where(tokens.c.expires_at >= _DATABASE_NOW - EXPIRED_FOR)
    try:
        yield from read_rows(connection, entity, rows)
    except msgspec.MsgspecError as error:
        raise UnreadableLog(f"a {kind_word(entity)} cannot be read: {error}") from error


def _poll(connection: Connection, above: int) -> Poll:
    rows = connection.execute(_POLL, {"above": above}).all()
    if not rows:
        raise UnreadableLog("the revision log has no head")
    epoch, revision, floor = rows[0][:3]
    followed = floor <= above < revision
    return Poll(epoch, revision, floor, _changes(rows, above) if followed else (), None)


def _changes(rows: Sequence[Row[*tuple[Any, ...]]], above: int) -> tuple[Change, ...]:
    changes: list[Change] = []
    for expected, (_, _, _, rev, kind, key, payload) in enumerate(rows, above + 1):
        if rev != expected:
            raise UnreadableLog(f"revision {expected} is missing from the log")
        try:
            changes.append(decode_change(rev, kind, key, payload))
        except ValueError as error:
            raise UnreadableLog(f"revision {rev} of the log cannot be read: {error}") from error
    return tuple(changes)
