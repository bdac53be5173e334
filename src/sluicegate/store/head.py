"""Where the revision log stands, as whoever reads a whole state has to look at it first, in the same snapshot."""

from msgspec import Struct
from sqlalchemy import Boolean, Connection, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from sluicegate.core.errors import ReadReplica
from sluicegate.ports import Mark, UnreadableLog
from sluicegate.store.database_clock import database_now, unix_seconds
from sluicegate.store.schema import authz_head, authz_log


class in_recovery(FunctionElement[bool]):  # noqa: N801 - read as SQL's functions are
    """True on a server that only replays another one's commits; never on SQLite."""

    type = Boolean()
    inherit_cache = True


@compiles(in_recovery, "postgresql")
def _in_recovery_postgresql(*_: object, **__: object) -> str:
    return "pg_is_in_recovery()"


@compiles(in_recovery, "sqlite")
def _in_recovery_sqlite(*_: object, **__: object) -> str:
    return "0"


class Head(Struct, frozen=True):
    """The head of the log, the mark of the row at its revision, and Unix seconds by the database's clock."""

    epoch: str
    revision: int
    mark: Mark | None
    now: float


_HEAD = (
    select(
        authz_head.c.epoch,
        authz_head.c.rev,
        in_recovery(),
        unix_seconds(database_now()),
        authz_log.c.rev,
        authz_log.c.kind,
        authz_log.c.key,
        authz_log.c.payload,
        unix_seconds(authz_log.c.at),
    )
    .select_from(authz_head.outerjoin(authz_log, authz_log.c.rev == authz_head.c.rev))
    .where(authz_head.c.id == 1)
)


def read_head(connection: Connection) -> Head:
    """The head. To be read first: on SQLite the snapshot is taken here. Raises UnreadableLog and ReadReplica."""
    row = connection.execute(_HEAD).one_or_none()
    if row is None:
        raise UnreadableLog("the revision log has no head")
    epoch, revision, replica, now, logged, *content = row
    refuse_replica(replica)
    return Head(epoch, revision, None if logged is None else mark_of(*content), now)


def refuse_replica(replica: bool) -> None:
    """Raises ReadReplica when the database said that it is one: it may lag behind by any time."""
    if replica:
        raise ReadReplica(
            "the database is a read replica, and may lag behind: set SLUICEGATE_DATABASE_URL to the primary, or promote"
            " this one"
        )


def mark_of(kind: str, key: str, payload: str | None, at: float | None) -> Mark:
    """The mark of a log row. `at` tells the same change in another history apart."""
    return Mark(hash((kind, key, payload, at)))
