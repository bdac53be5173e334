"""The decision, as sentences. (The exhaustive proof, by properties and a second implementation, has its own issue.)"""

import pytest
from msgspec.structs import replace

from sluicegate.core import errors
from sluicegate.core.catalog import Token, Visibility
from sluicegate.core.identity import TokenId, UserId
from sluicegate.core.permissions import Permission
from sluicegate.core.policy import PLATFORM, Decision, Reason, decide, enforce, explain
from sluicegate.core.sieve import Sieve
from tests.support.world import (
    ALICE,
    BOB,
    CLOCK,
    DIARY,
    NOW,
    OLGA,
    PAYMENTS,
    ROOT,
    SEARCH,
    SUPPORT,
    VERA,
    WEB,
    ZOE,
    principal,
    server,
    team,
    tool,
    upstream,
    user,
    world,
)

CALL = Permission.TOOLS_CALL
now_tool, diary_tool, fetch_tool = tool(CLOCK, "now"), tool(DIARY, "write"), tool(WEB, "fetch")


def outcome(who, target, permission=CALL, directory=None) -> Reason:
    return decide(who, permission, target, directory or world(), NOW).reason


def test_a_developer_calls_the_tools_of_the_team():
    assert outcome(principal(ALICE), now_tool) is Reason.ALLOWED


def test_a_viewer_sees_the_tools_of_the_team_but_may_not_call_them():
    assert outcome(principal(VERA), now_tool, Permission.TOOLS_READ) is Reason.ALLOWED
    decision = decide(principal(VERA), CALL, now_tool, world(), NOW)
    assert decision.reason is Reason.PERMISSION_NOT_IN_ROLE
    assert not decision.hidden


def test_a_stranger_cannot_know_that_a_team_tool_exists():
    decision = decide(principal(BOB), CALL, now_tool, world(), NOW)
    assert (decision.reason, decision.hidden) == (Reason.NOT_A_MEMBER, True)


def test_anyone_authenticated_calls_public_tools_whatever_the_teams_of_the_token():
    assert outcome(principal(ZOE), fetch_tool) is Reason.ALLOWED
    assert outcome(principal(ALICE, teams=[]), fetch_tool) is Reason.ALLOWED


def test_a_token_narrowed_to_nothing_gives_public_tools_only():
    assert outcome(principal(ALICE, teams=[]), now_tool) is Reason.OUTSIDE_TOKEN_TEAMS


def test_a_token_naming_a_team_of_others_gives_nothing_there():
    assert outcome(principal(ALICE, teams=[SEARCH]), now_tool) is Reason.OUTSIDE_TOKEN_TEAMS
    assert outcome(principal(BOB, teams=[PAYMENTS]), now_tool) is Reason.NOT_A_MEMBER


def test_a_private_tool_is_its_owners_alone_and_no_admin_sees_it():
    assert outcome(principal(OLGA), diary_tool) is Reason.ALLOWED
    assert outcome(principal(ALICE), diary_tool) is Reason.NOT_THE_OWNER
    assert outcome(principal(ROOT), diary_tool, Permission.TOOLS_READ) is Reason.NOT_THE_OWNER


def test_ownership_does_not_beat_the_reach_of_the_token():
    assert outcome(principal(OLGA, teams=[]), diary_tool) is Reason.OUTSIDE_TOKEN_TEAMS
    assert outcome(principal(OLGA, teams=[SEARCH]), diary_tool) is Reason.OUTSIDE_TOKEN_TEAMS


def test_an_owner_who_left_the_team_loses_the_private_object():
    theirs = upstream(DIARY, team=SEARCH, visibility=Visibility.PRIVATE, owner=OLGA)
    assert outcome(principal(OLGA), diary_tool, directory=world(theirs)) is Reason.NOT_A_MEMBER


def test_a_deactivated_team_grants_nothing():
    directory = world(team(PAYMENTS, "payments", active=False))
    assert outcome(principal(ALICE), now_tool, directory=directory) is Reason.TEAM_INACTIVE
    assert outcome(principal(ROOT), now_tool, directory=directory) is Reason.TEAM_INACTIVE


def test_a_platform_admin_can_activate_a_deactivated_team_again():
    gone = team(PAYMENTS, "payments", active=False)
    assert outcome(principal(ROOT), gone, Permission.TEAMS_MANAGE, world(gone)) is Reason.ALLOWED
    assert outcome(principal(OLGA), gone, Permission.TEAMS_MANAGE, world(gone)) is Reason.TEAM_INACTIVE


