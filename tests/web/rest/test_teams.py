from sluicegate.core.catalog import Visibility
from sluicegate.core.identity import UpstreamId
from sluicegate.core.permissions import Permission
from tests.support.world import ALICE, BOB, OLGA, PAYMENTS, ROOT, SEARCH, principal, team, upstream
from tests.web.rest.api import Api, alice, bob, decoded, olga, refused, revision, root, vera, zoe


async def test_members_see_their_teams_and_an_admin_sees_all() -> None:
    api = Api()
    assert await api.names(alice, "/v1/teams") == ["payments"]
    assert await api.names(zoe, "/v1/teams") == []
    assert await api.names(root, "/v1/teams") == ["payments", "search"]


async def test_an_admin_with_a_token_for_one_team_sees_only_that_team() -> None:
    assert await Api().names(principal(ROOT, teams=[SEARCH]), "/v1/teams") == ["search"]


async def test_an_admin_makes_a_team() -> None:
    api = Api()
    response = await api.call(root, "POST", "/v1/teams", {"slug": "legal", "name": "Legal"})
    made = decoded(response, 201)
    assert made == {"id": made["id"], "slug": "legal", "name": "Legal", "active": True}
    assert await api.get(root, f"/v1/teams/{made['id']}") == made
    assert revision(response) == api.directory.revision
    assert api.feed.reached == [api.directory.revision]


async def test_a_team_without_a_name_is_named_by_its_slug() -> None:
    assert decoded(await Api().call(root, "POST", "/v1/teams", {"slug": "legal"}), 201)["name"] == "legal"


async def test_only_the_platform_makes_teams() -> None:
    api = Api()
    for caller in (olga, zoe, principal(ROOT, teams=[PAYMENTS])):
        problem = refused(await api.call(caller, "POST", "/v1/teams", {"slug": "legal"}), 403, "insufficient_scope")
        assert "teams:manage" in problem["detail"]
    assert api.database.writes == 0


async def test_a_taken_slug_is_a_conflict() -> None:
    refused(await Api().call(root, "POST", "/v1/teams", {"slug": "search"}), 409, "slug_taken")


async def test_a_slug_that_could_be_mistaken_for_an_id_is_refused() -> None:
    for slug in ("team_payments", "Legal", "-x", "", "a" * 64, "x\n"):
        refused(await Api().call(root, "POST", "/v1/teams", {"slug": slug}), 400, "invalid_slug")


async def test_a_name_with_control_characters_is_refused() -> None:
    api = Api()
    refused(await api.call(root, "POST", "/v1/teams", {"slug": "x", "name": "a\x00b"}), 400, "invalid_input")
    refused(await api.call(olga, "PATCH", "/v1/teams/payments", {"name": "a\nb"}), 400, "invalid_input")


async def test_an_owner_renames_the_team_and_others_do_not() -> None:
    api = Api()
    changed = decoded(await api.call(olga, "PATCH", "/v1/teams/payments", {"name": "Money"}), 200)
    assert (changed["name"], changed["slug"], changed["active"]) == ("Money", "payments", True)
    for caller in (alice, vera):
        refused(await api.call(caller, "PATCH", "/v1/teams/payments", {"name": "x"}), 403, "insufficient_scope")
    refused(await api.call(bob, "PATCH", "/v1/teams/payments", {"name": "x"}), 404, "not_found")


async def test_the_slug_of_a_team_cannot_be_changed() -> None:
    problem = refused(await Api().call(root, "PATCH", "/v1/teams/payments", {"slug": "x"}), 400, "invalid_input")
    assert "slug" in problem["detail"]


async def test_a_deactivated_team_is_gone_for_its_members_and_an_admin_activates_it_again() -> None:
    api = Api()
    decoded(await api.call(olga, "PATCH", "/v1/teams/payments", {"active": False}), 200)
    refused(await api.call(olga, "GET", "/v1/teams/payments"), 404, "not_found")
    decoded(await api.call(root, "PATCH", "/v1/teams/payments", {"active": True}), 200)
    assert (await api.get(olga, "/v1/teams/payments"))["active"] is True


