"""The instances, and triggers that let no change of the authorization tables past the log.

Nothing that version 0001 reads or writes is changed. What it writes on SQLite is logged twice, by the trigger and by
itself, which costs a reload.

Locks on PostgreSQL are taken in the order in which writers take them (entities, head, log). None of them keeps readers
out: who queues for such a lock behind a reader, a backup for instance, makes every poll queue behind itself.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
REVISION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KINDS = {
    "teams": "team",
    "users": "user",
    "memberships": "membership",
    "upstreams": "upstream",
    "tools": "tool",
    "servers": "server",
    "tokens": "token",
}
"""By table, the kind in the log."""


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    _create_instances("clock_timestamp()" if postgresql else r"(strftime('%Y-%m-%d %H\:%M\:%f', 'now'))")
    if postgresql:
        _refuse_on_postgresql()
    else:
        _log_on_sqlite()
    op.create_index("ix_authz_log_kind_key_rev", "authz_log", ["kind", "key", "rev"])


def _create_instances(now: str) -> None:
    op.create_table(
        "instances",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rev", REVISION, nullable=False),
        sa.Column("trust", sa.Double(), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), server_default=sa.text(now), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_instances"),
    )


def _run(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement)


# --- PostgreSQL: a change without its log row is refused at commit ------------------------------------------------

NEW_EPOCH = "UPDATE authz_head SET rev = rev + 1, floor = rev + 1, epoch = gen_random_uuid()"

REFUSE_UNLOGGED = f"""
CREATE FUNCTION authz_refuse_unlogged() RETURNS trigger LANGUAGE plpgsql
SET search_path = {{schema}}, pg_temp
SET jit = off
SET enable_seqscan = off -- or a plan that was made while the log was short would scan all of a long one
AS $$
DECLARE
    own xid := pg_current_xact_id()::xid;
    changed text := coalesce(NEW.id, OLD.id);
    logged bigint;
BEGIN
    IF current_setting('sluicegate.epoch_begun_by', true) = own::text THEN
        RETURN NULL;
    END IF;
    SELECT rev INTO logged FROM authz_log
    WHERE kind = TG_ARGV[0] AND key = changed AND xmin = own AND (payload IS NULL) = (TG_OP = 'DELETE')
    ORDER BY rev DESC LIMIT 1;
    PERFORM FROM authz_head WHERE id = 1 AND floor < logged AND logged <= rev; -- elsewhere nobody reads it
    IF FOUND AND (TG_OP <> 'UPDATE' OR NEW.id = OLD.id) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION USING
        ERRCODE = 'integrity_constraint_violation',
        TABLE = TG_TABLE_NAME,
        MESSAGE = lower(TG_OP) || ' of `' || changed || '` in ' || TG_TABLE_NAME || ' without its row in authz_log',
        HINT = 'change it through the API, or end the same transaction with: {NEW_EPOCH}';
END
$$
"""  # noqa: S608 - nothing in it comes from outside

REFUSE_ALWAYS = f"""
CREATE FUNCTION authz_refuse() RETURNS trigger LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'integrity_constraint_violation',
        TABLE = TG_TABLE_NAME,
        MESSAGE = lower(TG_OP) || ' of ' || TG_TABLE_NAME || ': gateways that run would not notice it',
        HINT = 'DELETE what shall go and INSERT what shall be, and end the same transaction with: {NEW_EPOCH}';
END
$$
"""

ADVANCE = """
CREATE FUNCTION authz_advance() RETURNS trigger LANGUAGE plpgsql
SET search_path = {schema}, pg_temp
AS $$
BEGIN
    IF NEW.epoch <> OLD.epoch THEN
        INSERT INTO authz_log (rev, kind, key, at) VALUES (NEW.rev, 'epoch', NEW.epoch, clock_timestamp())
        ON CONFLICT DO NOTHING;
        PERFORM set_config('sluicegate.epoch_begun_by', pg_current_xact_id()::xid::text, true);
    END IF;
    PERFORM pg_notify('sluicegate', NEW.rev::text);
    RETURN NULL;
END
$$
"""


def _refuse_on_postgresql() -> None:
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    for function in (REFUSE_UNLOGGED, REFUSE_ALWAYS, ADVANCE):
        _run(function.replace("{schema}", schema))
    for table, kind in KINDS.items():
        _run(
            f"CREATE CONSTRAINT TRIGGER authz_unlogged AFTER INSERT OR UPDATE OR DELETE ON {table}"
            f" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION authz_refuse_unlogged('{kind}')"
        )
    _run(
        "CREATE TRIGGER authz_advance AFTER UPDATE ON authz_head FOR EACH ROW"
        " WHEN (NEW.rev <> OLD.rev OR NEW.epoch <> OLD.epoch) EXECUTE FUNCTION authz_advance()"
    )
    for table in (*KINDS, "authz_head", "authz_log"):
        _refuse_always("TRUNCATE", table)
    _refuse_always("UPDATE", "authz_log")


def _refuse_always(event: str, table: str) -> None:
    name = f"authz_{event.lower()}"
    _run(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION authz_refuse()")


# --- SQLite: a change that our own code does not record is logged -------------------------------------------------

# `revision_log` inserts the row -1 before it changes anything, and deletes it before it commits.
LOG_BY_HAND = """
CREATE TRIGGER authz_{table}_{event} AFTER {event} ON {table}
WHEN NOT EXISTS (SELECT 1 FROM authz_log WHERE rev = -1)
BEGIN
    UPDATE authz_head SET rev = rev + 1;
    INSERT INTO authz_log (rev, kind, key, at)
    SELECT rev, 'unrecorded', '{table}/' || {key}, strftime('%Y-%m-%d %H:%M:%f', 'now') FROM authz_head;
END
"""

LOG_EPOCH = """
CREATE TRIGGER authz_advance AFTER UPDATE ON authz_head
WHEN NEW.epoch <> OLD.epoch
BEGIN
    INSERT OR IGNORE INTO authz_log (rev, kind, key, at)
    VALUES (NEW.rev, 'epoch', NEW.epoch, strftime('%Y-%m-%d %H:%M:%f', 'now'));
END
"""


def _log_on_sqlite() -> None:
    for table in KINDS:
        for event, key in (("insert", "NEW.id"), ("update", "NEW.id"), ("delete", "OLD.id")):
            _run(LOG_BY_HAND.format(table=table, event=event, key=key))
    _run(LOG_BY_HAND.format(table="authz_log", event="update", key="NEW.rev"))
    _run(LOG_EPOCH)
