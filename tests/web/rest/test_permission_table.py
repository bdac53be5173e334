"""One walk over every route: what each needs, that it is asked, and that what is hidden answers as what is missing."""

from typing import Any

import pytest
from msgspec.structs import replace

from sluicegate.core.catalog import Token, Visibility
from sluicegate.core.errors import ConfigurationError
from sluicegate.core.identity import TokenId
from sluicegate.core.permissions import Permission
from sluicegate.web.rest.app import guarded_api
from sluicegate.web.rest.permissions import PERMISSION_OF
from tests.support.world import ALICE, BOB, CLOCK, NOW, OLGA, PAYMENTS, ROOT, principal, server, upstream
from tests.web.rest.api import Api, refused, root, shared_context, zoe

ROUTES = sorted(PERMISSION_OF)
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/v1/teams"): {"slug": "x"},
    ("PATCH", "/v1/teams/{team}"): {"name": "x"},
    ("PUT", "/v1/teams/{team}/members/{user}"): {"role": "viewer"},
    ("POST", "/v1/users"): {"email": "x@example.com"},
    ("PATCH", "/v1/users/{user}"): {"active": True},
    ("POST", "/v1/upstreams"): {"slug": "x", "url": "https://x.example.com", "visibility": "team", "team": "payments"},
    ("PATCH", "/v1/upstreams/{upstream}"): {"enabled": True},
    ("PATCH", "/v1/tools/{tool}"): {"enabled": True},
    ("POST", "/v1/servers"): {"slug": "x", "visibility": "team", "team": "payments", "tools": []},
    ("PATCH", "/v1/servers/{server}"): {"enabled": True},
    ("POST", "/v1/tokens"): {"name": "x", "expires_in": 60},
}
NAMES = {"team": "payments", "user": OLGA, "upstream": "clock", "tool": "clock__now", "server": "support"}
NAMES |= {"token": "tok_olga"}
OBJECTS = [route for route in ROUTES if "{" in route[1]]
READS = [route for route in ROUTES if route[0] == "GET"]


CHANGED: dict[tuple[str, str], dict[str, str]] = {
    ("DELETE", "/v1/teams/{team}"): {"team": "search"},
    ("PUT", "/v1/teams/{team}/members/{user}"): {"user": ALICE},
    ("DELETE", "/v1/teams/{team}/members/{user}"): {"user": ALICE},
}
"""What else a change that must succeed is about."""


def path_of(route: tuple[str, str], **names: str) -> str:
    return route[1].format(**(NAMES | names))


def api() -> Api:
    """The world, with an admin who may do everything to the objects that NAMES names."""
    olgas = Token(TokenId("tok_olga"), OLGA, "ci", 0, int(NOW) + 60, None, None, None, None)
    return Api(
        olgas,
        upstream(CLOCK, team=PAYMENTS, visibility=Visibility.TEAM, owner=OLGA),
        server("clock__*", visibility=Visibility.TEAM),
    )


def test_a_route_without_a_permission_stops_the_start() -> None:
    table = {route: permission for route, permission in PERMISSION_OF.items() if route != ("GET", "/v1/tools")}
    with pytest.raises(ConfigurationError, match=r"without a permission.*'GET', '/v1/tools'"):
        guarded_api(shared_context(), table)


def test_a_permission_without_a_route_stops_the_start() -> None:
    table = {**PERMISSION_OF, ("GET", "/v1/extra"): Permission.TOOLS_READ}
    with pytest.raises(ConfigurationError, match=r"without a route.*'GET', '/v1/extra'"):
        guarded_api(shared_context(), table)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[0]} {route[1]}")
