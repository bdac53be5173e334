"""PostgreSQL over psycopg 3, also through PgBouncer in transaction mode: no state outlives a transaction."""

from collections.abc import Mapping
from functools import partial

from sqlalchemy import URL, Engine, create_engine

from sluicegate.store.lending import SERVER_SHARE, Access, Durability, PoolSize, begin_explicitly

DRIVER: Mapping[str, object] = {
    "prepare_threshold": None,  # a prepared statement would outlive the transaction
    "application_name": "sluicegate",
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 3000,  # or a poll whose packets nobody answers would keep the feed's one connection for longer
}
"""Seconds, but milliseconds for tcp_user_timeout. The same name in the query of the URL goes before."""

IDLE_LIMIT = 5.0
"""Seconds after which the server ends a transaction whose client has frozen: it may hold the head's lock."""

_MODES = {
    Access.READ: "ISOLATION LEVEL REPEATABLE READ READ ONLY",
    Access.WRITE: "ISOLATION LEVEL READ COMMITTED READ WRITE",
}
_SETTINGS = {Durability.FULL: "", Durability.RELAXED: "; SET LOCAL synchronous_commit = off"}


def postgresql_engine(url: URL, size: PoolSize, durability: Durability) -> Engine:
    """An engine that replaces connections which died in its pool, so that the next use does not fail."""
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=size.kept,
        max_overflow=size.overflow,
        pool_pre_ping=True,
        connect_args={name: value for name, value in DRIVER.items() if name not in url.query},
        use_native_hstore=False,
        hide_parameters=True,
    )
    begin_explicitly(engine, partial(begin_statement, _SETTINGS[durability]))
    return engine


def begin_statement(further: str, access: Access, deadline: float) -> str:
    """BEGIN with its time limits, as one simple query: PgBouncer refuses them as startup options."""
    limits = {
        "statement_timeout": SERVER_SHARE * deadline,
        "lock_timeout": SERVER_SHARE * deadline,
        "idle_in_transaction_session_timeout": IDLE_LIMIT,
    }
    settings = "".join(f"; SET LOCAL {name} = {max(1, round(limit * 1000))}" for name, limit in limits.items())
    return f"BEGIN {_MODES[access]}{settings}{further}"
