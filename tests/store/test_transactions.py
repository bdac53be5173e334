"""What a write promises to use cases: entities as they were, conflicts in words, and nothing half done."""

import contextlib
from functools import partial

import pytest
from msgspec.structs import replace

from sluicegate.core.catalog import Entity, Membership, Team, Token, Tool, Upstream, User, VirtualServer
from sluicegate.core.errors import Conflict, InvalidInput, NotFound
from sluicegate.core.identity import TeamId, ToolId, UpstreamId, UserId
from sluicegate.core.permissions import Role
from sluicegate.ports import Transaction
from sluicegate.store import SqlDatabase
from tests.store.writing import ABSENT, EMPTY, NARROW, SEALED, inserting
from tests.support import world
from tests.support.world import ALICE, CLOCK, OLGA, PAYMENTS, SEARCH, WEB


@pytest.fixture
async def furnished(database: SqlDatabase) -> SqlDatabase:
    """The database with the small world in it, at its revision 18."""
    await database.write(inserting(*world.entities()))
    return database


async def stored(database: SqlDatabase, kind: type[Entity]) -> list[str]:
    """The ids of all rows of the kind."""
    rows = (await database.write(lambda tx: tx.all(kind))).value
    return [row.id for row in rows]  # type: ignore[attr-defined]


def getting(entity: Entity, tx: Transaction) -> Entity | None:
    return tx.get(type(entity), entity.id)  # type: ignore[attr-defined]


async def test_every_entity_comes_back_as_it_was_written(furnished: SqlDatabase) -> None:
    await furnished.write(inserting(SEALED, NARROW, EMPTY, ABSENT))
    for entity in [*world.entities(), SEALED, NARROW, EMPTY, ABSENT]:
        written = await furnished.write(partial(getting, entity))
        assert written.value == entity


async def test_an_update_replaces_the_row(furnished: SqlDatabase) -> None:
    closed = replace(world.team(PAYMENTS, "payments"), active=False, name="Money")
    await furnished.write(lambda tx: tx.update(closed))
    assert (await furnished.write(lambda tx: tx.get(Team, PAYMENTS))).value == closed


async def test_what_is_not_there_is_none(furnished: SqlDatabase) -> None:
    assert (await furnished.write(lambda tx: tx.get(Team, "team_nobody"))).value is None


async def test_rows_are_found_by_their_columns_in_the_order_of_ids(furnished: SqlDatabase) -> None:
    found = (await furnished.write(lambda tx: tx.find(Tool, upstream_id=CLOCK))).value
    assert [tool.name for tool in found] == ["now", "sleep"]
    assert (await furnished.write(lambda tx: tx.find(Tool, upstream_id=CLOCK, name="sleep"))).value == found[1:]
    assert (await furnished.write(lambda tx: tx.find(Tool, name="nothing"))).value == []


async def test_ids_are_ordered_by_their_bytes(database: SqlDatabase) -> None:
    ids = ["team_Z", "team__", "team_a", "team_b0", "team_b_"]
    await database.write(inserting(*(Team(TeamId(key), f"t{n}", "", True) for n, key in enumerate(reversed(ids)))))
    assert await stored(database, Team) == ids


async def test_an_email_address_is_one_in_any_case(furnished: SqlDatabase) -> None:
    with pytest.raises(Conflict, match="choose another email") as conflict:
        await furnished.write(inserting(User(UserId("usr_new"), "Alice@Example.COM", True, False)))
    assert conflict.value.code == "email_taken"
    found = (await furnished.write(lambda tx: tx.find(User, email="ALICE@example.com"))).value
    assert [user.id for user in found] == [ALICE]


async def test_an_email_address_is_stored_and_logged_in_lower_case(database: SqlDatabase) -> None:
    await database.write(inserting(User(UserId("usr_new"), "New@Example.COM", True, False)))
    logged = (await database.feed_source().poll(0)).changes[0].entity
    loaded = (await database.feed_source().load()).directory.users[UserId("usr_new")]
    assert logged == loaded == User(UserId("usr_new"), "new@example.com", True, False)


@pytest.mark.parametrize(
    "rival, code, message",
    [
        (
            Team(TeamId("team_new"), "payments", "", True),
            "slug_taken",
            "team `payments` exists already: choose another slug",
        ),
        (
            replace(SEALED, slug="clock"),
            "slug_taken",
            "upstream `clock` exists already: choose another slug",
        ),
        (
            replace(world.server("web__*"), id="srv_new"),
            "slug_taken",
            "virtual server `support` exists already: choose another slug",
        ),
        (
            replace(world.tool(CLOCK, "now"), id=ToolId("tool_new")),
            "name_taken",
            "tool `now` exists already: choose another name",
        ),
        (
            world.member(ALICE, PAYMENTS, Role.VIEWER),
            "id_taken",
            "membership `usr_alice/team_payments` exists already",
        ),
        (
            world.member(ALICE, TeamId("team_gone"), Role.VIEWER),
            "reference_gone",
            "membership `usr_alice/team_gone` refers to team `team_gone` or user `usr_alice`: it does not exist",
        ),
        (
            world.tool(UpstreamId("ups_gone"), "now"),
            "reference_gone",
            "tool `now` refers to upstream `ups_gone`: it does not exist",
        ),
    ],
)
async def test_a_conflict_names_what_is_taken(furnished: SqlDatabase, rival: Entity, code: str, message: str) -> None:
    with pytest.raises(Conflict) as conflict:
        await furnished.write(inserting(rival))
    assert (conflict.value.code, str(conflict.value)) == (code, message)


