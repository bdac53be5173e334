"""The tables. Each entity of `core.catalog` is one, column for field; then the head of the revision log and the log.

Foreign keys never cascade in the database: what goes with a row is deleted by the transaction, which records it.
"""

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

from sluicegate.core import catalog
from sluicegate.core.catalog import Entity
from sluicegate.store.database_clock import database_now

VERSIONS = ("0001", "0002")
"""The ids of all migrations, oldest first; a database must be at the last one."""


class JsonText(TypeDecorator[object]):
    """A value of JSON as text, the same on both databases. SQL's NULL stands for None."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> object | None:  # noqa: ARG002
        return None if value is None else msgspec.json.decode(value)


KEY: TypeEngine[str] = Text().with_variant(Text(collation="C"), "postgresql")
"""Ids and slugs: compared and ordered by their bytes, as SQLite does."""
REVISION: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _refers(name: str, table: str, *, owned: bool = False, nullable: bool = False, index: bool = False) -> Column[str]:
    """A column that names a row of `table`. `owned`: this row goes when that one goes; else it keeps it there."""
    key = ForeignKey(f"{table}.id")
    return Column(name, KEY, key, nullable=nullable, index=index, info={"owned": owned})


teams = Table(
    "teams",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("slug", KEY, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("active", Boolean, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("email", KEY, nullable=False, unique=True),
    Column("active", Boolean, nullable=False),
    Column("platform_admin", Boolean, nullable=False),
)

memberships = Table(
    "memberships",
    metadata,
    Column("id", KEY, primary_key=True),
    _refers("user_id", "users", owned=True, index=True),
    _refers("team_id", "teams", owned=True, index=True),
    Column("role", Text, nullable=False),
)

upstreams = Table(
    "upstreams",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("slug", KEY, nullable=False, unique=True),
    Column("url", Text, nullable=False),
    _refers("team_id", "teams", nullable=True),
    _refers("owner_id", "users", nullable=True),
    Column("visibility", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("auth", JsonText, nullable=False),
    Column("era", Text),
    Column("protocol_version", Text),
    Column("sync_warnings", JsonText, nullable=False),
)

tools = Table(
    "tools",
    metadata,
    Column("id", KEY, primary_key=True),
    _refers("upstream_id", "upstreams", owned=True),
    Column("name", KEY, nullable=False),
    Column("definition", Text, nullable=False),
    Column("visibility", Text),
    _refers("team_id", "teams", nullable=True, index=True),
    Column("enabled", Boolean, nullable=False),
    Column("offered", Boolean, nullable=False),
    UniqueConstraint("upstream_id", "name"),
)

servers = Table(
    "servers",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("slug", KEY, nullable=False, unique=True),
    _refers("team_id", "teams", nullable=True),
    _refers("owner_id", "users", nullable=True),
    Column("visibility", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("tools", JsonText, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", KEY, primary_key=True),
    _refers("user_id", "users", owned=True, index=True),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("teams", JsonText),
    Column("servers", JsonText),
    Column("permissions", JsonText),
)

authz_head = Table(
    "authz_head",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("rev", REVISION, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("floor", REVISION, nullable=False),
)

authz_log = Table(
    "authz_log",
    metadata,
    Column("rev", REVISION, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("key", KEY, nullable=False),
    Column("payload", Text),
    Column("at", DateTime(timezone=True), nullable=False, server_default=database_now()),
    Index(None, "kind", "key", "rev"),  # by which PostgreSQL's triggers find the row of a change
)

instances = Table(
    "instances",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("name", Text, nullable=False),
    Column("rev", REVISION, nullable=False),
    Column("trust", Double, nullable=False),
    Column("reported_at", DateTime(timezone=True), nullable=False, server_default=database_now()),
)
"""Worker processes, as each reports of itself; says nothing about authorization, so it is not in the log."""

TABLES: dict[type[Entity], Table] = {
    catalog.Team: teams,
    catalog.User: users,
    catalog.Membership: memberships,
    catalog.Upstream: upstreams,
    catalog.Tool: tools,
    catalog.VirtualServer: servers,
    catalog.Token: tokens,
}
"""In an order in which a referenced table comes before those that refer to it."""

ENTITY_OF: dict[Table, type[Entity]] = {table: entity for entity, table in TABLES.items()}

REFERRERS: dict[Table, list[Column[str]]] = {
    table: [key.parent for other in TABLES.values() for key in other.foreign_keys if key.column.table is table]
    for table in TABLES.values()
}
"""For each table, the columns that refer to it."""
