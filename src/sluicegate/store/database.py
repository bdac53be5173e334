"""The database is lent, never given (design, section 4): plain functions run on a connection, in a pool of threads."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Never, TypeVar, overload

from sqlalchemy import Connection, Engine

from sluicegate.core.errors import ConfigurationError
from sluicegate.ledger import Owner
from sluicegate.ports import Transaction, Written
from sluicegate.store.bulkhead import Bulkhead
from sluicegate.store.feed import SqlFeedSource
from sluicegate.store.lending import ONE, Access, PoolSize, faults_are_busy, transaction
from sluicegate.store.location import engine_for, located
from sluicegate.store.registry import SqlTransaction
from sluicegate.store.revision_log import guard
from sluicegate.store.startup import check_usable

T = TypeVar("T")


class SqlDatabase:
    """Implements `ports.Database`. `deadline` is how long a caller waits, in seconds."""

    def __init__(self, engine: Engine, feed: SqlFeedSource, size: PoolSize, deadline: float) -> None:
        self._engine = engine
        self._feed = feed
        self._bulkhead = Bulkhead(Owner.ADMIN, size.slots)
        self._deadline = deadline

    @overload
    async def read(self, work: Callable[[Connection], Coroutine[Any, Any, Any]]) -> Never: ...
    @overload
    async def read(self, work: Callable[[Connection], T]) -> T: ...
    async def read(self, work: Callable[[Connection], Any]) -> Any:
        """What `work` returns. It sees one snapshot, and what it changes is rolled back. For `store` itself."""
        _refuse_async(work)

        def read() -> Any:
            with faults_are_busy(), transaction(self._engine, Access.READ, self._deadline) as connection:
                return _plain(work(connection))

        return await self._bulkhead.run(read, self._deadline)

    @overload
    async def write(self, work: Callable[[Transaction], Coroutine[Any, Any, Any]]) -> Never: ...
    @overload
    async def write(self, work: Callable[[Transaction], T]) -> Written[T]: ...
    async def write(self, work: Callable[[Transaction], Any]) -> Any:
        """What `work` returns, and the revision of its changes; they are committed and in the log, or nothing is."""
        _refuse_async(work)

        def write() -> Written[Any]:
            with faults_are_busy(), transaction(self._engine, Access.WRITE, self._deadline) as connection:
                changing = SqlTransaction(connection)
                value = _plain(work(changing))
                revision = changing.finish()
            return Written(value, revision)

        return await self._bulkhead.run(write, self._deadline)

    def feed_source(self) -> SqlFeedSource:
        """The revision log, over the connection that is reserved for it."""
        return self._feed

    def close(self) -> None:
        """Closes what is not in use; work that still runs ends by itself, or with the process."""
        self._bulkhead.close()
        self._engine.dispose()
        self._feed.close()


def open_database(url: str, *, pool_size: int, max_overflow: int, pool_timeout: float) -> SqlDatabase:
    """Opens a database that is ready for use; blocks while it looks at the database.

    `pool_timeout` is how long, in seconds, a caller waits for the database. Raises ConfigurationError when the URL
    names no database that we know, it cannot be reached or written, or its schema is not current.
    """
    location = located(url)
    size = PoolSize(pool_size, max_overflow)
    engine = engine_for(location, size, pool_timeout)
    try:
        check_usable(engine, location)
    except ConfigurationError:
        engine.dispose()
        raise
    following = engine_for(location, ONE, pool_timeout)
    guard(engine)
    guard(following)
    return SqlDatabase(engine, SqlFeedSource(following), size, pool_timeout)


def _refuse_async(work: Callable[..., object]) -> None:
    if inspect.iscoroutinefunction(work):
        raise TypeError(f"{work!r} is an `async def`: work on a lent connection cannot wait, so make it a plain `def`")


def _plain(value: T) -> T:
    """Catches what `iscoroutinefunction` cannot see, such as a lambda around an `async def`."""
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("work on a lent connection returned a coroutine: make it a plain `def`")
    return value
