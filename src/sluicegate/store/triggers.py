"""The triggers by which the database itself lets no change of the authorization tables past the revision log."""

from sqlalchemy import Connection, text

from sluicegate.store.schema import TABLES, authz_head, authz_log

_ENTITIES = tuple(table.name for table in TABLES.values())
_EXPECTED = {
    "postgresql": {
        *((table, "authz_unlogged") for table in _ENTITIES),
        *((table, "authz_truncate") for table in (*_ENTITIES, authz_head.name, authz_log.name)),
        (authz_log.name, "authz_update"),
        (authz_head.name, "authz_advance"),
    },
    "sqlite": {
        *((table, f"authz_{table}_{event}") for table in _ENTITIES for event in ("insert", "update", "delete")),
        (authz_log.name, "authz_authz_log_update"),
        (authz_head.name, "authz_advance"),
    },
}
"""By dialect, table and trigger."""

_PRESENT = {
    "postgresql": text(
        "SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
        " WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND tgenabled IN ('O', 'A')"
    ),
    "sqlite": text("SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger'"),
}


def missing_triggers(connection: Connection) -> list[str]:
    """Those that are gone or disabled, as "trigger `x` of table `y`"."""
    dialect = connection.dialect.name
    present = {(table, trigger) for table, trigger in connection.execute(_PRESENT[dialect])}
    return [f"trigger `{trigger}` of table `{table}`" for table, trigger in sorted(_EXPECTED[dialect] - present)]