async def test_every_route_works_with_all_permissions_and_names_the_one_that_is_left_out(
    route: tuple[str, str],
) -> None:
    gateway = api()
    body = BODIES.get(route)
    needed = PERMISSION_OF[route]
    without = principal(ROOT, permissions=[each for each in Permission if each is not needed])
    response = await gateway.call(without, route[0], path_of(route), body)
    problem = refused(response, 403, "insufficient_scope")
    assert problem["reason"] == "permission_not_in_token"
    assert f'scope="{needed}"' in response.headers["www-authenticate"]
    assert gateway.database.writes == 0
    response = await gateway.call(principal(ROOT), route[0], path_of(route, **CHANGED.get(route, {})), body)
    assert response.status in (200, 201, 204), response


@pytest.mark.parametrize("route", [route for route in ROUTES if route[0] != "GET"], ids=str)
async def test_every_change_states_its_revision_and_waits_for_it(route: tuple[str, str]) -> None:
    gateway = api()
    path = path_of(route, **CHANGED.get(route, {}))
    response = await gateway.call(principal(ROOT), route[0], path, BODIES.get(route))
    assert response.headers["sluicegate-revision"] == str(gateway.directory.revision)
    assert gateway.feed.reached == [gateway.directory.revision]


@pytest.mark.parametrize("route", READS, ids=str)
async def test_no_read_touches_the_database(route: tuple[str, str]) -> None:
    gateway = api()
    assert (await gateway.call(principal(ROOT), "GET", path_of(route))).status == 200
    assert gateway.database.writes == 0


@pytest.mark.parametrize("route", OBJECTS, ids=str)
async def test_what_is_hidden_answers_exactly_as_what_is_missing(route: tuple[str, str]) -> None:
    """The same request with a name that nothing has: the same answer but for the name itself."""
    gateway = api()
    hidden = path_of(route, user=BOB)
    missing = {"team": "nowhere_", "user": "usr_nobody", "upstream": "cl0ck", "tool": "clock__n0w"}
    missing |= {"server": "supp0rt", "token": "tok_0lga"}
    absent = path_of(route, **missing)
    answers = [await gateway.call(zoe, route[0], path, BODIES.get(route)) for path in (hidden, absent)]
    bodies = [answer.body for answer in answers]
    for name, value in missing.items():
        shown = BOB if name == "user" else NAMES[name]
        bodies[1] = bodies[1].replace(value.encode(), shown.encode())
    refused(answers[0], 404, "not_found")
    assert bodies[0] == bodies[1]
    assert {**answers[0].headers, "content-length": ""} == {**answers[1].headers, "content-length": ""}
    assert gateway.database.writes == 0


@pytest.mark.parametrize("route", ROUTES, ids=str)
async def test_a_token_that_expired_or_was_revoked_meanwhile_gets_401(route: tuple[str, str]) -> None:
    gateway = api()
    expired = principal(ROOT, expires_at=NOW)
    refused(await gateway.call(expired, route[0], path_of(route), BODIES.get(route)), 401, "token_expired")
    revoked = replace(expired, token_id=TokenId("tok_olga"), expires_at=NOW + 60)
    gateway.directory.tokens[TokenId("tok_olga")] = replace(gateway.directory.tokens[TokenId("tok_olga")], revoked_at=1)
    response = await gateway.call(revoked, route[0], path_of(route), BODIES.get(route))
    refused(response, 401, "token_revoked")
    assert 'error="invalid_token"' in response.headers["www-authenticate"]
    assert gateway.database.writes == 0


def test_the_walk_has_a_body_for_every_route_that_reads_one() -> None:
    assert set(BODIES) <= set(PERMISSION_OF)
    assert {route for route in ROUTES if route[0] in ("POST", "PUT", "PATCH")} - set(BODIES) == {
        ("POST", "/v1/upstreams/{upstream}/sync"),
        ("POST", "/v1/tokens/{token}/revoke"),
    }


async def test_while_the_database_is_away_reads_go_on_and_changes_wait() -> None:
    api = Api()
    api.feed.fresh = False  # and `ensure_current` raises nothing: the outage bound has not passed
    assert (await api.call(root, "GET", "/v1/teams")).status == 200
    answer = await api.call(root, "POST", "/v1/teams", {"slug": "new", "name": "New"})
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert api.database.writes == 0
