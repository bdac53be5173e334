import pytest

from sluicegate.core.catalog import Visibility
from sluicegate.core.permissions import Role
from tests.support.memory import MemoryTransaction
from tests.support.world import (
    ALICE,
    CLOCK,
    DIARY,
    OLGA,
    PAYMENTS,
    ROOT,
    SEARCH,
    WEB,
    member,
    principal,
    tool,
    upstream,
)
from tests.web.rest.api import Api, alice, bob, decoded, olga, refused, revision, root, vera, zoe


async def test_each_caller_sees_the_tools_they_may_read() -> None:
    api = Api()
    shared = ["clock__now", "clock__sleep", "web__fetch"]
    assert await api.names(vera, "/v1/tools", "public_name") == shared
    assert await api.names(olga, "/v1/tools", "public_name") == sorted([*shared, "diary__write"])
    assert await api.names(root, "/v1/tools", "public_name") == shared
    for caller in (bob, zoe, principal(ALICE, teams=[]), principal(ROOT, teams=[SEARCH])):
        assert await api.names(caller, "/v1/tools", "public_name") == ["web__fetch"]


async def test_a_tool_is_shown_with_all_that_its_upstream_said() -> None:
    shown = await Api().get(alice, "/v1/tools/clock__now")
    assert shown["definition"] == {"name": "now", "description": "does now", "inputSchema": {"type": "object"}}
    assert (shown["public_name"], shown["upstream"], shown["team"]) == ("clock__now", "clock", "payments")
    assert (shown["visibility"], shown["visibility_override"], shown["team_override"]) == ("team", None, None)
    assert shown == await Api().get(alice, f"/v1/tools/{shown['id']}")


async def test_tools_that_are_off_or_withdrawn_are_still_shown() -> None:
    api = Api(tool(CLOCK, "now", enabled=False), tool(CLOCK, "sleep", offered=False))
    shown = {each["public_name"]: each for each in (await api.get(alice, "/v1/tools"))["items"]}
    assert shown["clock__now"]["enabled"] is False
    assert shown["clock__sleep"]["offered"] is False


async def test_a_list_is_narrowed_to_one_upstream() -> None:
    api = Api()
    assert await api.names(alice, "/v1/tools?upstream=web", "public_name") == ["web__fetch"]
    assert await api.names(alice, f"/v1/tools?upstream={CLOCK}", "public_name") == ["clock__now", "clock__sleep"]


async def test_a_list_narrowed_to_a_team_keeps_what_is_public() -> None:
    api = Api()
    everything = ["clock__now", "clock__sleep", "web__fetch"]
    assert await api.names(alice, "/v1/tools?team=payments", "public_name") == everything
    both = Api(member(ALICE, SEARCH, Role.VIEWER))
    assert await both.names(alice, "/v1/tools?team=search", "public_name") == ["web__fetch"]


@pytest.mark.parametrize("filters", [("team", "search", "nowhere"), ("upstream", "diary", "nowhere")])
async def test_a_filter_does_not_tell_what_is_hidden(filters: tuple[str, str, str]) -> None:
    name, hidden, missing = filters
    api = Api()
    answers = [await api.call(alice, "GET", f"/v1/tools?{name}={value}") for value in (hidden, missing)]
    problems = [refused(answer, 404, "not_found")["detail"] for answer in answers]
    assert problems == [f"there is no {name} `{hidden}`", f"there is no {name} `{missing}`"]


async def test_an_owner_overrides_and_gives_the_override_up_again() -> None:
    api = Api()
    response = await api.call(olga, "PATCH", "/v1/tools/clock__now", {"visibility": "public"})
    changed = decoded(response, 200)
    assert (changed["visibility"], changed["visibility_override"]) == ("public", "public")
    assert revision(response) == api.directory.revision
    assert (await api.get(zoe, "/v1/tools/clock__now"))["team"] is None  # the team is not zoe's to know
    changed = decoded(await api.call(olga, "PATCH", "/v1/tools/clock__now", {"visibility": None}), 200)
    assert (changed["visibility"], changed["visibility_override"]) == ("team", None)
    refused(await api.call(zoe, "GET", "/v1/tools/clock__now"), 404, "not_found")


