"""However a directory came to its state, by loading or by changes in any order, it is the same directory."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sluicegate.core.catalog import KIND_OF, Entity, Kind, Membership, Tool
from sluicegate.core.definitions import sealed
from sluicegate.core.directory import TABLES, Directory, Roles, digest_of, role_text
from sluicegate.core.events import Change
from sluicegate.core.identity import UserId
from tests.core.worlds import SLUGS, TEAMS, UPSTREAMS, USERS, entities

NAMES = ["t-0", "t-1", "t-2", "a@x", "b@x", "c@x", "server-0", "server-1", *SLUGS]


def key_of(entity: Entity) -> tuple[Kind, str]:
    return KIND_OF[type(entity)], entity.id  # type: ignore[attr-defined]  # Entity states no fields


def assert_same(one: Directory, other: Directory) -> None:
    """Everything that can be asked of the two has one answer."""
    for table in TABLES.values():
        assert getattr(one, table) == getattr(other, table)
    for name in NAMES:
        for lookup in ("team", "user", "upstream", "server", "upstream_by_slug"):
            assert getattr(one, lookup)(name) == getattr(other, lookup)(name)
    for upstream_id in UPSTREAMS:
        assert one.tools_of(upstream_id) == other.tools_of(upstream_id)
        assert one.terms_of(upstream_id) == other.terms_of(upstream_id)
    for user_id in USERS:
        assert one.roles_of(user_id) == other.roles_of(user_id)
        assert all(one.role_in(user_id, team_id) == other.role_in(user_id, team_id) for team_id in TEAMS)
    assert (one.digest, len(one)) == (other.digest, len(other))


@settings(deadline=None)
@given(entities(), entities(), st.data())
def test_changes_in_any_order_lead_to_what_is_loaded(before: list[Entity], after: list[Entity], data: st.DataObject):
    """In any order: a transaction that swaps two names has a row for each, and either may come first."""
    directory = Directory("epoch", 1, before)
    then = {key_of(entity): entity for entity in after}
    changed = data.draw(st.permutations(sorted({key_of(entity) for entity in before} | set(then))))
    for rev, (kind, key) in enumerate(changed, 2):
        directory.apply(Change(rev, kind, key, then.get((kind, key))))
    assert_same(directory, Directory("epoch", 1, after))


@settings(deadline=None)
@given(entities())
def test_deleting_everything_leaves_nothing(held: list[Entity]) -> None:
    directory = Directory("epoch", 1, held)
    for rev, entity in enumerate(held, 2):
        directory.apply(Change(rev, *key_of(entity), None))
    assert_same(directory, Directory("epoch", 1, []))
    assert (directory.digest, len(directory)) == (0, 0)


@settings(deadline=None)
@given(entities(), st.randoms())
def test_what_is_loaded_compactly_is_the_same(held: list[Entity], chance) -> None:
    """All roles of a user at once, and definitions sealed, as a store loads them."""
    roles = [roles_of(user, held) for user in USERS]
    others = [entity for entity in held if not isinstance(entity, Membership | Tool)]
    compact: list[Entity | Roles] = [
        *others,
        *(each for each in roles if each.held),
        *(in_a_seal(each) for each in tools_in(held)),
    ]
    chance.shuffle(compact)
    plain, loaded = Directory("epoch", 1, held), Directory("epoch", 1, compact)
    assert loaded.digest == plain.digest == digest_of(compact) == digest_of(held)
    assert {tool.id: tool.described for tool in loaded.tools.values()} == {t.id: t.described for t in tools_in(held)}
    for rev, entity in enumerate(held, 2):
        loaded.apply(Change(rev, *key_of(entity), entity))
    assert_same(loaded, plain)


@settings(deadline=None)
@given(entities(), entities())
def test_a_digest_is_equal_only_of_the_same(one: list[Entity], other: list[Entity]) -> None:
    same = {key_of(each): each for each in one} == {key_of(each): each for each in other}
    assert (digest_of(one) == digest_of(other)) is same


def roles_of(user: UserId, held: list[Entity]) -> Roles:
    pairs = sorted((each.team_id, each.role) for each in held if isinstance(each, Membership) and each.user_id == user)
    return Roles(user, tuple(pairs), sum(hash(role_text(*pair)) for pair in pairs))


def tools_in(held: list[Entity]) -> list[Tool]:
    return [entity for entity in held if isinstance(entity, Tool)]


def in_a_seal(tool: Tool) -> Tool:
    return replace(tool, definition=sealed([("other", "[]"), (tool.name, tool.described)]))