async def test_a_rename_to_a_taken_name_is_a_conflict(furnished: SqlDatabase) -> None:
    with pytest.raises(Conflict, match="team `search` exists already: choose another slug"):
        await furnished.write(lambda tx: tx.update(world.team(PAYMENTS, "search")))


async def test_a_conflict_that_the_work_swallows_still_undoes_everything(furnished: SqlDatabase) -> None:
    def work(tx: Transaction) -> None:
        tx.insert(world.team(TeamId("team_first"), "first"))
        with contextlib.suppress(Conflict):
            tx.insert(world.team(TeamId("team_second"), "payments"))

    with pytest.raises(Conflict, match="`payments`"):
        await furnished.write(work)
    assert await stored(furnished, Team) == [PAYMENTS, SEARCH]


async def test_nothing_can_follow_a_conflict(furnished: SqlDatabase) -> None:
    def work(tx: Transaction) -> None:
        with contextlib.suppress(Conflict):
            tx.insert(world.team(TeamId("team_second"), "payments"))
        tx.all(Team)
        pytest.fail("went on after a conflict")

    with pytest.raises(Conflict, match="`payments`"):
        await furnished.write(work)


async def test_an_error_of_the_work_undoes_everything(furnished: SqlDatabase) -> None:
    def work(tx: Transaction) -> None:
        tx.insert(world.team(TeamId("team_new"), "new"))
        raise InvalidInput("changed my mind")

    with pytest.raises(InvalidInput, match="changed my mind"):
        await furnished.write(work)
    assert await stored(furnished, Team) == [PAYMENTS, SEARCH]


@pytest.mark.parametrize("gone", [world.team(TeamId("team_gone"), "gone"), SEALED], ids=["team", "upstream"])
async def test_what_is_gone_can_be_neither_changed_nor_deleted(furnished: SqlDatabase, gone: Entity) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        await furnished.write(lambda tx: tx.update(gone))
    with pytest.raises(NotFound, match="does not exist"):
        await furnished.write(lambda tx: tx.delete(gone))


async def test_a_users_tokens_and_memberships_go_with_the_user(furnished: SqlDatabase) -> None:
    await furnished.write(inserting(NARROW, ABSENT))
    written = await furnished.write(lambda tx: tx.delete(world.user(ALICE)))
    changes = (await furnished.feed_source().poll(written.revision - 4)).changes
    assert [(change.key, change.entity) for change in changes] == [
        ("usr_alice/team_payments", None),
        ("tok_absent", None),
        ("tok_narrow", None),
        ("usr_alice", None),
    ]
    assert await stored(furnished, Token) == []


async def test_an_upstreams_tools_go_with_the_upstream(furnished: SqlDatabase) -> None:
    written = await furnished.write(lambda tx: tx.delete(tx.find(Upstream, id=CLOCK)[0]))
    changes = (await furnished.feed_source().poll(written.revision - 3)).changes
    assert [(change.key, change.entity) for change in changes] == [
        ("tool_clock_now", None),
        ("tool_clock_sleep", None),
        ("ups_clock", None),
    ]
    assert await stored(furnished, Tool) == ["tool_diary_write", "tool_web_fetch"]


async def test_a_teams_memberships_go_with_the_team(furnished: SqlDatabase) -> None:
    written = await furnished.write(lambda tx: tx.delete(world.team(SEARCH, "search")))
    changes = (await furnished.feed_source().poll(written.revision - 2)).changes
    assert [(change.key, change.entity) for change in changes] == [
        ("usr_bob/team_search", None),
        ("team_search", None),
    ]
    assert "usr_bob/team_search" not in await stored(furnished, Membership)


@pytest.mark.parametrize(
    "doomed, message",
    [
        (world.team(PAYMENTS, "payments"), "team `payments` still has upstream `clock`: move or delete that first"),
        (world.user(OLGA), "user `olga@example.com` still has upstream `diary`: move or delete that first"),
    ],
    ids=["team", "user"],
)
async def test_what_others_depend_on_is_not_deleted(furnished: SqlDatabase, doomed: Entity, message: str) -> None:
    before = (await furnished.feed_source().poll(0)).revision
    with pytest.raises(Conflict) as conflict:
        await furnished.write(lambda tx: tx.delete(doomed))
    assert (conflict.value.code, str(conflict.value)) == ("in_use", message)
    assert (await furnished.feed_source().poll(0)).revision == before


async def test_a_tool_that_was_given_to_a_team_keeps_the_team(furnished: SqlDatabase) -> None:
    await furnished.write(lambda tx: tx.update(world.tool(WEB, "fetch", team=SEARCH)))
    with pytest.raises(Conflict, match="team `search` still has tool `fetch`"):
        await furnished.write(lambda tx: tx.delete(world.team(SEARCH, "search")))


@pytest.mark.parametrize("name", ["nul\0", "half \ud800"])
async def test_text_that_a_database_cannot_hold_is_refused(database: SqlDatabase, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await database.write(inserting(Team(TeamId("team_odd"), "odd", name, True)))
    assert refused.value.code == "invalid_text"


async def test_the_servers_of_a_team_keep_it(furnished: SqlDatabase) -> None:
    def work(tx: Transaction) -> None:
        for upstream in tx.find(Upstream, team_id=PAYMENTS):
            tx.delete(upstream)
        tx.delete(world.team(PAYMENTS, "payments"))

    with pytest.raises(Conflict, match="team `payments` still has virtual server `support`"):
        await furnished.write(work)
    assert await stored(furnished, VirtualServer) == ["srv_support"]
