"""Loading: everything, compactly, in one go; what cannot be read is named, and what is too much is refused in words."""

import itertools

import pytest
from msgspec.structs import replace

from sluicegate.core.catalog import Tool
from sluicegate.core.definitions import Sealed as SealedTogether
from sluicegate.core.directory import Directory
from sluicegate.core.errors import ConfigurationError, DirectoryTooLarge
from sluicegate.core.identity import TeamId
from sluicegate.core.permissions import Role
from sluicegate.ports import UnreadableLog
from sluicegate.store import SqlDatabase, SqlFeedSource, check_loadable, loading
from tests.store.conftest import Open, RunSql
from tests.store.writing import ABSENT, EMPTY, NARROW, SEALED, inserting
from tests.support import world
from tests.support.world import ALICE, CLOCK, OLGA, PAYMENTS, SEARCH, VERA, WEB, member, tool

EVERYTHING = [*world.entities(), member(ALICE, SEARCH, Role.VIEWER), SEALED, NARROW, EMPTY, ABSENT]


@pytest.fixture
async def filled(database: SqlDatabase) -> SqlDatabase:
    await database.write(inserting(*EVERYTHING))
    return database


async def test_what_is_loaded_is_what_was_written(filled: SqlDatabase, feed: SqlFeedSource) -> None:
    directory, plain = (await feed.load()).directory, Directory("epoch", 1, EVERYTHING)
    for kind in ("teams", "users", "upstreams", "servers", "tokens"):
        assert getattr(directory, kind) == getattr(plain, kind)
    described = [replace(each, definition=each.described) for each in directory.tools.values()]
    assert {each.id: each for each in described} == plain.tools
    assert [directory.roles_of(user) for user in plain.users] == [plain.roles_of(user) for user in plain.users]
    assert (directory.digest, len(directory)) == (plain.digest, len(EVERYTHING))


async def test_equal_ids_are_one_string_and_equal_roles_one_pair(filled: SqlDatabase, feed: SqlFeedSource) -> None:
    directory = (await feed.load()).directory
    team, upstream = directory.teams[PAYMENTS], directory.upstreams[CLOCK]
    assert upstream.team_id is team.id
    assert directory.servers[world.SUPPORT].team_id is team.id
    assert all(each.upstream_id is upstream.id for each in directory.tools_of(CLOCK).values())
    assert directory.upstreams[SEALED.id].owner_id is directory.users[OLGA].id
    assert directory.tokens[NARROW.id].user_id is directory.users[ALICE].id
    await filled.write(inserting(member(VERA, SEARCH, Role.VIEWER)))
    directory = (await feed.load()).directory
    (of_alice,) = (held for held in directory.roles_of(ALICE) if held[0] == SEARCH)
    (of_vera,) = (held for held in directory.roles_of(VERA) if held[0] == SEARCH)
    assert of_alice is of_vera
    assert of_alice[0] is directory.teams[SEARCH].id


async def test_what_a_change_brings_is_shared_as_well(filled: SqlDatabase, feed: SqlFeedSource) -> None:
    directory = (await feed.load()).directory
    await filled.write(inserting(member(VERA, SEARCH, Role.OWNER), member(OLGA, SEARCH, Role.OWNER)))
    for change in (await feed.poll(directory.revision)).changes:
        directory.apply(change)
    (of_vera,) = (held for held in directory.roles_of(VERA) if held[0] == SEARCH)
    (of_olga,) = (held for held in directory.roles_of(OLGA) if held[0] == SEARCH)
    assert of_vera is of_olga
    assert of_vera[0] is directory.teams[SEARCH].id


async def test_roles_are_in_the_order_of_teams_however_many(database: SqlDatabase, feed: SqlFeedSource) -> None:
    teams = [world.team(TeamId(f"team_{number:03}"), f"t{number}") for number in range(12)]
    roles = [member(ALICE, team.id, list(Role)[number % 3]) for number, team in enumerate(teams)]
    await database.write(inserting(world.user(ALICE), *teams, *reversed(roles)))
    directory = (await feed.load()).directory
    assert directory.roles_of(ALICE) == tuple((each.team_id, each.role) for each in roles)
    assert all(directory.role_in(ALICE, each.team_id) is each.role for each in roles)
    assert directory.role_in(ALICE, TeamId("team_")) is None
    assert directory.role_in(ALICE, TeamId("team_zzz")) is None


