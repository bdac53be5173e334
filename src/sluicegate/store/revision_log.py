"""The head and the log (design, section 5): a change gets the next revision in the transaction that makes it."""

import re
from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import Connection, Engine, event, insert, select, update

from sluicegate.core.catalog import Kind
from sluicegate.store.schema import TABLES, authz_head, authz_log

RECORDED = {"sluicegate_recorded": True}
"""The execution option by which a statement states that its change goes into the log."""


class UnrecordedWrite(RuntimeError):
    """A statement would change the authorization state behind the revision log's back. A bug."""


class Recorded(Struct, frozen=True):
    """The new state of one entity as JSON; None when it was deleted."""

    kind: Kind
    key: str
    payload: str | None


def append(connection: Connection, changes: Sequence[Recorded]) -> int:
    """Gives the changes the next revisions and returns the last one; the current one when there are none.

    From here to its end the transaction holds the lock of the head's row, so revisions are in the order of commits.
    """
    if not changes:
        current: int = connection.execute(select(authz_head.c.rev)).scalar_one()
        return current
    advance = update(authz_head).values(rev=authz_head.c.rev + len(changes)).returning(authz_head.c.rev)
    revision: int = connection.execute(advance, execution_options=RECORDED).scalar_one()
    first = revision - len(changes) + 1
    rows = [
        {"rev": rev, "kind": change.kind.value, "key": change.key, "payload": change.payload}
        for rev, change in enumerate(changes, first)
    ]
    connection.execute(insert(authz_log), rows, execution_options=RECORDED)
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
