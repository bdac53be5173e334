"""A process that writes until it is killed: one change of many rows after the other, now and then a trim or an epoch.

    python -m tests.killing.writer URL JOURNAL

For each line on stdin it forks such a writer, says its pid, and says by which signal it ended: what takes long at a
start is done once. The journal has a line when a change has begun and another when it was acknowledged.
"""

import asyncio
import os
import sys

from sqlalchemy import Connection

from sluicegate.core.catalog import Kind
from sluicegate.ports import Transaction
from sluicegate.store import SqlDatabase, open_database
from sluicegate.store.log_keeping import SqlLogKeeping
from sluicegate.store.registry import SqlTransaction
from sluicegate.store.revision_log import BULK, Recorded, append
from tests.killing.model import COUNTER, write_once, written

DEADLINE = 30.0
TRIM_EVERY = 5
BULK_EVERY = 8
FLOOD = [Recorded(Kind.TEAM, COUNTER, None)] * (BULK + 1)
"""As many changes as begin an epoch; their number is all that is looked at."""


class Writer:
    """Goes on where the one before it was killed."""

    def __init__(self, database: SqlDatabase, journal: int) -> None:
        self._database = database
        self._journal = journal

    async def write_on(self) -> None:
        keeping = SqlLogKeeping(self._database)
        while True:
            done = await self._database.write(self._write)
            self._note("acknowledged", done.value)
            if done.value % TRIM_EVERY == 0:
                await keeping.trim(0.0)
                self._note("trimmed", done.value)
            if done.value % BULK_EVERY == 0:
                self._note("acknowledged", await self._database.upkeep(self._write_bulk, DEADLINE))

    def _write(self, transaction: Transaction) -> int:
        number = written(transaction) + 1
        self._note("begun", number)
        write_once(transaction, number)
        return number

    def _write_bulk(self, connection: Connection) -> int:
        """As `Database.write` does, but recorded as a flood of changes is: by an epoch."""
        number = self._write(SqlTransaction(connection))
        append(connection, FLOOD)
        self._note("flooded", number)
        return number

    def _note(self, what: str, number: int) -> None:
        os.write(self._journal, f"{what} {number}\n".encode())


async def write_on(url: str, journal: str) -> None:
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=DEADLINE, deadline=DEADLINE)
    await Writer(database, os.open(journal, os.O_WRONLY | os.O_APPEND)).write_on()


if __name__ == "__main__":
    url, journal = sys.argv[1:]
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            asyncio.run(write_on(url, journal))
        print(pid, flush=True)
        print(os.WTERMSIG(os.waitpid(pid, 0)[1]), flush=True)
