"""Read again from the database, everything adds up to the digest that the directory has kept, or it is different."""

import asyncio

import pytest
from msgspec.structs import replace

from sluicegate.core.errors import DatabaseBusy
from sluicegate.core.identity import TokenId
from sluicegate.ports import UnreadableLog
from sluicegate.store import SqlDatabase, SqlFeedSource
from tests.store.conftest import Open, RunSql
from tests.store.writing import ABSENT, NARROW, SEALED, checked_out, inserting
from tests.support import world
from tests.support.world import PAYMENTS

CHANGES = (
    "UPDATE users SET active = false WHERE id = 'usr_zoe'",
    "UPDATE memberships SET role = 'owner' WHERE user_id = 'usr_vera'",
    "DELETE FROM memberships WHERE user_id = 'usr_vera'",
    "UPDATE teams SET name = 'x' WHERE id = 'team_search'",
    "UPDATE upstreams SET url = 'http://127.0.0.1:9/other' WHERE id = 'ups_web'",
    "UPDATE tools SET definition = '{}' WHERE name = 'now'",
    "UPDATE tools SET visibility = 'private' WHERE name = 'now'",
    "UPDATE servers SET enabled = false",
    "UPDATE tokens SET revoked_at = NULL WHERE id = 'tok_narrow'",
    "DELETE FROM tokens WHERE id = 'tok_narrow'",
)


@pytest.fixture
async def filled(database: SqlDatabase) -> SqlDatabase:
    await database.write(inserting(*world.entities(), SEALED, NARROW, ABSENT))
    return database


async def test_what_was_loaded_and_then_followed_is_what_the_database_holds(
    filled: SqlDatabase, feed: SqlFeedSource
) -> None:
    directory = (await feed.load()).directory
    await filled.write(lambda tx: tx.delete(NARROW))
    await filled.write(lambda tx: tx.delete(world.server()))
    await filled.write(lambda tx: tx.update(world.team(PAYMENTS, "paying", active=False)))
    for change in (await feed.poll(directory.revision)).changes:
        directory.apply(change)
    found = await feed.audit(directory.tokens_from)
    assert (found.epoch, found.revision) == (directory.epoch, directory.revision)
    assert found.digest == directory.digest


@pytest.mark.parametrize("change", CHANGES)
async def test_any_change_that_the_log_does_not_know_is_a_difference(
    filled: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql, change: str
) -> None:
    directory = (await feed.load()).directory
    run_sql(change)
    found = await feed.audit(directory.tokens_from)
    assert found.revision == directory.revision
    assert found.digest != directory.digest


async def test_tokens_that_had_expired_when_it_was_loaded_are_in_neither(
    filled: SqlDatabase, feed: SqlFeedSource
) -> None:
    loaded = (await feed.load()).directory
    old = replace(NARROW, id=TokenId("tok_old"), expires_at=loaded.tokens_from - 1)
    await filled.write(inserting(old))
    await filled.write(lambda tx: tx.update(replace(old, revoked_at=7)))
    for change in (await feed.poll(loaded.revision)).changes:
        loaded.apply(change)
    assert "tok_old" not in loaded.tokens
    assert (await feed.audit(loaded.tokens_from)).digest == loaded.digest
    assert (await feed.audit(0)).digest != loaded.digest


async def test_an_audit_keeps_neither_polls_nor_upkeep_waiting_and_leaves_no_connection(
    filled: SqlDatabase, feed: SqlFeedSource, open_with: Open
) -> None:
    auditing = asyncio.ensure_future(feed.audit(0))
    await feed.poll(0)
    await filled.upkeep(lambda connection: None, 5.0)
    await auditing
    assert checked_out("upkeep") == 0
    closed = open_with()
    closed.close()
    with pytest.raises(DatabaseBusy):
        await closed.feed_source().audit(0)


async def test_a_row_that_cannot_be_read_is_no_digest(
    filled: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql
) -> None:
    run_sql("UPDATE memberships SET role = 'emperor'")
    with pytest.raises(UnreadableLog):
        await feed.audit(0)