async def test_definitions_of_an_upstream_are_sealed_together_up_to_a_size(
    database: SqlDatabase, feed: SqlFeedSource
) -> None:
    long = [replace(tool(CLOCK, f"t{n}"), definition=f'{{"x":"{n:0{loading.SEALED // 3}}"}}') for n in range(5)]
    huge = replace(tool(CLOCK, "u"), definition=f'{{"x":"{"y" * 2 * loading.SEALED}"}}')
    others = [entity for entity in world.entities() if not isinstance(entity, Tool)]
    await database.write(inserting(*others, *long, huge, tool(WEB, "fetch"), tool(WEB, "find")))
    directory = (await feed.load()).directory
    seals = {each.name: each.definition for each in directory.tools.values()}
    assert seals["fetch"] is seals["find"]
    of_clock = {id(seal): seal for name, seal in seals.items() if name not in ("fetch", "find")}.values()
    assert len(of_clock) >= 4
    assert all(isinstance(seal, SealedTogether) and len(seal.names) <= 2 for seal in of_clock)
    for each in (*long, huge):
        assert directory.tools[each.id].described == each.definition


async def test_neighbours_in_a_list_are_sealed_together_in_whatever_order_they_were_written(
    database: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql
) -> None:
    names = [f"t{number}" for number in range(10)]
    written = [
        replace(tool(CLOCK, name), definition=f'{{"x":"{"y" * (loading.SEALED // 4)}"}}')
        for name in names[::2] + names[1::2]
    ]
    others = [entity for entity in world.entities() if not isinstance(entity, Tool)]
    await database.write(inserting(*others, *written))
    run_sql("ANALYZE")  # so that PostgreSQL reads so small a table as it lies, and not along an index
    tools = (await feed.load()).directory.tools_of(CLOCK)
    in_order = [id(tools[name].definition) for name in names]
    assert 1 + sum(one != other for one, other in itertools.pairwise(in_order)) == len(set(in_order)) > 1


async def test_tools_of_one_name_keep_the_definitions_of_their_upstreams(
    database: SqlDatabase, feed: SqlFeedSource
) -> None:
    alike = [replace(tool(each, name), definition=f'{{"of":"{each}"}}') for name in "ab" for each in (CLOCK, WEB)]
    others = [entity for entity in world.entities() if not isinstance(entity, Tool)]
    await database.write(inserting(*others, *alike))
    directory = (await feed.load()).directory
    assert {each.id: directory.tools[each.id].described for each in alike} == {
        each.id: each.definition for each in alike
    }
    ours, theirs = (directory.tools_of(each) for each in (CLOCK, WEB))
    assert ours["a"].definition is ours["b"].definition is not theirs["a"].definition


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("UPDATE memberships SET role = 'king' WHERE user_id = 'usr_vera'", "a membership cannot be read: .*king"),
        ("UPDATE upstreams SET visibility = 'some'", "a upstream cannot be read"),
        ("UPDATE upstreams SET auth = 'x'", "a upstream cannot be read"),
        ("UPDATE tools SET visibility = 'some'", "a tool cannot be read"),
        ("UPDATE servers SET tools = '{}'", "a virtual server cannot be read"),
        ("UPDATE tokens SET teams = '5'", "a token cannot be read"),
    ],
)
async def test_a_row_that_cannot_be_read_is_named_by_its_kind(
    filled: SqlDatabase, feed: SqlFeedSource, run_sql: RunSql, damage: str, sentence: str
) -> None:
    run_sql(damage)
    for reading in (feed.load(), feed.audit(0)):
        with pytest.raises(UnreadableLog, match=sentence):
            await reading
    assert (await feed.poll(0)).revision == len(EVERYTHING)  # the connection is good for the next


async def test_more_than_may_be_loaded_is_refused_with_what_to_do(
    filled: SqlDatabase, url: str, open_with: Open
) -> None:
    count = len(EVERYTHING)
    limited = open_with().feed_source(count - 1)
    with pytest.raises(DirectoryTooLarge, match=f"{count} entities.*SLUICEGATE_MAX_ENTITIES to {count}") as refused:
        await limited.load()
    with pytest.raises(ConfigurationError, match="SLUICEGATE_MAX_ENTITIES") as named:
        check_loadable(url, count - 1)
    assert str(named.value) == str(refused.value)
    assert len((await open_with().feed_source(count).load()).directory) == count
    check_loadable(url, count)


async def test_tokens_that_are_not_loaded_do_not_count(filled: SqlDatabase, url: str) -> None:
    await filled.write(inserting(replace(NARROW, id="tok_old", expires_at=1)))
    check_loadable(url, len(EVERYTHING))
