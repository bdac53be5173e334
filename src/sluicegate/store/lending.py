"""A connection for the time of one transaction that is begun explicitly and always ended."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

from msgspec import Struct
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError

from sluicegate.core.errors import DatabaseBusy

_TERMS = "sluicegate_terms"
SERVER_SHARE = 0.8
"""The part of a caller's deadline in which the database itself ends what takes too long.

So a slow statement, or a lock that is not given, is an error that left no trace, and not work to be abandoned.
"""
OUR_FAULT = (DataError, IntegrityError, NotSupportedError, ProgrammingError)
"""What a driver raises for a wrong statement; every other error of a driver is the database's."""

_SQLITE_BUSY = 5
_TOOK_TOO_LONG = ("57014", "55P03")
"""query_canceled and lock_not_available."""


class PoolSize(Struct, frozen=True):
    """Connections kept, and those beyond that are closed after use."""

    kept: int
    overflow: int

    @property
    def slots(self) -> int:
        """Connections that can be in use at one time."""
        return self.kept + self.overflow


ONE = PoolSize(1, 0)


class Durability(Enum):
    """Whether a commit is on the disk when it returns. RELAXED may lose the last ones in a power failure, never half.

    A commit that is FULL takes all RELAXED ones before it to the disk.
    """

    FULL = "full"
    RELAXED = "relaxed"


class Access(Enum):
    """READ sees one snapshot and leaves no trace; WRITE is committed when the block ends without an error."""

    READ = "read"
    WRITE = "write"


BeginStatement = Callable[[Access, float], str]
"""The SQL that begins a transaction whose statements may take so many seconds."""


def begin_explicitly(engine: Engine, statement: BeginStatement) -> None:
    """Begins each transaction of the engine with `statement`, in one round trip.

    The engine's drivers are in autocommit mode, so they begin nothing themselves; they do commit and roll back.
    """

    def begin(connection: Connection) -> None:
        access, deadline = connection.get_execution_options()[_TERMS]
        connection.exec_driver_sql(statement(access, deadline))

    event.listen(engine, "begin", begin)


@contextmanager
def transaction(engine: Engine, access: Access, deadline: float) -> Iterator[Connection]:
    """A connection in a transaction; closed afterwards, so neither it nor a result can be used outside.

    `deadline` is how long its user waits for it, in seconds; where the database can do that it ends a statement sooner.
    Raises what the driver raises.
    """
    terms = {_TERMS: (access, deadline)}
    with engine.connect().execution_options(**terms) as connection, connection.begin() as begun:
        yield connection
        if access is Access.READ:
            begun.rollback()


@contextmanager
def faults_are_busy() -> Iterator[None]:
    """Raises DatabaseBusy for whatever is the database's fault. The driver's words stay in `__cause__`."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error, OUR_FAULT):
            raise
        raise DatabaseBusy(_sentence(error)) from error


def _sentence(error: DBAPIError) -> str:
    if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == _SQLITE_BUSY:
        return "the database file is locked by another process or writer: nothing was changed, try again"
    if getattr(error.orig, "sqlstate", None) in _TOOK_TOO_LONG:
        return "the database ended a statement that took or waited too long: nothing was changed, try again"
    if error.connection_invalidated and error.statement is None:  # it broke off while the transaction was ended
        return "the connection to the database was lost at the very end: what was asked for may have happened"
    return "the database did not carry out the operation: try again"
