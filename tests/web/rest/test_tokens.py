import pytest
from msgspec.structs import replace

from sluicegate.core.catalog import Token, Visibility
from sluicegate.core.identity import TokenId, UserId
from sluicegate.core.permissions import Permission, Role
from sluicegate.ports import IssuedClaims
from tests.support.world import (
    ALICE,
    BOB,
    NOW,
    OLGA,
    PAYMENTS,
    ROOT,
    SEARCH,
    SUPPORT,
    member,
    principal,
    server,
    user,
)
from tests.web.rest.api import MAX_LIFETIME, Api, alice, decoded, refused, revision, root, vera

CI = {"name": "ci", "expires_in": 600}


def token(name: str, user_id: UserId, *, created_at: int = 0) -> Token:
    return Token(TokenId(f"tok_{name}"), user_id, name, created_at, int(NOW) + 600, None, None, None, None)


async def test_a_token_is_issued_and_its_secret_shown_once() -> None:
    api = Api()
    response = await api.call(alice, "POST", "/v1/tokens", CI)
    made = decoded(response, 201)
    assert made["token"] == f"signed.{made['id']}"
    assert response.headers["cache-control"] == "no-store"
    assert revision(response) == api.directory.revision
    shown = await api.get(alice, f"/v1/tokens/{made['id']}")
    assert "token" not in shown
    assert shown == {key: value for key, value in made.items() if key != "token"}
    assert (shown["user"], shown["created_at"], shown["expires_at"]) == (ALICE, NOW, NOW + 600)
    assert api.issuer.issued == [IssuedClaims(ALICE, TokenId(made["id"]), int(NOW), int(NOW) + 600, None, None, None)]


async def test_claims_hold_the_ids_of_what_was_named_by_slug() -> None:
    api = Api()
    body = {**CI, "teams": ["payments", PAYMENTS], "servers": ["support"], "permissions": ["tools:call"]}
    made = decoded(await api.call(alice, "POST", "/v1/tokens", body), 201)
    assert (made["teams"], made["servers"], made["permissions"]) == ([PAYMENTS], [SUPPORT], ["tools:call"])
    assert (api.issuer.issued[0].teams, api.issuer.issued[0].servers) == ((PAYMENTS,), (SUPPORT,))


async def test_an_empty_list_is_not_an_absent_one() -> None:
    api = Api()
    made = decoded(await api.call(alice, "POST", "/v1/tokens", {**CI, "teams": [], "permissions": []}), 201)
    assert (made["teams"], made["permissions"], made["servers"]) == ([], [], None)
    assert (api.issuer.issued[0].teams, api.issuer.issued[0].servers) == ((), None)
    for claim in ("teams", "servers", "permissions"):
        refused(await api.call(alice, "POST", "/v1/tokens", {**CI, claim: None}), 400, "invalid_input")


async def test_teams_that_the_user_is_not_in_are_as_missing() -> None:
    api = Api()
    answers = [await api.call(alice, "POST", "/v1/tokens", {**CI, "teams": [name]}) for name in ("search", "nowhere")]
    details = [refused(answer, 404, "not_found")["detail"] for answer in answers]
    assert details == [f"there is no team `{name}` that `alice@example.com` is in" for name in ("search", "nowhere")]
    assert api.database.writes == 0
    assert api.issuer.issued == []


async def test_servers_that_the_caller_may_not_see_are_as_missing() -> None:
    api = Api(replace(server("web__fetch", visibility=Visibility.PRIVATE), owner_id=OLGA))
    answers = [
        await api.call(alice, "POST", "/v1/tokens", {**CI, "servers": [name]}) for name in ("support", "nowhere")
    ]
    details = [refused(answer, 404, "not_found")["detail"] for answer in answers]
    assert details == ["there is no server `support`", "there is no server `nowhere`"]


async def test_unknown_permissions_are_refused() -> None:
    body = {**CI, "permissions": ["tools:fly"]}
    problem = refused(await Api().call(alice, "POST", "/v1/tokens", body), 400, "unknown_permission")
    assert "tools:call" in problem["detail"]


@pytest.mark.parametrize("change", [{"expires_in": 0}, {"expires_in": -5}, {"name": ""}, {"name": "a\nb"}, {"name": 5}])
async def test_a_request_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    refused(await Api().call(alice, "POST", "/v1/tokens", {**CI, **change}), 400, "invalid_input")


async def test_a_token_lives_no_longer_than_is_accepted() -> None:
    ancient = principal(ALICE, expires_at=NOW + 10 * MAX_LIFETIME)
    body = {**CI, "expires_in": int(MAX_LIFETIME) + 1}
    refused(await Api().call(ancient, "POST", "/v1/tokens", body), 400, "invalid_input")


# --- delegation: never wider than one's own -----------------------------------------------------------------------


async def test_a_token_ends_with_the_one_that_asks_for_it() -> None:
    short = principal(ALICE, expires_at=NOW + 60.5)
    assert decoded(await Api().call(short, "POST", "/v1/tokens", CI), 201)["expires_at"] == NOW + 60


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"teams": ["payments", "search"]},
        {"teams": ["payments"]},
        {"teams": ["payments"], "permissions": ["tools:read", "tokens:create", "tools:call"]},
    ],
)
async def test_a_narrowed_token_cannot_ask_for_a_wider_one(body: dict[str, object]) -> None:
    api = Api(member(ALICE, SEARCH, Role.OWNER))
    narrow = principal(ALICE, teams=[PAYMENTS], permissions=[Permission.TOKENS_CREATE, Permission.TOOLS_READ])
    problem = refused(await api.call(narrow, "POST", "/v1/tokens", {**CI, **body}), 403, "insufficient_scope")
    assert problem["reason"] == "wider_than_own_token"
    assert api.database.writes == 0
    assert api.issuer.issued == []


