"""The gateways' database, past all proxies: what is done to it behind the gateways' backs."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from sluicegate.ports import Transaction
from sluicegate.store import SqlDatabase, open_database
from sluicegate.store.log_keeping import SqlLogKeeping
from sluicegate.store.schema import authz_head
from tests.faults.site import Site

T = TypeVar("T")
DEADLINE = 60.0
"""Seconds for anything, on a machine that is busy with other things."""


def directly(url: str, use: Callable[[SqlDatabase], Coroutine[Any, Any, T]]) -> T:
    """Opens a database for this use alone."""
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=DEADLINE, deadline=DEADLINE)
    try:
        return asyncio.run(use(database))
    finally:
        database.close()


def url_of(site: Site) -> str:
    return site.cluster.server.url(site.database)


def revision_of(url: str, work: Callable[[Transaction], object]) -> int:
    """Commits a change; the revision at which it stands."""
    return directly(url, lambda database: database.write(work)).revision


def trimmed_to(url: str) -> int:
    """Trims the log of all but its last row; the floor."""

    async def trim(database: SqlDatabase) -> int:
        while await SqlLogKeeping(database).trim(0.0):
            pass
        return await database.read(_floor)

    return directly(url, trim)


def _floor(connection: Connection) -> int:
    floor: int = connection.execute(select(authz_head.c.floor)).scalar_one()
    return floor
