"""Bring a database's schema to the current version, in one transaction that only one process runs at a time."""

from sqlalchemy import Connection, inspect, text

from sluicegate.core.errors import ConfigurationError
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import Location, SqliteFile, engine_for, located
from sluicegate.store.schema import metadata
from sluicegate.store.startup import SchemaState, explained, refuse_unless_current, state_of

DEADLINE = 600.0
"""Seconds for each statement, and for waiting until another process has migrated."""
TABLE_LOCK = 2.0
"""Seconds that PostgreSQL waits for a table's lock: as long, whoever writes to the table queues behind us."""
BUSY_TIMEOUT = 30.0
"""Seconds that SQLite waits for another process."""
LOCK = 0x536C7569636567
"""Key of the advisory lock; its bytes spell the project's name."""


def migrate(url: str) -> SchemaState:
    """Makes the schema current and returns the state that it was found in; a current one is left alone.

    Raises ConfigurationError when the database cannot be used, or is newer than this version.
    """
    location = located(url)
    if isinstance(location, SqliteFile):
        _create(location)
    engine = engine_for(location, ONE, BUSY_TIMEOUT)
    try:
        with explained(location), transaction(engine, Access.WRITE, DEADLINE) as connection:
            return _migrate(connection, location)
    finally:
        engine.dispose()


def _migrate(connection: Connection, location: Location) -> SchemaState:
    if connection.dialect.name == "postgresql":
        # A lock of the transaction, not of the session: it works through PgBouncer and cannot be left behind.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    found = state_of(connection)
    if found is SchemaState.NEWER:
        refuse_unless_current(found, location)
    if found is SchemaState.EMPTY:
        _refuse_foreign_tables(connection, location)
    if found is not SchemaState.CURRENT:
        _upgrade(connection)
    return found


def _create(location: SqliteFile) -> None:
    try:
        location.path.touch(mode=0o600)
    except OSError as error:
        raise ConfigurationError(f"{location} cannot be created: {error.strerror}") from error


def _refuse_foreign_tables(connection: Connection, location: Location) -> None:
    foreign = sorted(set(inspect(connection).get_table_names()) & set(metadata.tables))
    if foreign:
        raise ConfigurationError(f"{location} has a table `{foreign[0]}` that is not ours: use a database of its own")


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - takes long to import, and most starts have nothing to migrate
    from alembic.config import Config  # noqa: PLC0415

    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(TABLE_LOCK * 1000)}")
    config = Config()
    config.set_main_option("script_location", "sluicegate.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
