"""The head and the log (design, section 5): a change gets the next revision in the transaction that makes it."""

import re
import secrets
from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import Connection, Engine, delete, event, insert, select, update

from sluicegate.core.catalog import Kind
from sluicegate.store.database_clock import database_now
from sluicegate.store.schema import TABLES, authz_head, authz_log

RECORDED = {"sluicegate_recorded": True}
"""The execution option by which a statement states that its change goes into the log."""
BULK = 50_000
"""Changes of one transaction; with more, loading anew is quicker for everybody than following them."""
NO_ENTITY = ("epoch", "unrecorded")
"""Kinds of log rows that state no change: one begins an epoch, one tells of a change by hand on SQLite.

They must stay unknown to `core.catalog.Kind`: whoever meets one in the log loads anew.
"""
_RECORDING = -1
"""The revision of a log row that stands, on SQLite, in our own transactions alone and is never committed."""


class UnrecordedWrite(RuntimeError):
    """A statement would change the authorization state behind the revision log's back. A bug."""


class Recorded(Struct, frozen=True):
    """The new state of one entity as JSON; None when it was deleted."""

    kind: Kind
    key: str
    payload: str | None


def begin(connection: Connection) -> None:
    """Goes before the first change: tells SQLite's triggers that `append` will record this transaction's changes."""
    if connection.dialect.name == "sqlite":
        marker = insert(authz_log).prefix_with("OR IGNORE").values(rev=_RECORDING, kind="recording", key="")
        connection.execute(marker, execution_options=RECORDED)


def append(connection: Connection, changes: Sequence[Recorded]) -> int:
    """Gives the changes the next revisions and returns the last one; the current one when there are none.

    More than BULK changes get one revision together, the first of a new epoch, and every instance loads anew.
    From here to its end the transaction holds the lock of the head's row, so revisions are in the order of commits.
    """
    if connection.dialect.name == "sqlite":
        connection.execute(delete(authz_log).where(authz_log.c.rev == _RECORDING), execution_options=RECORDED)
    if not changes:
        current: int = connection.execute(select(authz_head.c.rev)).scalar_one()
        return current
    revision = _begin_epoch(connection) if len(changes) > BULK else _log(connection, changes)
    if connection.dialect.name == "postgresql":
        # The triggers would look at COMMIT, which no time limit of the server ends; now they are a statement's.
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    return revision


def _log(connection: Connection, changes: Sequence[Recorded]) -> int:
    revision = _advance(connection, rev=authz_head.c.rev + len(changes))
    now = connection.execute(select(database_now())).scalar_one()  # one instant: by it a feed knows what came together
    rows = [
        {"rev": rev, "kind": change.kind.value, "key": change.key, "payload": change.payload, "at": now}
        for rev, change in enumerate(changes, revision - len(changes) + 1)
    ]
    connection.execute(insert(authz_log), rows, execution_options=RECORDED)
    return revision


def _begin_epoch(connection: Connection) -> int:
    following = authz_head.c.rev + 1
    return _advance(connection, rev=following, floor=following, epoch=secrets.token_hex(16))


def _advance(connection: Connection, **head: object) -> int:
    moved = update(authz_head).values(**head).returning(authz_head.c.rev)
    revision: int = connection.execute(moved, execution_options=RECORDED).scalar_one()
    return revision


def guard(engine: Engine) -> None:
    """Makes the engine raise UnrecordedWrite for a change of the authorization tables that is not RECORDED."""
    event.listen(engine, "before_cursor_execute", _refuse_unrecorded)


_GUARDED = "|".join(table.name for table in (*TABLES.values(), authz_head, authz_log))
_WRITE = re.compile(
    r"\b(?:insert\s+(?:or\s+\w+\s+)?into|replace\s+into|merge\s+into|update(?:\s+or\s+\w+)?|delete\s+from|truncate"
    rf"(?:\s+table)?|copy)\s+(?:only\s+)?(?:[\w\"]+\.)?\"?(?:{_GUARDED})\b",
    re.IGNORECASE,
)


def _refuse_unrecorded(*event_: object) -> None:
    _, _, statement, _, context, _ = event_
    if _WRITE.search(str(statement)) and not context.execution_options.get("sluicegate_recorded"):  # type: ignore[attr-defined]
        raise UnrecordedWrite(f"not through Database.write: {str(statement)[:200]}")
