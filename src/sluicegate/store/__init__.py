"""SQL, the only place: lends connections to plain functions, keeps the revision log, runs the migrations."""

from sluicegate.store.database import SqlDatabase, open_database
from sluicegate.store.feed import SqlFeedSource
from sluicegate.store.instances import SqlInstances
from sluicegate.store.loading import check_loadable
from sluicegate.store.log_keeping import SqlLogKeeping
from sluicegate.store.migrate import migrate
from sluicegate.store.sqlite import linked_version, wal_reset_warning
from sluicegate.store.startup import SchemaState, check_usable, schema_state
from sluicegate.store.wakeup import Wakeup

__all__ = [
    "SchemaState",
    "SqlDatabase",
    "SqlFeedSource",
    "SqlInstances",
    "SqlLogKeeping",
    "Wakeup",
    "check_loadable",
    "check_usable",
    "linked_version",
    "migrate",
    "open_database",
    "schema_state",
    "wal_reset_warning",
]
