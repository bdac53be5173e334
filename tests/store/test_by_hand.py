"""SQL by hand cannot bypass the revision log: PostgreSQL refuses it at commit, SQLite logs it so that all load anew."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from sluicegate.core.catalog import Kind, Team, User
from sluicegate.core.errors import ConfigurationError
from sluicegate.core.identity import TeamId, UserId
from sluicegate.ports import UnreadableLog
from sluicegate.store import SqlDatabase, SqlFeedSource, check_usable, migrate
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import engine_for, located
from sluicegate.store.revision_log import NO_ENTITY, RECORDED
from sluicegate.store.schema import TABLES, teams
from sluicegate.store.sqlite import driver
from tests.store.writing import NARROW, SEALED, failing_after, inserting, numbered_team
from tests.support import world
from tests.support.servers import Server, fresh_database

RunByHand = Callable[..., None]

on_postgresql = pytest.mark.parametrize("url", ["postgresql", "pgbouncer"], indirect=True)
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

SPARE = (Team(TeamId("team_spare"), "spare", "", True), User(UserId("usr_spare"), "spare@example.com", True, False))
INSERT_UPSTREAM = (
    "INSERT INTO upstreams VALUES ('ups_new', 'new', 'http://127.0.0.1:9/', NULL, NULL, 'public', true,"
    " '{\"type\":\"none\"}', NULL, NULL, '[]')"
)
CHANGES = {
    "teams": (
        "INSERT INTO teams VALUES ('team_new', 'new', '', true)",
        "UPDATE teams SET active = false WHERE id = 'team_search'",
        "DELETE FROM teams WHERE id = 'team_spare'",
    ),
    "users": (
        "INSERT INTO users VALUES ('usr_new', 'new@example.com', true, true)",
        "UPDATE users SET platform_admin = true WHERE id = 'usr_alice'",
        "DELETE FROM users WHERE id = 'usr_spare'",
    ),
    "memberships": (
        "INSERT INTO memberships VALUES ('usr_zoe/team_search', 'usr_zoe', 'team_search', 'owner')",
        "UPDATE memberships SET role = 'owner' WHERE id = 'usr_vera/team_payments'",
        "DELETE FROM memberships WHERE id = 'usr_bob/team_search'",
    ),
    "upstreams": (
        INSERT_UPSTREAM,
        "UPDATE upstreams SET enabled = false WHERE id = 'ups_web'",
        "DELETE FROM upstreams WHERE id = 'ups_sealed'",
    ),
    "tools": (
        "INSERT INTO tools VALUES ('tool_new', 'ups_web', 'new', '{}', NULL, NULL, true, true)",
        "UPDATE tools SET visibility = 'public' WHERE id = 'tool_diary_write'",
        "DELETE FROM tools WHERE id = 'tool_web_fetch'",
    ),
    "servers": (
        "INSERT INTO servers VALUES ('srv_new', 'new', NULL, NULL, 'public', true, '[]')",
        "UPDATE servers SET visibility = 'public' WHERE id = 'srv_support'",
        "DELETE FROM servers WHERE id = 'srv_support'",
    ),
    "tokens": (
        "INSERT INTO tokens VALUES ('tok_new', 'usr_alice', '', 1, 4000000000, NULL, NULL, NULL, NULL)",
        "UPDATE tokens SET revoked_at = NULL WHERE id = 'tok_narrow'",
        "DELETE FROM tokens WHERE id = 'tok_narrow'",
    ),
}
"""For each table an insert, an update and a delete, in the furnished database."""
each_change = pytest.mark.parametrize("change", [each for changes in CHANGES.values() for each in changes])

ADD_A_TEAM = CHANGES["teams"][0]
ADVANCE = "UPDATE authz_head SET rev = rev + 1"
NEW_EPOCH = "UPDATE authz_head SET rev = rev + 1, floor = rev + 1, epoch = gen_random_uuid()"


def log_row(kind: str, key: str, payload: str = "'{}'") -> str:
    return f"INSERT INTO authz_log (rev, kind, key, payload) SELECT rev, '{kind}', '{key}', {payload} FROM authz_head"


@pytest.fixture
async def revision(database: SqlDatabase) -> int:
    """The revision of the database, with the small world in it, a token, and what nothing refers to."""
    return (await database.write(inserting(*world.entities(), NARROW, SEALED, *SPARE))).revision


def test_every_table_of_entities_is_tried() -> None:
    assert list(CHANGES) == [table.name for table in TABLES.values()]


def test_no_version_may_know_the_kinds_that_state_no_change() -> None:
    assert not set(NO_ENTITY) & set(Kind)


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


@on_postgresql
@each_change
async def test_a_change_without_its_log_row_is_refused_and_says_what_to_do(
    database: SqlDatabase, by_hand: RunByHand, revision: int, change: str
) -> None:
    with pytest.raises(IntegrityError, match=r"without its row in authz_log\n.*change it through the API, or"):
        by_hand(change)
    assert (await database.write(inserting())).revision == revision


@on_postgresql
@pytest.mark.parametrize(
    "log",
    [
        [ADVANCE, log_row("team", "team_other")],
        [ADVANCE, log_row("user", "team_new")],
        [ADVANCE, log_row("team", "team_new", "NULL")],
        ["UPDATE authz_head SET rev = rev + 1, floor = rev + 1"],
        ["UPDATE authz_head SET floor = rev"],
        [f"INSERT INTO authz_log (rev, kind, key, payload) VALUES ({2**40}, 'team', 'team_new', '{{}}')"],
        ["INSERT INTO authz_log (rev, kind, key, payload) VALUES (-1, 'team', 'team_new', '{}')"],
    ],
    ids=[
        "another key",
        "another kind",
        "a deletion",
        "the old epoch",
        "a floor alone",
        "above the head",
        "below the floor",
    ],
)
async def test_a_log_row_of_something_else_or_where_nobody_reads_it_does_not_do(
    by_hand: RunByHand, revision: int, log: list[str]
) -> None:
    with pytest.raises(IntegrityError, match="insert of `team_new` in teams without its row in authz_log"):
        by_hand(ADD_A_TEAM, *log)


@on_postgresql
async def test_a_log_row_or_an_epoch_of_an_earlier_transaction_does_not_do(by_hand: RunByHand, revision: int) -> None:
    by_hand(ADVANCE, log_row("team", "team_new"))
    by_hand(NEW_EPOCH)
    with pytest.raises(IntegrityError, match="insert of `team_new`"):
        by_hand(ADD_A_TEAM)


@on_postgresql
async def test_an_id_cannot_be_changed_under_the_log_row_of_the_new_one(by_hand: RunByHand, revision: int) -> None:
    with pytest.raises(IntegrityError, match="update of `team_moved`"):
        by_hand("UPDATE teams SET id = 'team_moved' WHERE id = 'team_spare'", ADVANCE, log_row("team", "team_moved"))


@on_postgresql
async def test_a_change_with_its_log_row_is_followed(feed: SqlFeedSource, by_hand: RunByHand, revision: int) -> None:
    payload = '\'{"id":"team_new","slug":"new","name":"","active":true}\''
    by_hand(ADD_A_TEAM, ADVANCE, log_row("team", "team_new", payload))
    by_hand("DELETE FROM teams WHERE id = 'team_new'", ADVANCE, log_row("team", "team_new", "NULL"))
    changes = (await feed.poll(revision)).changes
    assert [change.entity for change in changes] == [Team(TeamId("team_new"), "new", "", True), None]


@on_postgresql
async def test_what_the_refusal_says_to_do_makes_every_instance_load_anew(
    feed: SqlFeedSource, by_hand: RunByHand, revision: int
) -> None:
    before = await feed.poll(revision)
    with pytest.raises(IntegrityError) as refused:
        by_hand(ADD_A_TEAM)
    advice = str(refused.value.orig).rpartition("end the same transaction with: ")[2].split("\n")[0]
    assert advice == NEW_EPOCH
    by_hand(ADD_A_TEAM, advice)
    after = await feed.poll(revision)
    assert after.epoch != before.epoch
    assert (after.revision, after.floor, after.changes) == (revision + 1, revision + 1, ())


@on_postgresql
async def test_an_epoch_that_was_rolled_back_does_not_do(
    feed: SqlFeedSource, by_hand: RunByHand, revision: int
) -> None:
    begin = ("SAVEPOINT here", NEW_EPOCH)
    with pytest.raises(IntegrityError, match="insert of `team_new`"):
        by_hand(ADD_A_TEAM, *begin, "ROLLBACK TO here")
    by_hand(ADD_A_TEAM, *begin, "RELEASE here")
    assert (await feed.load()).directory.revision == revision + 1


@on_postgresql
@pytest.mark.parametrize("table", [*CHANGES, "authz_head", "authz_log"])
async def test_truncating_is_refused_even_in_a_new_epoch(by_hand: RunByHand, revision: int, table: str) -> None:
    with pytest.raises(IntegrityError, match="gateways that run would not notice it"):
        by_hand(NEW_EPOCH, f"TRUNCATE {table} CASCADE")


@on_postgresql
async def test_a_row_of_the_log_is_never_changed(by_hand: RunByHand, revision: int) -> None:
    with pytest.raises(IntegrityError, match="update of authz_log: gateways that run would not notice it"):
        by_hand("UPDATE authz_log SET payload = NULL WHERE rev = 1")


@on_postgresql
async def test_a_log_that_a_temporary_table_hides_still_counts(by_hand: RunByHand, revision: int) -> None:
    hidden = "CREATE TEMPORARY TABLE authz_log (LIKE authz_log) ON COMMIT DROP"
    with pytest.raises(IntegrityError, match="insert of `team_new`"):
        by_hand(
            hidden,
            ADD_A_TEAM,
            "INSERT INTO authz_log (rev, kind, key, payload, at) VALUES (9, 'team', 'team_new', '', now())",
        )


# --- SQLite -------------------------------------------------------------------------------------------------------


@on_sqlite
@each_change
async def test_a_change_is_logged_so_that_every_instance_loads_anew(
    feed: SqlFeedSource, by_hand: RunByHand, revision: int, change: str
) -> None:
    by_hand(change)
    with pytest.raises(UnreadableLog, match=f"revision {revision + 1} of the log"):
        await feed.poll(revision)
    assert (await feed.poll(revision + 1)).revision == revision + 1


@on_sqlite
async def test_it_is_logged_what_was_changed(by_hand: RunByHand, revision: int, sqlite_path: Path) -> None:
    by_hand(ADD_A_TEAM, "UPDATE authz_log SET payload = NULL WHERE rev = 1", "DELETE FROM teams WHERE id = 'team_new'")
    rows = driver.connect(str(sqlite_path)).execute(f"SELECT kind, key FROM authz_log WHERE rev > {revision}")
    assert rows.fetchall() == [("unrecorded", key) for key in ("teams/team_new", "authz_log/1", "teams/team_new")]


@on_sqlite
async def test_what_the_store_writes_itself_is_logged_once(database: SqlDatabase, revision: int) -> None:
    assert (await database.write(inserting(numbered_team(1)))).revision == revision + 1
    assert (await database.write(lambda tx: tx.update(world.team(world.SEARCH, "found")))).revision == revision + 2
    assert (await database.write(lambda tx: tx.delete(SPARE[0]))).revision == revision + 3


@on_sqlite
async def test_a_transaction_of_the_store_hides_no_change_by_hand_after_it(
    database: SqlDatabase, feed: SqlFeedSource, by_hand: RunByHand, revision: int
) -> None:
    with pytest.raises(ZeroDivisionError):
        await database.write(failing_after(numbered_team(1)))
    await database.write(inserting(numbered_team(2)))
    by_hand(ADD_A_TEAM)
    with pytest.raises(UnreadableLog):
        await feed.poll(revision + 1)


# --- both ---------------------------------------------------------------------------------------------------------


async def test_a_bug_of_the_store_that_skips_the_log_row_is_noticed(
    url: str, feed: SqlFeedSource, revision: int
) -> None:
    engine = engine_for(located(url), ONE, 5.0)
    statement = insert(teams).values(id="team_new", slug="new", name="", active=True)
    try:
        with transaction(engine, Access.WRITE, 5.0) as connection:
            connection.execute(statement, execution_options=RECORDED)
    except IntegrityError:
        assert (await feed.poll(revision)).revision == revision
    else:
        with pytest.raises(UnreadableLog):
            await feed.poll(revision)
    finally:
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def own_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of the test's own."""
    if request.param == "sqlite":
        migrate(f"sqlite:///{tmp_path}/own.db")
        yield f"sqlite:///{tmp_path}/own.db"
        return
    server: Server = request.getfixturevalue("postgres_server")
    with fresh_database(server) as name:
        migrate(server.url(name))
        yield server.url(name)


def test_a_database_that_lost_a_trigger_is_not_used(own_url: str) -> None:
    found = triggers(own_url)
    assert len(found) >= 18
    for lose, restore in found:
        execute(own_url, lose)
        with pytest.raises(
            ConfigurationError, match=r"has lost the trigger `.*: enable it again, or restore the schema"
        ):
            check_usable(own_url)
        execute(own_url, restore)
        check_usable(own_url)


def triggers(url: str) -> list[tuple[str, str]]:
    """How to lose each trigger, and how to have it again."""
    if url.startswith("sqlite"):
        found = execute(url, "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        return [(f"DROP TRIGGER {name}", sql) for name, sql in found]
    found = execute(
        url, "SELECT tgname, tgrelid::regclass, 0 FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE 'authz%'"
    )
    alter = "ALTER TABLE {} {} TRIGGER {}"
    return [(alter.format(table, "DISABLE", name), alter.format(table, "ENABLE", name)) for name, table, _ in found]


def execute(url: str, statement: str) -> list[tuple[str, ...]]:
    if url.startswith("sqlite"):
        with driver.connect(url.removeprefix("sqlite:///")) as file:
            return list(file.execute(statement))
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement.encode())
        return list(cursor) if cursor.description else []
