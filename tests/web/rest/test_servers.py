import pytest

from sluicegate.core.catalog import ToolSelector, Visibility
from sluicegate.core.permissions import Role
from tests.support.world import ALICE, OLGA, PAYMENTS, ROOT, SEARCH, SUPPORT, member, principal, server
from tests.web.rest.api import Api, alice, bob, decoded, olga, refused, revision, root, vera, zoe

HELP = {"slug": "help", "visibility": "team", "tools": ["clock__*", {"tool": "web__fetch", "alias": "get"}]}


async def test_members_see_the_server_and_strangers_do_not() -> None:
    api = Api()
    assert await api.names(vera, "/v1/servers") == ["support"]
    assert await api.names(bob, "/v1/servers") == []
    refused(await api.call(bob, "GET", "/v1/servers/support"), 404, "not_found")


async def test_a_server_shows_the_tools_that_the_caller_may_see() -> None:
    mixed = server("clock__now", "web__fetch", "diary__*", visibility=Visibility.PUBLIC)
    api = Api(mixed)
    shown = {caller.user_id: (await api.get(caller, "/v1/servers/support"))["tools"] for caller in (zoe, alice, olga)}
    names = {user: [each["public_name"] for each in tools] for user, tools in shown.items()}
    assert names == {
        zoe.user_id: ["web__fetch"],
        alice.user_id: ["web__fetch", "clock__now"],
        olga.user_id: ["web__fetch", "clock__now", "diary__write"],
    }


async def test_what_a_server_selects_is_shown_to_its_managers() -> None:
    api = Api(server("diary__*", visibility=Visibility.PUBLIC))
    assert (await api.get(zoe, "/v1/servers/support"))["selectors"] is None
    assert (await api.get(olga, "/v1/servers"))["items"][0]["selectors"] == [{"tool": "diary__*", "alias": None}]


async def test_an_owner_makes_a_server_with_patterns_and_aliases() -> None:
    api = Api()
    response = await api.call(olga, "POST", "/v1/servers", {**HELP, "team": "payments"})
    made = decoded(response, 201)
    assert (made["slug"], made["team"], made["owner"], made["enabled"]) == ("help", "payments", OLGA, True)
    assert revision(response) == api.directory.revision
    tools = (await api.get(alice, "/v1/servers/help"))["tools"]
    assert [(each["name"], each["public_name"]) for each in tools] == [
        ("get", "web__fetch"),
        ("now", "clock__now"),
        ("sleep", "clock__sleep"),
    ]


async def test_without_a_team_it_lands_in_the_one_that_the_token_reaches() -> None:
    api = Api(member(OLGA, SEARCH, Role.OWNER))
    narrowed = principal(OLGA, teams=[PAYMENTS])
    assert decoded(await api.call(narrowed, "POST", "/v1/servers", HELP), 201)["team"] == "payments"
    refused(await api.call(olga, "POST", "/v1/servers", {**HELP, "slug": "x"}), 400, "team_needed")
    refused(await api.call(alice, "POST", "/v1/servers", {**HELP, "slug": "x"}), 403, "insufficient_scope")
    public = {**HELP, "slug": "x", "visibility": "public"}
    assert decoded(await api.call(root, "POST", "/v1/servers", public), 201)["team"] is None


@pytest.mark.parametrize(
    "selector",
    [
        "clock",
        "clock_now",
        "__now",
        "Clock__now",
        "clock__",
        "clock__no w",
        "*__now",
        {"tool": "clock__*", "alias": "all"},
        {"tool": "clock__now", "alias": ""},
        {"tool": "clock__now", "alias": "a b"},
        {"tool": "clock__now", "alias": "a" * 129},
    ],
)
async def test_what_is_no_selector_is_refused(selector: object) -> None:
    api = Api()
    refused(await api.call(olga, "POST", "/v1/servers", {**HELP, "tools": [selector]}), 400, "invalid_selector")
    refused(await api.call(olga, "PATCH", "/v1/servers/support", {"tools": [selector]}), 400, "invalid_selector")
    assert api.database.writes == 0


async def test_an_alias_names_one_tool() -> None:
    twice = [{"tool": "clock__now", "alias": "x"}, {"tool": "web__fetch", "alias": "x"}]
    problem = refused(await Api().call(olga, "POST", "/v1/servers", {**HELP, "tools": twice}), 400, "invalid_selector")
    assert "`x`" in problem["detail"]


async def test_a_taken_slug_is_a_conflict() -> None:
    refused(await Api().call(olga, "POST", "/v1/servers", {**HELP, "slug": "support"}), 409, "slug_taken")


async def test_a_change_leaves_what_it_does_not_name() -> None:
    api = Api()
    decoded(await api.call(olga, "PATCH", "/v1/servers/support", {"tools": ["clock__now"]}), 200)
    stored = api.directory.servers[SUPPORT]
    assert stored.tools == (ToolSelector("clock__now"),)
    assert (stored.visibility, stored.team_id, stored.enabled) == (Visibility.TEAM, PAYMENTS, True)
    decoded(await api.call(olga, "PATCH", "/v1/servers/support", {"enabled": False, "visibility": "public"}), 200)
    stored = api.directory.servers[SUPPORT]
    assert (stored.visibility, stored.enabled, stored.tools) == (
        Visibility.PUBLIC,
        False,
        (ToolSelector("clock__now"),),
    )


async def test_moving_a_server_needs_the_permission_in_both_teams() -> None:
    move = {"team": "search"}
    refused(await Api().call(olga, "PATCH", "/v1/servers/support", move), 404, "not_found")
    owner = Api(member(OLGA, SEARCH, Role.OWNER))
    assert decoded(await owner.call(olga, "PATCH", "/v1/servers/support", move), 200)["team"] == "search"


async def test_users_of_a_server_do_not_change_it() -> None:
    api = Api(server("web__fetch", visibility=Visibility.PUBLIC))
    for caller in (alice, vera, bob, zoe, principal(ROOT, teams=[])):
        refused(await api.call(caller, "PATCH", "/v1/servers/support", {"enabled": False}), 403, "insufficient_scope")
        refused(await api.call(caller, "DELETE", "/v1/servers/support"), 403, "insufficient_scope")


async def test_a_server_is_deleted_and_its_tools_stay() -> None:
    api = Api()
    response = await api.call(olga, "DELETE", "/v1/servers/support")
    assert response.status == 204
    assert revision(response) == api.directory.revision
    assert await api.names(alice, "/v1/servers") == []
    assert len(await api.names(alice, "/v1/tools", "public_name")) == 3


async def test_a_server_that_was_moved_meanwhile_is_a_conflict() -> None:
    api = Api()
    moved = server("web__fetch", visibility=Visibility.PUBLIC)
    api.database.before_write = lambda tx: tx.update(moved)
    refused(await api.call(olga, "DELETE", "/v1/servers/support"), 409, "changed_meanwhile")
    assert ALICE in api.directory.users