async def test_a_change_without_visibility_leaves_it() -> None:
    api = Api(tool(CLOCK, "now", visibility=Visibility.PUBLIC))
    changed = decoded(await api.call(olga, "PATCH", "/v1/tools/clock__now", {"enabled": False}), 200)
    assert (changed["visibility_override"], changed["enabled"]) == ("public", False)


async def test_only_the_upstreams_owner_makes_a_tool_private() -> None:
    api = Api()
    private = {"visibility": "private"}
    refused(await api.call(olga, "PATCH", "/v1/tools/clock__now", private), 403, "insufficient_scope")
    owned = Api(upstream(CLOCK, team=PAYMENTS, visibility=Visibility.TEAM, owner=OLGA))
    decoded(await owned.call(olga, "PATCH", "/v1/tools/clock__now", private), 200)
    refused(await owned.call(root, "GET", "/v1/tools/clock__now"), 404, "not_found")


async def test_a_tool_of_a_platform_upstream_needs_a_team_to_be_hidden() -> None:
    api = Api()
    refused(await api.call(root, "PATCH", "/v1/tools/web__fetch", {"visibility": "team"}), 400, "team_needed")
    body = {"visibility": "team", "team": "search"}
    assert decoded(await api.call(root, "PATCH", "/v1/tools/web__fetch", body), 200)["team"] == "search"
    refused(await api.call(alice, "GET", "/v1/tools/web__fetch"), 404, "not_found")
    refused(await api.call(root, "PATCH", "/v1/tools/web__fetch", {"team": None}), 400, "team_needed")


async def test_moving_a_tool_needs_the_permission_in_both_teams() -> None:
    move = {"team": "search"}
    refused(await Api().call(olga, "PATCH", "/v1/tools/clock__now", move), 404, "not_found")
    developer = Api(member(OLGA, SEARCH, Role.DEVELOPER))
    refused(await developer.call(olga, "PATCH", "/v1/tools/clock__now", move), 403, "insufficient_scope")
    owner = Api(member(OLGA, SEARCH, Role.OWNER))
    assert decoded(await owner.call(olga, "PATCH", "/v1/tools/clock__now", move), 200)["team"] == "search"
    assert await owner.names(bob, "/v1/tools", "public_name") == ["clock__now", "web__fetch"]


async def test_giving_a_team_up_needs_the_permission_where_the_tool_comes_from() -> None:
    moved = tool(CLOCK, "now", team=SEARCH)
    back = {"team": None}
    there = Api(moved, member(ALICE, SEARCH, Role.OWNER))
    refused(await there.call(alice, "PATCH", "/v1/tools/clock__now", back), 403, "insufficient_scope")
    only_there = principal(OLGA, teams=[SEARCH])
    both = Api(moved, member(OLGA, SEARCH, Role.OWNER))
    refused(await both.call(only_there, "PATCH", "/v1/tools/clock__now", back), 404, "not_found")
    assert decoded(await both.call(olga, "PATCH", "/v1/tools/clock__now", back), 200)["team"] == "payments"


async def test_those_who_may_only_use_a_tool_do_not_change_it() -> None:
    api = Api()
    for caller in (alice, vera):
        refused(await api.call(caller, "PATCH", "/v1/tools/clock__now", {"enabled": False}), 403, "insufficient_scope")
    for caller in (bob, root):
        refused(await api.call(caller, "PATCH", "/v1/tools/diary__write", {"enabled": False}), 404, "not_found")
    refused(await api.call(bob, "PATCH", "/v1/tools/web__fetch", {"enabled": False}), 403, "insufficient_scope")
    assert api.database.writes == 0


async def test_a_tool_that_was_moved_meanwhile_is_a_conflict() -> None:
    api = Api()

    def move(tx: MemoryTransaction) -> None:
        tx.update(tool(CLOCK, "now", team=SEARCH))

    api.database.before_write = move
    refused(await api.call(olga, "PATCH", "/v1/tools/clock__now", {"enabled": False}), 409, "changed_meanwhile")


async def test_names_with_several_separators_mean_one_tool() -> None:
    api = Api(tool(WEB, "a__b"), upstream(DIARY, team=PAYMENTS, visibility=Visibility.PRIVATE, owner=OLGA))
    assert (await api.get(zoe, "/v1/tools/web__a__b"))["public_name"] == "web__a__b"
