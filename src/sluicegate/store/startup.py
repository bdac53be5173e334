"""Whether a database can be used as it is, and what to do if not, in one sentence."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

from sqlalchemy import Connection, inspect, text, update
from sqlalchemy.exc import DBAPIError

from sluicegate.core.errors import ConfigurationError
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import Location, SqliteFile, engine_for, located
from sluicegate.store.schema import VERSIONS, authz_head
from sluicegate.store.triggers import missing_triggers

PATIENCE = 5.0
"""Seconds for the statements of a check."""
ALEMBIC_TABLE = "alembic_version"


class SchemaState(StrEnum):
    """How a database's schema relates to the one that this version needs."""

    EMPTY = "empty"
    BEHIND = "behind"
    CURRENT = "current"
    NEWER = "newer"
    """Or not ours at all: a version that this one does not know."""


def schema_state(url: str) -> SchemaState:
    """The state of the database's schema. Raises ConfigurationError when the database cannot be read."""
    location = located(url)
    if isinstance(location, SqliteFile) and not location.path.exists():
        return SchemaState.EMPTY
    engine = engine_for(location, ONE, PATIENCE)
    try:
        with explained(location), transaction(engine, Access.READ, PATIENCE) as connection:
            return state_of(connection)
    finally:
        engine.dispose()


def state_of(connection: Connection) -> SchemaState:
    """The state, seen from inside a transaction."""
    if not inspect(connection).has_table(ALEMBIC_TABLE):
        return SchemaState.EMPTY
    version = connection.execute(text(f"SELECT version_num FROM {ALEMBIC_TABLE}")).scalar_one_or_none()  # noqa: S608
    return compared(version, VERSIONS)


def compared(version: str | None, known: Sequence[str]) -> SchemaState:
    """The state of a database at `version` when `known` are the versions so far, oldest first."""
    if version is None:
        return SchemaState.EMPTY
    if version == known[-1]:
        return SchemaState.CURRENT
    return SchemaState.BEHIND if version in known else SchemaState.NEWER


def check_usable(url: str, patience: float = PATIENCE) -> None:
    """Returns when the database can be written and its schema is current. Raises ConfigurationError otherwise.

    Waits `patience` seconds for a lock.
    """
    location = located(url)
    if isinstance(location, SqliteFile) and not location.path.exists():
        raise ConfigurationError(f"{location} does not exist: run `sluicegate migrate`")
    engine = engine_for(location, ONE, patience)
    try:
        with explained(location), transaction(engine, Access.WRITE, patience) as connection:
            refuse_unless_current(state_of(connection), location)
            _refuse_unguarded(connection, location)
            connection.execute(update(authz_head).values(rev=authz_head.c.rev))  # beginning alone is no proof on SQLite
    finally:
        engine.dispose()


def refuse_unless_current(state: SchemaState, location: Location) -> None:
    """Raises ConfigurationError unless the schema is current."""
    if state is SchemaState.NEWER:
        raise ConfigurationError(
            f"{location} has a schema that this version does not know: start the version that made it, or a newer one"
        )
    if state is not SchemaState.CURRENT:
        raise ConfigurationError(f"{location} has a schema that is {state}, not current: run `sluicegate migrate`")


def _refuse_unguarded(connection: Connection, location: Location) -> None:
    missing = missing_triggers(connection)
    if missing:
        raise ConfigurationError(
            f"{location} has lost the {missing[0]}, so gateways would miss what is changed by hand: enable it again, or"
            " restore the schema"
        )


@contextmanager
def explained(location: Location) -> Iterator[None]:
    """Turns what the driver raises into a ConfigurationError that says what to do."""
    try:
        yield
    except DBAPIError as error:
        raise ConfigurationError(f"{location} {_reason(error)}") from error


_SQLITE_REASONS = {
    5: "is locked by another process: end that process, or wait until it is done",
    8: "is read-only: make the file and its folder writable for this user",
    11: "is damaged: restore it from a backup",
    14: "cannot be opened: its folder must exist, and both must be writable for this user",
    26: "is not an SQLite database: choose another file",
}
"""By primary result code (sqlite.org/rescode.html)."""


_LOCKED = "55P03"
"""SQLSTATE lock_not_available."""


def _reason(error: DBAPIError) -> str:
    if getattr(error.orig, "sqlstate", None) == _LOCKED:
        return "is locked by a transaction that takes long: end that transaction, or wait until it is done"
    code = getattr(error.orig, "sqlite_errorcode", 0)
    return _SQLITE_REASONS.get(code & 0xFF) or f"cannot be used: {_words(error)}"


def _words(error: DBAPIError) -> str:
    """The driver's own, on one line; libpq never names a password."""
    return " ".join(str(error.orig).split())[:300]
