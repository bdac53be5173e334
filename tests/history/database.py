"""The database of a run: a copy of one that is migrated and filled once, which takes longer than a run may."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from msgspec import Struct

from sluicegate.core.catalog import ENTITIES
from sluicegate.ports import Transaction
from sluicegate.store import migrate, open_database
from tests.history.scripts import all_scripts, common_world
from tests.support.servers import Server, fresh_database, pgbouncer, postgresql, run_as_superuser

PATIENCE = 60.0
"""Seconds for filling it, on a machine that is busy with other things."""
SLOW_COMMITS = """
CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON authz_log DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.rev % 25 = 0) EXECUTE FUNCTION slow_commit();
"""
"""Some commits take their time, as one that waits for a busy disk or for a synchronous replica does."""


class Place(Struct, frozen=True):
    """A cluster, the PgBouncer before it, and the name of the database that is copied for each run."""

    cluster: Server
    bouncer: Server
    template: str


@contextmanager
def place() -> Iterator[Place]:
    """Where runs may take place."""
    with postgresql() as cluster, pgbouncer(cluster) as bouncer, fresh_database(cluster) as template:
        migrate(cluster.url(template))
        asyncio.run(_fill(cluster.url(template)))
        run_as_superuser(cluster, SLOW_COMMITS, template)
        yield Place(cluster, bouncer, template)


@contextmanager
def database_of_a_run(where: Place, sql: str) -> Iterator[str]:
    """The name of a database with version 0 of everything, in which `sql` was run."""
    name = f"run_{uuid4().hex}"
    run_as_superuser(where.cluster, f"CREATE DATABASE {name} TEMPLATE {where.template}")
    try:
        run_as_superuser(where.cluster, sql, name)
        yield name
    finally:
        run_as_superuser(where.cluster, f"DROP DATABASE {name} WITH (FORCE)")


async def _fill(url: str) -> None:
    """By the code of the design, whatever runs on it later."""
    order = list(ENTITIES.values())
    world = common_world() + [entity for script in all_scripts() for entity in script.world()]

    def insert(tx: Transaction) -> None:
        for entity in sorted(world, key=lambda each: order.index(type(each))):
            tx.insert(entity)

    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=PATIENCE, deadline=PATIENCE)
    await database.write(insert)
    database.close()
