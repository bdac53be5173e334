"""SQL, the only place: lends connections to plain functions, keeps the revision log, runs the migrations."""

from sluicegate.store.database import SqlDatabase, open_database
from sluicegate.store.feed import SqlFeedSource
from sluicegate.store.migrate import migrate
from sluicegate.store.sqlite import linked_version, wal_reset_warning
from sluicegate.store.startup import SchemaState, schema_state

__all__ = [
    "SchemaState",
    "SqlDatabase",
    "SqlFeedSource",
    "linked_version",
    "migrate",
    "open_database",
    "schema_state",
    "wal_reset_warning",
]
