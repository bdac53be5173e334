"""The entities, the head of the revision log, and the log."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
REVISION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_people()
    _create_catalog()
    _create_tokens()
    _create_log()


def _id(table: str) -> list[sa.schema.SchemaItem]:
    return [sa.Column("id", KEY, nullable=False), sa.PrimaryKeyConstraint("id", name=f"pk_{table}")]


def _reference(table: str, column: str, target: str, *, nullable: bool) -> list[sa.schema.SchemaItem]:
    constraint = sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}")
    return [sa.Column(column, KEY, nullable=nullable), constraint]


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name="_".join(("uq", table, *columns)))


def _create_people() -> None:
    op.create_table(
        "teams",
        *_id("teams"),
        sa.Column("slug", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        _unique("teams", "slug"),
    )
    op.create_table(
        "users",
        *_id("users"),
        sa.Column("email", KEY, nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("platform_admin", sa.Boolean(), nullable=False),
        _unique("users", "email"),
    )
    op.create_table(
        "memberships",
        *_id("memberships"),
        *_reference("memberships", "user_id", "users", nullable=False),
        *_reference("memberships", "team_id", "teams", nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
    )
    op.create_index("ix_memberships_user_id", "memberships", ["user_id"])
    op.create_index("ix_memberships_team_id", "memberships", ["team_id"])


def _create_catalog() -> None:
    op.create_table(
        "upstreams",
        *_id("upstreams"),
        sa.Column("slug", KEY, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        *_reference("upstreams", "team_id", "teams", nullable=True),
        *_reference("upstreams", "owner_id", "users", nullable=True),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("auth", sa.Text(), nullable=False),
        sa.Column("era", sa.Text()),
        sa.Column("protocol_version", sa.Text()),
        sa.Column("sync_warnings", sa.Text(), nullable=False),
        _unique("upstreams", "slug"),
    )
    op.create_table(
        "tools",
        *_id("tools"),
        *_reference("tools", "upstream_id", "upstreams", nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("visibility", sa.Text()),
        *_reference("tools", "team_id", "teams", nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("offered", sa.Boolean(), nullable=False),
        _unique("tools", "upstream_id", "name"),
    )
    op.create_index("ix_tools_team_id", "tools", ["team_id"])
    op.create_table(
        "servers",
        *_id("servers"),
        sa.Column("slug", KEY, nullable=False),
        *_reference("servers", "team_id", "teams", nullable=True),
        *_reference("servers", "owner_id", "users", nullable=True),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("tools", sa.Text(), nullable=False),
        _unique("servers", "slug"),
    )


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        *_id("tokens"),
        *_reference("tokens", "user_id", "users", nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger()),
        sa.Column("teams", sa.Text()),
        sa.Column("servers", sa.Text()),
        sa.Column("permissions", sa.Text()),
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"])


def _create_log() -> None:
    head = op.create_table(
        "authz_head",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("rev", REVISION, nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("floor", REVISION, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_authz_head"),
        sa.CheckConstraint("id = 1", name="ck_authz_head_one_row"),
    )
    op.create_table(
        "authz_log",
        sa.Column("rev", REVISION, nullable=False, autoincrement=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("payload", sa.Text()),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.current_timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("rev", name="pk_authz_log"),
    )
    # Another database has another epoch, so a directory never follows the log of one it was not loaded from.
    op.bulk_insert(head, [{"id": 1, "rev": 0, "epoch": secrets.token_hex(16), "floor": 0}])
