"""The directory changes by revisions alone, and its indexes follow."""

import pytest
from msgspec.structs import replace

from sluicegate.core.catalog import KIND_OF, Kind, Token
from sluicegate.core.directory import Directory, RevisionGap, digest_of
from sluicegate.core.events import Change, decode_change, encode_entity
from sluicegate.core.identity import TeamId, TokenId, UserId
from sluicegate.core.permissions import Role
from sluicegate.core.routing import selection_of
from tests.support.world import ALICE, CLOCK, PAYMENTS, SEARCH, SUPPORT, entities, member, team, tool, user, world


def test_a_change_that_is_not_the_next_revision_is_refused_and_changes_nothing():
    directory = world()
    for rev in (1, 3):
        with pytest.raises(RevisionGap):
            directory.apply(Change(rev, Kind.USER, ALICE, None))
    assert directory.revision == 1
    assert directory.user("alice@example.com") is not None


def test_a_user_is_found_by_id_and_by_email_in_any_case():
    assert world().user(ALICE) == world().user("Alice@Example.COM")


def test_a_changed_membership_replaces_the_role_and_a_deleted_one_is_gone():
    directory = world()
    directory.apply(Change(2, Kind.MEMBERSHIP, f"{ALICE}/{PAYMENTS}", member(ALICE, PAYMENTS, Role.OWNER)))
    assert directory.roles_of(ALICE) == ((PAYMENTS, Role.OWNER),)
    directory.apply(Change(3, Kind.MEMBERSHIP, f"{ALICE}/{SEARCH}", member(ALICE, SEARCH, Role.VIEWER)))
    directory.apply(Change(4, Kind.MEMBERSHIP, f"{ALICE}/{PAYMENTS}", None))
    assert directory.roles_of(ALICE) == ((SEARCH, Role.VIEWER),)


def test_a_renamed_user_is_no_longer_found_by_the_old_address():
    directory = world()
    directory.apply(Change(2, Kind.USER, ALICE, replace(user(ALICE), email="new@example.com")))
    assert directory.user("alice@example.com") is None
    assert directory.user("new@example.com") is not None


def test_a_new_tool_appears_in_the_servers_that_select_it():
    directory = world()
    before = selection_of(directory.servers[SUPPORT], directory)
    directory.apply(Change(2, Kind.TOOL, "tool_clock_zone", tool(CLOCK, "zone")))
    after = selection_of(directory.servers[SUPPORT], directory)
    assert set(after.by_name) - set(before.by_name) == {"zone"}


@pytest.mark.parametrize("entity", entities(), ids=lambda entity: f"{type(entity).__name__}-{entity.id}")
def test_every_entity_survives_the_way_through_the_log(entity):
    kind = KIND_OF[type(entity)]
    assert decode_change(7, kind, entity.id, encode_entity(entity)) == Change(7, kind, entity.id, entity)


def test_every_kind_can_be_deleted_and_put_again():
    directory = world()
    rev = 1
    for entity in entities():
        kind = KIND_OF[type(entity)]
        for state in (None, entity):
            rev += 1
            directory.apply(Change(rev, kind, entity.id, state))  # type: ignore[attr-defined]
    fresh = world()
    for name in ("teams", "users", "upstreams", "tools", "servers", "tokens"):
        assert getattr(directory, name) == getattr(fresh, name)
    assert directory.tools_of(CLOCK) == fresh.tools_of(CLOCK)
    assert directory.roles_of(ALICE) == fresh.roles_of(ALICE)


def test_the_catalog_stands_at_the_last_change_that_a_list_can_show():
    directory = world()
    shown = {Kind.TEAM, Kind.UPSTREAM, Kind.TOOL, Kind.SERVER}
    tokens = [Token(TokenId("tok_x"), ALICE, "", 0, 9, None, None, None, None)]
    for rev, entity in enumerate([*entities(), *tokens], 2):
        kind, before = KIND_OF[type(entity)], directory.catalog_revision
        directory.apply(Change(rev, kind, entity.id, entity))  # type: ignore[attr-defined]
        assert directory.catalog_revision == (rev if kind in shown else before)


def test_tokens_that_expired_before_the_load_are_left_out_however_they_come():
    old, good = (Token(TokenId(f"tok_{at}"), ALICE, "", 0, at, None, None, None, None) for at in (99, 100))
    directory = Directory("epoch", 1, [old, good], tokens_from=100)
    assert list(directory.tokens) == [good.id]
    directory.apply(Change(2, Kind.TOKEN, old.id, replace(old, revoked_at=5)))
    directory.apply(Change(3, Kind.TOKEN, good.id, replace(good, expires_at=50)))
    assert directory.tokens == {}
    assert directory.digest == 0


def test_swapped_roles_are_another_digest():
    """Sums of the hashes of tuples would be equal in a third of all swaps."""
    for number in range(50):
        one, other = UserId(f"usr_{number}"), UserId(f"usr_x{number}")
        viewer, owner = (lambda user, role=role: member(user, PAYMENTS, role) for role in (Role.VIEWER, Role.OWNER))
        assert digest_of([viewer(one), owner(other)]) != digest_of([owner(one), viewer(other)])


def test_swapped_names_are_another_digest():
    for number in range(50):
        one, other = TeamId(f"team_{number}"), TeamId(f"team_x{number}")
        assert digest_of([team(one, "a"), team(other, "b")]) != digest_of([team(one, "b"), team(other, "a")])


@pytest.mark.parametrize("payload", [b"{}", b"nonsense", b'{"id":1}'])
def test_a_payload_that_does_not_fit_is_refused(payload):
    with pytest.raises(ValueError, match=r"."):
        decode_change(1, "team", "team_x", payload)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="planet"):
        decode_change(1, "planet", "x", None)