@pytest.mark.parametrize("directory", [world(user(ALICE, active=False))])
def test_an_inactive_user_is_not_authenticated(directory):
    assert outcome(principal(ALICE), fetch_tool, directory=directory) is Reason.USER_INACTIVE
    assert outcome(principal(UserId("usr_unknown")), fetch_tool) is Reason.USER_INACTIVE


def test_a_token_ends_at_its_expiry_to_the_instant():
    assert outcome(principal(ALICE, expires_at=NOW), now_tool) is Reason.TOKEN_EXPIRED
    assert outcome(principal(ALICE, expires_at=NOW + 0.001), now_tool) is Reason.ALLOWED


def test_a_revoked_token_is_refused_by_the_decision_itself():
    revoked = Token(TokenId(f"tok_{ALICE}"), ALICE, "t", 0, int(NOW) + 9, int(NOW), None, None, None)
    assert outcome(principal(ALICE), fetch_tool, directory=world(revoked)) is Reason.TOKEN_REVOKED
    assert outcome(principal(ALICE), fetch_tool, directory=world(replace(revoked, revoked_at=None))) is Reason.ALLOWED


def test_permissions_of_the_token_narrow_the_role_and_never_widen_it():
    assert outcome(principal(ALICE, permissions=[Permission.TOOLS_READ]), now_tool) is Reason.PERMISSION_NOT_IN_TOKEN
    assert outcome(principal(ALICE, permissions=[]), fetch_tool) is Reason.PERMISSION_NOT_IN_TOKEN
    everything = principal(VERA, permissions=list(Permission))
    assert outcome(everything, now_tool) is Reason.PERMISSION_NOT_IN_ROLE


def test_a_token_with_a_server_reaches_that_server_and_what_it_selects():
    scoped = principal(ALICE, servers=[SUPPORT])
    assert outcome(scoped, server("clock__now"), Permission.SERVERS_USE) is Reason.ALLOWED
    directory = world(server("clock__now"))
    assert outcome(scoped, now_tool, directory=directory) is Reason.ALLOWED
    assert outcome(scoped, tool(CLOCK, "sleep"), directory=directory) is Reason.OUTSIDE_TOKEN_SERVERS
    assert outcome(scoped, team(PAYMENTS, "payments"), Permission.TEAMS_READ) is Reason.OUTSIDE_TOKEN_SERVERS


def test_a_token_with_no_servers_reaches_no_tool_at_all():
    assert outcome(principal(ALICE, servers=[]), fetch_tool) is Reason.OUTSIDE_TOKEN_SERVERS


def test_a_server_that_the_user_cannot_see_lends_its_tools_to_nobody():
    scoped = principal(ZOE, servers=[SUPPORT])
    assert outcome(scoped, fetch_tool) is Reason.OUTSIDE_TOKEN_SERVERS


@pytest.mark.parametrize(
    "directory",
    [
        world(tool(CLOCK, "now", enabled=False)),
        world(tool(CLOCK, "now", offered=False)),
        world(upstream(CLOCK, team=PAYMENTS, visibility=Visibility.TEAM, enabled=False)),
    ],
    ids=["tool disabled", "tool no longer offered", "upstream disabled"],
)
def test_what_is_switched_off_cannot_be_called_but_can_be_managed(directory):
    target = directory.tools[now_tool.id]
    assert outcome(principal(ALICE), target, directory=directory) is Reason.TARGET_DISABLED
    assert outcome(principal(OLGA), target, Permission.TOOLS_MANAGE, directory) is Reason.ALLOWED


def test_a_tool_may_be_open_to_fewer_or_to_others_than_its_upstream():
    hidden = tool(WEB, "fetch", visibility=Visibility.TEAM, team=PAYMENTS)
    assert outcome(principal(ZOE), hidden, directory=world(hidden)) is Reason.NOT_A_MEMBER
    assert outcome(principal(ALICE), hidden, directory=world(hidden)) is Reason.ALLOWED


def test_a_team_object_without_a_team_is_open_to_admins_only():
    nobodys = upstream(WEB, team=None, visibility=Visibility.TEAM)
    assert outcome(principal(ALICE), fetch_tool, directory=world(nobodys)) is Reason.NOT_A_MEMBER
    assert outcome(principal(ROOT), fetch_tool, directory=world(nobodys)) is Reason.ALLOWED