async def test_an_empty_team_is_deleted_with_its_memberships() -> None:
    api = Api()
    response = await api.call(root, "DELETE", "/v1/teams/search")
    assert (response.status, response.body) == (204, b"")
    assert revision(response) == api.directory.revision
    assert await api.names(root, "/v1/teams") == ["payments"]
    assert api.directory.roles_of(BOB) == ()


async def test_a_team_that_still_has_objects_is_kept_and_they_are_not_named() -> None:
    diary = upstream(UpstreamId("ups_secret"), team=SEARCH, visibility=Visibility.PRIVATE, owner=BOB)
    api = Api(diary)
    problem = refused(await api.call(root, "DELETE", "/v1/teams/search"), 409, "in_use")
    assert "secret" not in problem["detail"]
    assert SEARCH in api.directory.teams


async def test_a_team_deleted_meanwhile_is_missing() -> None:
    api = Api()
    legal = team(SEARCH, "search")
    api.database.before_write = lambda tx: tx.delete(legal)
    refused(await api.call(root, "PATCH", "/v1/teams/search", {"name": "x"}), 404, "not_found")


# --- members ------------------------------------------------------------------------------------------------------


async def test_members_see_who_is_in_the_team_and_strangers_see_no_team() -> None:
    api = Api()
    members = (await api.get(vera, "/v1/teams/payments/members"))["items"]
    assert [(each["email"], each["role"]) for each in members] == [
        ("alice@example.com", "developer"),
        ("olga@example.com", "owner"),
        ("vera@example.com", "viewer"),
    ]
    refused(await api.call(bob, "GET", "/v1/teams/payments/members"), 404, "not_found")


async def test_an_owner_adds_changes_and_removes_a_member() -> None:
    api = Api()
    path = "/v1/teams/payments/members/zoe@example.com"
    added = decoded(await api.call(olga, "PUT", path, {"role": "viewer"}), 200)
    assert (added["email"], added["role"]) == ("zoe@example.com", "viewer")
    assert await api.names(zoe, "/v1/teams") == ["payments"]
    assert decoded(await api.call(olga, "PUT", path, {"role": "owner"}), 200)["role"] == "owner"
    assert (await api.call(olga, "DELETE", path)).status == 204
    assert await api.names(zoe, "/v1/teams") == []
    refused(await api.call(olga, "DELETE", path), 404, "not_found")


async def test_only_owners_and_admins_change_members() -> None:
    api = Api()
    path = f"/v1/teams/payments/members/{ALICE}"
    for caller in (alice, vera):
        refused(await api.call(caller, "PUT", path, {"role": "owner"}), 403, "insufficient_scope")
        refused(await api.call(caller, "DELETE", path), 403, "insufficient_scope")
    refused(await api.call(bob, "PUT", path, {"role": "owner"}), 404, "not_found")
    assert decoded(await api.call(root, "PUT", path, {"role": "owner"}), 200)["role"] == "owner"


async def test_a_token_cannot_give_a_role_that_holds_more_than_the_token() -> None:
    api = Api()
    narrow = principal(OLGA, permissions=[Permission.TEAMS_MANAGE, Permission.TEAMS_READ])
    response = await api.call(narrow, "PUT", "/v1/teams/payments/members/zoe@example.com", {"role": "owner"})
    problem = refused(response, 403, "insufficient_scope")
    assert problem["reason"] == "wider_than_own_role"
    assert "upstreams:manage" in response.headers["www-authenticate"]
    assert api.database.writes == 0


async def test_an_unknown_role_or_user_is_refused() -> None:
    api = Api()
    problem = refused(
        await api.call(olga, "PUT", f"/v1/teams/payments/members/{ALICE}", {"role": "king"}), 400, "invalid_input"
    )
    assert "$.role" in problem["detail"]
    refused(await api.call(olga, "PUT", "/v1/teams/payments/members/x@y", {"role": "viewer"}), 404, "not_found")
