"""What the answer to a change says of the other instances."""

import pytest
from msgspec.structs import replace

from sluicegate.core.catalog import Token
from sluicegate.core.errors import AuthorizationStale, DatabaseBusy
from sluicegate.core.identity import Principal, TokenId
from tests.support.world import ALICE, NOW
from tests.web.rest.api import PATIENCE, Api, alice, decoded, refused, revision, root

TOKEN = Token(TokenId("tok_a"), ALICE, "a", 0, int(NOW) + 600, None, None, None, None)
APPLIED, AWAY = "sluicegate-applied", "sluicegate-away"
UNTIL = "2027-01-15T08:05:00Z"
"""300 s after NOW."""
CHANGES = [
    ("POST", "/v1/teams", {"slug": "x", "name": "X"}, 201),
    ("PATCH", "/v1/teams/search", {"name": "Find"}, 200),
    ("PUT", "/v1/teams/search/members/zoe@example.com", {"role": "viewer"}, 200),
    ("DELETE", "/v1/users/zoe@example.com", None, 204),
    ("POST", "/v1/tokens", {"name": "ci", "expires_in": 60}, 201),
    ("PATCH", "/v1/tools/web__fetch", {"enabled": False}, 200),
    ("DELETE", "/v1/tokens/tok_a", None, 204),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), CHANGES)
async def test_a_change_that_is_waited_for_says_that_all_have_applied_it(
    method: str, path: str, body: object, status: int
) -> None:
    api = Api(TOKEN)
    api.instances.stands("b", 10)
    answer = await api.call(root, method, f"{path}?wait=all", body)
    assert (answer.status, answer.headers[APPLIED]) == (status, "2 of 2")
    assert AWAY not in answer.headers
    assert revision(answer) == api.directory.revision


@pytest.mark.parametrize(("method", "path", "body", "status"), CHANGES)
async def test_a_change_that_is_not_waited_for_asks_nobody(method: str, path: str, body: object, status: int) -> None:
    api = Api(TOKEN)
    answer = await api.call(root, method, path, body)
    assert (answer.status, APPLIED in answer.headers, api.instances.looks) == (status, False, 0)


async def test_those_that_are_away_are_named_with_the_end_of_their_trust() -> None:
    api = Api()
    api.instances.stands("web-1:11", 1, trust=300.0)
    api.instances.stands("café\r\nset-cookie: x, y;", 0, trust=2.0)
    answer = await api.call(root, "DELETE", "/v1/users/zoe@example.com?wait=all")
    assert (answer.status, answer.headers[APPLIED]) == (204, "1 of 3")
    plain, odd = answer.headers[AWAY].split(", ")
    assert plain == f"web-1:11; until={UNTIL}"
    assert odd == "caf___set-cookie:_x__y_; until=2027-01-15T08:00:02Z"


async def test_a_header_names_no_more_than_proxies_let_through_and_those_first_whose_trust_ends_last() -> None:
    api = Api()
    for number in range(100):
        api.instances.stands(f"crashed:{number}", 1, ago=PATIENCE + 1, trust=300.0 + number)
    answer = await api.call(root, "DELETE", "/v1/users/zoe@example.com?wait=all")
    assert answer.headers[APPLIED] == "1 of 101"
    named = answer.headers[AWAY].split(", ")
    assert (len(named), named[0]) == (16, "crashed:99; until=2027-01-15T08:06:39Z")


async def test_a_change_stands_when_nobody_knows_who_has_applied_it() -> None:
    api = Api(TOKEN)
    api.instances.failure = DatabaseBusy("busy")
    answer = await api.call(root, "POST", "/v1/teams?wait=all", {"slug": "x", "name": "X"})
    assert (answer.status, answer.headers[APPLIED]) == (201, "unknown")
    revoked = await api.call(alice, "POST", "/v1/tokens/tok_a/revoke")
    assert revoked.headers[APPLIED] == "unknown"
    body = decoded(revoked, 200)
    assert (body["revoked_at"], body["instances"]) == (NOW, None)


def goes_away_after_the_write(api: Api) -> None:
    def go_away(_: object) -> None:
        api.feed.fresh, api.feed.stale = False, AuthorizationStale("the database does not answer")

    api.database.before_write = go_away


@pytest.mark.parametrize(
    ("caller", "method", "path", "body", "status"),
    [
        (root, "POST", "/v1/tokens", {"name": "ci", "expires_in": 60}, 201),
        (alice, "POST", "/v1/tokens/tok_a/revoke", None, 200),
        (root, "DELETE", "/v1/users/zoe@example.com", None, 204),
    ],
)
async def test_a_change_that_is_made_is_answered_though_the_database_went_away_at_once(
    caller: Principal, method: str, path: str, body: object, status: int
) -> None:
    api = Api(TOKEN)
    goes_away_after_the_write(api)
    answer = await api.call(caller, method, path, body)
    assert (answer.status, revision(answer)) == (status, api.directory.revision)


async def test_what_is_made_but_can_be_shown_to_nobody_is_said_to_be_made() -> None:
    api = Api()
    goes_away_after_the_write(api)
    problem = refused(await api.call(root, "POST", "/v1/users", {"email": "new@example.com"}), 503, "authz_stale")
    assert problem["detail"].startswith(f"the change was made, at revision {api.directory.revision}, but ")


async def test_a_revocation_always_says_who_refuses_the_token_already() -> None:
    api = Api(TOKEN)
    api.instances.stands("b", 10)
    answer = await api.call(alice, "POST", "/v1/tokens/tok_a/revoke")
    assert decoded(answer, 200)["instances"] == {"applied": 2, "known": 2, "away": []}
    assert answer.headers[APPLIED] == "2 of 2"
    api.instances.stands("b", 1)
    again = decoded(await api.call(alice, "POST", "/v1/tokens/tok_a/revoke?wait=all"), 200)
    away = [{"name": "b", "revision": 1, "trusted_until": NOW + 300}]
    assert again["instances"] == {"applied": 1, "known": 2, "away": away}


@pytest.mark.parametrize("query", ["wait=some", "wait=", "wait=ALL", "wait=all&wait=all", "waits=all"])
async def test_another_way_of_waiting_is_refused_before_anything_is_changed(query: str) -> None:
    api = Api()
    refused(await api.call(root, "POST", f"/v1/teams?{query}", {"slug": "x", "name": "X"}), 400, "invalid_input")
    assert api.database.writes == 0


async def test_a_read_has_nothing_to_wait_for() -> None:
    refused(await Api().call(root, "GET", "/v1/teams?wait=all"), 400, "invalid_input")


async def test_a_change_that_is_refused_waits_for_nobody() -> None:
    api = Api(replace(TOKEN, revoked_at=7))
    refused(await api.call(alice, "POST", "/v1/teams?wait=all", {"slug": "x", "name": "X"}), 403, "insufficient_scope")
    assert api.instances.looks == 0