def test_a_platform_admin_is_narrowed_by_the_token_like_everyone():
    assert outcome(principal(ROOT), PLATFORM, Permission.USERS_MANAGE) is Reason.ALLOWED
    narrowed = principal(ROOT, teams=[SEARCH])
    assert outcome(narrowed, PLATFORM, Permission.USERS_MANAGE) is Reason.NOT_THE_OWNER
    assert outcome(narrowed, now_tool) is Reason.OUTSIDE_TOKEN_TEAMS
    assert outcome(narrowed, team(SEARCH, "search"), Permission.TEAMS_MANAGE) is Reason.ALLOWED


def test_everyone_manages_the_own_tokens_and_nobody_elses():
    mine = Token(TokenId("tok_x"), ALICE, "laptop", 0, 1, None, None, None, None)
    assert outcome(principal(ALICE), mine, Permission.TOKENS_REVOKE) is Reason.ALLOWED
    assert outcome(principal(OLGA), mine, Permission.TOKENS_REVOKE) is Reason.NOT_THE_OWNER
    assert outcome(principal(ROOT), mine, Permission.TOKENS_REVOKE) is Reason.ALLOWED
    assert outcome(principal(ALICE), user(ALICE), Permission.USERS_MANAGE) is Reason.PERMISSION_NOT_IN_ROLE


def test_a_server_that_is_switched_off_lends_its_tools_to_nobody():
    scoped = principal(ALICE, servers=[SUPPORT])
    off = replace(server("clock__now"), enabled=False)
    assert outcome(scoped, now_tool, directory=world(off)) is Reason.OUTSIDE_TOKEN_SERVERS
    assert outcome(scoped, now_tool, Permission.TOOLS_READ, world(off)) is Reason.OUTSIDE_TOKEN_SERVERS


@pytest.mark.parametrize(
    "odd",
    [
        tool(CLOCK, "now", enabled=False),
        tool(CLOCK, "now", offered=False),
        tool(CLOCK, "now", team=SEARCH),
        tool(CLOCK, "now", visibility=Visibility.PRIVATE),
    ],
    ids=["disabled", "not offered", "of another team", "private"],
)
def test_a_tool_that_stands_apart_from_its_neighbours_is_sieved_apart(odd):
    for first, second in ((odd, tool(CLOCK, "sleep")), (tool(CLOCK, "sleep"), odd)):
        sieve = Sieve(principal(ALICE), CALL, world(odd), NOW)
        assert {each.name for each in (first, second) if sieve.lets(each)} == {"sleep"}


def test_what_is_listed_is_exactly_what_may_be_called():
    directory = world()
    sieve = Sieve(principal(ALICE), CALL, directory, NOW)
    assert {each.id for each in directory.tools.values() if sieve.lets(each)} == {
        "tool_clock_now",
        "tool_clock_sleep",
        "tool_web_fetch",
    }


def test_explain_shows_every_clause_and_agrees_with_the_decision():
    who = principal(VERA, permissions=[])
    clauses = explain(who, CALL, now_tool, world(), NOW)
    assert [name for name, _ in clauses] == [
        "token_is_live",
        "user_is_active",
        "target_is_enabled",
        "within_token_servers",
        "within_audience",
        "permission_is_granted",
    ]
    assert [reason for _, reason in clauses if reason] == [outcome(who, now_tool)]


def test_a_hidden_denial_raises_exactly_what_a_missing_object_raises():
    with pytest.raises(errors.NotFound, match=r"^there is no tool `x`$") as hidden:
        enforce(Decision(False, Reason.NOT_A_MEMBER, CALL), "there is no tool `x`")
    assert hidden.value.code == errors.NotFound("there is no tool `x`").code


def test_a_seen_denial_names_the_scope_that_is_needed():
    with pytest.raises(errors.Forbidden) as refused:
        enforce(Decision(False, Reason.PERMISSION_NOT_IN_TOKEN, CALL), "")
    assert refused.value.scopes == ("tools:call",)
    assert refused.value.reason == "permission_not_in_token"


def test_a_token_that_died_meanwhile_is_unauthenticated_not_forbidden():
    with pytest.raises(errors.Unauthenticated):
        enforce(Decision(False, Reason.TOKEN_REVOKED, CALL), "")