async def test_a_narrowed_token_may_ask_for_an_equal_one() -> None:
    narrow = principal(ALICE, teams=[PAYMENTS], permissions=[Permission.TOKENS_CREATE, Permission.TOOLS_READ])
    body = {**CI, "teams": ["payments"], "permissions": ["tools:read", "tokens:create"]}
    assert decoded(await Api().call(narrow, "POST", "/v1/tokens", body), 201)["teams"] == [PAYMENTS]


async def test_a_permission_that_the_caller_has_nowhere_cannot_be_given() -> None:
    body = {**CI, "permissions": ["upstreams:manage"]}
    for caller in (alice, vera, principal(OLGA, teams=[])):
        wanted = body if caller is not principal(OLGA, teams=[]) else {**body, "teams": []}
        problem = refused(await Api().call(caller, "POST", "/v1/tokens", wanted), 403, "insufficient_scope")
        assert problem["reason"] == "wider_than_own_token"
    decoded(await Api().call(principal(OLGA), "POST", "/v1/tokens", body), 201)
    decoded(await Api().call(root, "POST", "/v1/tokens", {**CI, "permissions": ["platform:manage"]}), 201)


async def test_a_token_for_servers_issues_none() -> None:
    refused(await Api().call(principal(ALICE, servers=[SUPPORT]), "POST", "/v1/tokens", CI), 404, "not_found")


async def test_an_admin_issues_for_others_and_nobody_else_does() -> None:
    api = Api()
    for_bob = {**CI, "user": "bob@example.com"}
    assert decoded(await api.call(root, "POST", "/v1/tokens", for_bob), 201)["user"] == BOB
    hidden = await api.call(alice, "POST", "/v1/tokens", for_bob)
    missing = await api.call(alice, "POST", "/v1/tokens", {**CI, "user": "bop@example.com"})
    assert refused(hidden, 404, "not_found")["detail"] == "there is no user `bob@example.com`"
    assert refused(missing, 404, "not_found")["detail"] == "there is no user `bop@example.com`"
    narrowed = principal(ROOT, teams=[SEARCH])
    refused(await api.call(narrowed, "POST", "/v1/tokens", {**for_bob, "teams": ["search"]}), 404, "not_found")


async def test_a_token_for_a_user_who_is_not_active_is_refused() -> None:
    api = Api(user(BOB, active=False))
    refused(await api.call(root, "POST", "/v1/tokens", {**CI, "user": BOB}), 400, "user_inactive")


async def test_an_admin_may_narrow_to_a_team_without_being_a_member() -> None:
    made = decoded(await Api().call(root, "POST", "/v1/tokens", {**CI, "teams": ["search"]}), 201)
    assert made["teams"] == [SEARCH]


# --- listing and revoking -----------------------------------------------------------------------------------------


async def test_users_list_their_own_tokens_and_admins_all_of_them_oldest_first() -> None:
    api = Api(token("b", ALICE, created_at=5), token("a", ALICE, created_at=70), token("c", BOB, created_at=6))
    assert await api.names(alice, "/v1/tokens", "id") == ["tok_b", "tok_a"]
    assert await api.names(root, "/v1/tokens", "id") == ["tok_b", "tok_c", "tok_a"]
    assert await api.names(root, "/v1/tokens?user=bob@example.com", "id") == ["tok_c"]
    assert await api.names(alice, "/v1/tokens?user=me", "id") == ["tok_b", "tok_a"]
    refused(await api.call(alice, "GET", "/v1/tokens?user=bob@example.com"), 404, "not_found")


@pytest.mark.parametrize(
    "how", [("POST", "/v1/tokens/tok_a/revoke", 200), ("DELETE", "/v1/tokens/tok_a", 204)], ids=["revoke", "delete"]
)
async def test_a_revoked_token_stays_in_the_list_as_revoked(how: tuple[str, str, int]) -> None:
    method, path, status = how
    api = Api(token("a", ALICE))
    response = await api.call(alice, method, path)
    assert response.status == status
    assert revision(response) == api.directory.revision
    assert (await api.get(alice, "/v1/tokens/tok_a"))["revoked_at"] == NOW


async def test_revoking_twice_keeps_the_first_time() -> None:
    api = Api(replace(token("a", ALICE), revoked_at=7))
    assert decoded(await api.call(alice, "POST", "/v1/tokens/tok_a/revoke"), 200)["revoked_at"] == 7


async def test_a_caller_whose_own_token_is_revoked_does_nothing_more() -> None:
    api = Api(token(ALICE, ALICE))  # the id of alice's token
    assert (await api.call(alice, "DELETE", f"/v1/tokens/tok_{ALICE}")).status == 204
    refused(await api.call(alice, "GET", "/v1/users/me"), 401, "token_revoked")


async def test_an_admin_revokes_for_others_and_nobody_else_does() -> None:
    api = Api(token("c", BOB))
    for method, path in (("POST", "/v1/tokens/tok_c/revoke"), ("DELETE", "/v1/tokens/tok_c")):
        refused(await api.call(alice, method, path), 404, "not_found")
    assert decoded(await api.call(root, "POST", "/v1/tokens/tok_c/revoke"), 200)["revoked_at"] == NOW


async def test_a_token_without_the_permission_does_not_revoke() -> None:
    api = Api(token("a", ALICE))
    narrow = principal(ALICE, permissions=[Permission.TOKENS_READ])
    refused(await api.call(narrow, "DELETE", "/v1/tokens/tok_a"), 403, "insufficient_scope")
