"""The database is lent, never given (design, section 4): plain functions run on a connection, in a pool of threads."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Never, TypeVar, overload

from msgspec import Struct
from sqlalchemy import Connection, Engine

from sluicegate.ledger import LEAK_AFTER, Owner
from sluicegate.ports import Transaction, Written
from sluicegate.store.bulkhead import Bulkhead
from sluicegate.store.feed import SqlFeedSource
from sluicegate.store.lending import ONE, SERVER_SHARE, Access, Durability, PoolSize, faults_are_busy, transaction
from sluicegate.store.loading import MAX_ENTITIES
from sluicegate.store.location import engine_for, located
from sluicegate.store.registry import SqlTransaction
from sluicegate.store.revision_log import guard

T = TypeVar("T")


DEADLINE = 5.0
"""Seconds for one transaction, unless stated otherwise."""
UPKEEP_WAIT = 5.0
"""Seconds that one work of upkeep waits for another to end."""
UPKEEP_LOCK = 0.5
"""Seconds that upkeep waits for a writer of an SQLite file: it comes again soon."""


class Lane(Struct, frozen=True):
    """The connections for one owner, and the slots for them."""

    engine: Engine
    bulkhead: Bulkhead

    def close(self) -> None:
        """Closes what is not in use."""
        self.bulkhead.close()
        self.engine.dispose()


class SqlDatabase:
    """Implements `ports.Database`. `deadline` is how long a caller waits for its transaction, in seconds."""

    def __init__(self, admin: Lane, upkeep: Lane, feed: SqlFeedSource, deadline: float) -> None:
        self._admin = admin
        self._upkeep = upkeep
        self._feed = feed
        self._deadline = deadline

    @overload
    async def read(self, work: Callable[[Connection], Coroutine[Any, Any, Any]]) -> Never: ...
    @overload
    async def read(self, work: Callable[[Connection], T]) -> T: ...
    async def read(self, work: Callable[[Connection], Any]) -> Any:
        """What `work` returns. It sees one snapshot, and what it changes is rolled back. For `store` itself."""
        _refuse_async(work)

        def read() -> Any:
            with faults_are_busy(), transaction(self._admin.engine, Access.READ, self._deadline) as connection:
                return _plain(work(connection))

        return await self._admin.bulkhead.run(read, self._deadline, LEAK_AFTER)

    @overload
    async def write(self, work: Callable[[Transaction], Coroutine[Any, Any, Any]]) -> Never: ...
    @overload
    async def write(self, work: Callable[[Transaction], T]) -> Written[T]: ...
    async def write(self, work: Callable[[Transaction], Any]) -> Any:
        """What `work` returns, and the revision of its changes; they are committed and in the log, or nothing is."""
        _refuse_async(work)

        def write() -> Written[Any]:
            with faults_are_busy(), transaction(self._admin.engine, Access.WRITE, self._deadline) as connection:
                changing = SqlTransaction(connection)
                value = _plain(work(changing))
                revision = changing.finish()
            return Written(value, revision)

        return await self._admin.bulkhead.run(write, self._deadline, LEAK_AFTER)

    @overload
    async def upkeep(
        self, work: Callable[[Connection], Coroutine[Any, Any, Any]], deadline: float, access: Access = Access.WRITE
    ) -> Never: ...
    @overload
    async def upkeep(self, work: Callable[[Connection], T], deadline: float, access: Access = Access.WRITE) -> T: ...
    async def upkeep(self, work: Callable[[Connection], Any], deadline: float, access: Access = Access.WRITE) -> Any:
        """What `work` returns, on the connection that is reserved for what the process does for itself.

        One work runs at a time, for at most `deadline` seconds. What it commits may be lost in a power failure. For
        `store` itself.
        """
        _refuse_async(work)

        def keep_up() -> Any:
            with faults_are_busy(), transaction(self._upkeep.engine, access, deadline) as connection:
                return _plain(work(connection))

        return await self._upkeep.bulkhead.run(keep_up, deadline)

    def feed_source(self, max_entities: int = MAX_ENTITIES) -> SqlFeedSource:
        """The revision log, over the connection that is reserved for it. It loads at most `max_entities`."""
        self._feed.max_entities = max_entities
        return self._feed

    def close(self) -> None:
        """Closes what is not in use; work that still runs ends by itself, or with the process."""
        for each in (self._admin, self._upkeep, self._feed):
            each.close()


def open_database(
    url: str, *, pool_size: int, max_overflow: int, pool_timeout: float, deadline: float = DEADLINE
) -> SqlDatabase:
    """Opens a database without looking at it: it may be away now and come later (`check_usable` looks).

    At most `pool_size + max_overflow` works run at a time, and `pool_size` connections are kept; beside them there are
    one for the feed, one for upkeep, and one more while an audit runs. Work waits `pool_timeout` seconds for a free
    connection, and its caller `deadline` seconds for the work. Raises ConfigurationError when the URL names no database
    that we know.
    """
    location = located(url)
    size = PoolSize(pool_size, max_overflow)
    patience = SERVER_SHARE * deadline
    admin = engine_for(location, size, patience)
    following = engine_for(location, ONE, patience)
    auditing = engine_for(location, ONE, patience)
    keeping_up = engine_for(location, ONE, min(UPKEEP_LOCK, patience), Durability.RELAXED)
    for each in (admin, following, auditing, keeping_up):
        guard(each)
    return SqlDatabase(
        Lane(admin, Bulkhead(Owner.ADMIN, size.slots, pool_timeout)),
        Lane(keeping_up, Bulkhead(Owner.UPKEEP, ONE.slots, UPKEEP_WAIT)),
        SqlFeedSource(following, auditing),
        deadline,
    )


def _refuse_async(work: Callable[..., object]) -> None:
    if inspect.iscoroutinefunction(work):
        raise TypeError(f"{work!r} is an `async def`: work on a lent connection cannot wait, so make it a plain `def`")


def _plain(value: T) -> T:
    """Catches what `iscoroutinefunction` cannot see, such as a lambda around an `async def`."""
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("work on a lent connection returned a coroutine: make it a plain `def`")
    return value
