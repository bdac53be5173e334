"""Trimming as upkeep does it, slice by slice over the connection that is reserved for it."""

from sluicegate.store.database import SqlDatabase
from sluicegate.store.trimming import trim

DEADLINE = 2.0
"""Seconds for one slice: it holds the head's lock, for which writers wait."""


class SqlLogKeeping:
    """Implements `ports.LogKeeping`."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def trim(self, keep: float) -> int:
        """Raises the floor so that rows older than `keep` seconds can go, deletes some, and returns how many."""
        return await self._database.upkeep(lambda connection: trim(connection, keep), DEADLINE)
