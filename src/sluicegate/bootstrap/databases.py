"""Which database the settings name, and what must hold before it is used."""

from sluicegate.core.errors import ConfigurationError
from sluicegate.settings import Settings
from sluicegate.store import SchemaState, check_loadable, check_usable, schema_state
from sluicegate.store import migrate as migrate_store


def migrate(settings: Settings) -> SchemaState:
    """Brings the schema to the current version, past a PgBouncer if the way is set; returns the state it was in."""
    _make_data_dir(settings)
    return migrate_store(direct_url(settings) or database_url(settings))


def database_url(settings: Settings) -> str:
    """The configured database, or SQLite in the data directory."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return f"sqlite:///{(settings.data_dir / 'sluicegate.db').absolute()}"


def direct_url(settings: Settings) -> str | None:
    """The way to PostgreSQL past PgBouncer, if there is one. Raises ConfigurationError when it makes no sense."""
    if settings.database_direct_url is None:
        return None
    url = settings.database_direct_url.get_secret_value()
    if not url.startswith("postgres") or not is_postgresql(settings):
        raise ConfigurationError(
            "SLUICEGATE_DATABASE_DIRECT_URL is a second way to the PostgreSQL of SLUICEGATE_DATABASE_URL: set both to"
            " `postgresql://…`, or remove it"
        )
    return url


def is_postgresql(settings: Settings) -> bool:
    return database_url(settings).startswith("postgres")


def ready_schema(settings: Settings) -> None:
    """Migrates the embedded default if it has to; refuses a PostgreSQL schema that is not current, with the command."""
    state = schema_state(database_url(settings))
    if state is not SchemaState.CURRENT:
        if is_postgresql(settings):
            raise ConfigurationError(f"the database schema is {state}: run `sluicegate migrate` with this version")
        migrate(settings)
    check_usable(database_url(settings), settings.db_deadline)
    check_loadable(database_url(settings), settings.max_entities)


def _make_data_dir(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"data directory {settings.data_dir} cannot be made: {error.strerror}") from None
