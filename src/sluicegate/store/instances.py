"""The tiny table in which instances state how far they are. Its times are the database's, so no clocks are compared."""

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from sluicegate.core.identity import InstanceId
from sluicegate.ports import Report, Seen
from sluicegate.store.database import SqlDatabase
from sluicegate.store.database_clock import database_now, seconds_since
from sluicegate.store.schema import instances

DEADLINE = 2.0
"""Seconds for one statement on the connection for upkeep."""
GRACE = 10.0
"""Seconds beyond its trust for which a silent instance is still listed: it may poll well and only fail to report."""
KEPT = 86400.0
"""Seconds after which the row of an instance that never said that it left is removed."""

_ago = seconds_since(instances.c.reported_at)
_SEEN = (
    select(instances.c.id, instances.c.name, instances.c.rev, instances.c.trust, _ago)
    .where(_ago <= instances.c.trust + GRACE)
    .order_by(instances.c.name, instances.c.id)
)
_LEAVE = delete(instances).where(instances.c.id == bindparam("instance"))
_FORGET = delete(instances).where(_ago > KEPT, _ago > instances.c.trust + GRACE)
_UPSERT: dict[str, type[postgresql.Insert] | type[sqlite.Insert]] = {
    "postgresql": postgresql.Insert,
    "sqlite": sqlite.Insert,
}


class SqlInstances:
    """Implements `ports.Instances`: reports by the connection for upkeep, reads by one for administration."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def report(self, report: Report) -> None:
        """Adds or replaces the instance's row."""
        await self._database.upkeep(lambda connection: _report(connection, report), DEADLINE)

    async def seen(self) -> list[Seen]:
        """All that may still decide by what they knew when they last reported, by name."""
        return await self._database.read(_seen)

    async def leave(self, instance: InstanceId) -> None:
        """Removes the instance's row."""
        await self._database.upkeep(lambda connection: _leave(connection, instance), DEADLINE)

    async def forget_silent(self) -> int:
        """Removes the rows of those that have not reported for a day, and returns how many."""
        return await self._database.upkeep(_forget, DEADLINE)


def _report(connection: Connection, report: Report) -> None:
    state = {"name": report.name, "rev": report.revision, "trust": report.trust, "reported_at": database_now()}
    row = _UPSERT[connection.dialect.name](instances).values(id=report.instance, **state)
    connection.execute(row.on_conflict_do_update(index_elements=[instances.c.id], set_=state))


def _seen(connection: Connection) -> list[Seen]:
    return [
        Seen(Report(InstanceId(key), name, revision, trust), max(0.0, ago))
        for key, name, revision, trust, ago in connection.execute(_SEEN)
    ]


def _leave(connection: Connection, instance: InstanceId) -> None:
    connection.execute(_LEAVE, {"instance": instance})


def _forget(connection: Connection) -> int:
    return connection.execute(_FORGET).rowcount
