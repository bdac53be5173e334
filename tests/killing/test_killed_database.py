"""PostgreSQL itself is killed while changes are made: a process of it by SIGKILL, and all of them start anew.

What was acknowledged is there, and head, log and tables agree: fault 34 of the list from the other side.
"""

import asyncio
import os
import random
import signal
from contextlib import suppress

import pytest

from sluicegate.core.errors import DatabaseBusy
from sluicegate.ports import Transaction
from sluicegate.store import SqlDatabase, migrate, open_database
from tests.e2e.running import descendants
from tests.killing.agreement import disagreements, loaded_as_stored
from tests.killing.model import counter_at, world_after, write_once, written
from tests.killing.test_killed_writers import number_in
from tests.store.writing import inserting
from tests.support.servers import fresh_database, postgresql

SEED = 34
KILLS = 6
WRITES = 12
"""Changes between two kills, at most."""
PATIENCE = 60.0


class Writer:
    """Makes one change after the other, whatever becomes of the one before."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database
        self.begun = 0
        self.acknowledged = 0
        self.failed = 0

    async def write_on(self) -> None:
        while True:
            try:
                self.acknowledged = (await self._database.write(self._write)).value
            except DatabaseBusy:
                self.failed += 1
                await asyncio.sleep(0.05)

    async def has_made(self, number: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.acknowledged < number:  # noqa: ASYNC110 - the journal of another task
                await asyncio.sleep(0.001)

    def _write(self, transaction: Transaction) -> int:
        number = written(transaction) + 1
        self.begun = max(self.begun, number)
        write_once(transaction, number)
        return number


async def answers(database: SqlDatabase) -> None:
    """Waits until the database has recovered."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(DatabaseBusy):
                await database.write(written)
                return
            await asyncio.sleep(0.05)


@pytest.mark.timeout(240)
async def test_whichever_process_of_the_database_is_killed_nothing_acknowledged_is_lost() -> None:
    chance = random.Random(SEED)
    with postgresql(synchronous_commit="on") as cluster, fresh_database(cluster) as name:
        migrate(cluster.url(name))
        database = open_database(cluster.url(name), pool_size=2, max_overflow=0, pool_timeout=PATIENCE)
        await database.write(inserting(counter_at(0)))
        before = await loaded_as_stored(database)
        writer = Writer(database)
        for _ in range(KILLS):
            writing = asyncio.create_task(writer.write_on())
            await writer.has_made(writer.acknowledged + chance.randint(1, WRITES))
            failed = writer.failed
            with suppress(ProcessLookupError):
                os.kill(chance.choice(descendants(cluster.pid)[1:]), signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                while writer.failed == failed:  # noqa: ASYNC110 - the journal of another task
                    await asyncio.sleep(0.001)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await answers(database)
            found = await loaded_as_stored(database)
            assert disagreements(found, before) == []
            assert writer.acknowledged <= number_in(found) <= writer.begun
            assert found.rows == world_after(number_in(found))
            writer.acknowledged, before = number_in(found), found
        database.close()
