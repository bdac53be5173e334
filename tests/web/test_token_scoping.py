"""The layer that nobody passes without a principal."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client import REGISTRY

from sluicegate.core.errors import AuthorizationStale, Unauthenticated
from sluicegate.core.identity import UNNARROWED, Principal, TokenId, UserId
from sluicegate.ports import AuthzFeed
from sluicegate.web.asgi import PRINCIPAL, Answer, Receive, Scope, Send, send_answer
from sluicegate.web.metadata import ResourceMetadata
from sluicegate.web.token_scoping import TokenScopingMiddleware
from tests.web.asgi_client import Headers, Response, call

ALICE = Principal(UserId("usr_alice"), TokenId("tok_1"), UNNARROWED, 1e12)
GOOD = {"Authorization": "Bearer good"}
SCOPE = 'scope="servers:use tools:call", '
METADATA = "http://127.0.0.1:4444/.well-known/oauth-protected-resource"


class OneToken:
    """Knows the token `good`, perhaps not yet its user, and what it was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.verdict: str | None = None
        """The code by which the user is refused."""

    def authenticate(self, token: str) -> Principal:
        self.asked.append(token)
        if self.verdict is not None:
            raise Unauthenticated("the token's user is not one", code=self.verdict)
        if token != "good":
            raise Unauthenticated("the token's signature is not valid", code="token_bad_signature")
        return ALICE


class Lease:
    """A lease that is fresh, or late and then current again, or over; on a directory at revision 7."""

    age = 0.1

    def __init__(self, *, fresh: bool = True, closed: bool = False) -> None:
        self.fresh = fresh
        self.closed = closed
        self.waited = 0
        self.caught_up = 0
        self.on_catching_up: Callable[[], None] = lambda: None
        self.directory = SimpleNamespace(revision=7)
        self.on_reaching: Callable[[], None] = lambda: None
        self.wanted: list[int] = []
        self.reaches = 7
        """The revision that the directory has after waiting for one."""

    async def ensure_current(self) -> None:
        self.waited += 1
        if self.closed:
            raise AuthorizationStale("authorization data is too old")

    async def catch_up(self) -> None:
        self.caught_up += 1
        self.on_catching_up()

    async def reach(self, revision: int) -> None:
        self.wanted.append(revision)
        self.directory.revision = self.reaches
        self.on_reaching()


class Gate:
    """The middleware in front of an app that tells who came in."""

    def __init__(self, lease: Lease | None = None) -> None:
        self.lease = lease or Lease()
        self.tokens = OneToken()
        self.came_in: list[object] = []
        metadata = ResourceMetadata(None, "http://127.0.0.1:4444")
        self.app = TokenScopingMiddleware(self._inside, self.tokens, cast(AuthzFeed, self.lease), metadata.url)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.came_in.append(scope.get(PRINCIPAL))
        await send_answer(send, Answer(200, [], b"inside"))

    async def call(self, target: str = "/mcp", headers: Headers = (), method: str = "POST") -> Response:
        return await call(self.app, method, target, headers=headers)

    async def refusal(self, target: str = "/mcp", headers: Headers = ()) -> tuple[int, str]:
        status, _, body = await self.call(target, headers)
        assert self.came_in == []
        return status, json.loads(body)["code"]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
async def test_a_good_token_comes_in_as_its_principal(gate: Gate, scheme: str) -> None:
    assert (await gate.call(headers={"Authorization": f"{scheme} good"})).status == 200
    assert gate.came_in == [ALICE]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"])
@pytest.mark.parametrize(
    "path", ["/", "/mcp", "/mcp/", "/servers/a/mcp", "/v1/tools", "/nowhere", "//health", "/health/"]
)
async def test_every_path_and_method_needs_a_token(gate: Gate, method: str, path: str) -> None:
    status, headers, body = await gate.call(path, method=method)
    assert (status, json.loads(body)["code"]) == (401, "token_missing")
    assert headers["www-authenticate"].startswith(f'Bearer {SCOPE}resource_metadata="{METADATA}')
    assert gate.came_in == []


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/ready",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/docs/swagger-ui.css",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/servers/a/mcp",
    ],
)
async def test_open_paths_need_none_and_nobody_comes_in_as_somebody(gate: Gate, path: str) -> None:
    assert (await gate.call(path, GOOD, "GET")).status == 200
    assert gate.came_in == [None]
    assert gate.tokens.asked == []


@pytest.mark.parametrize("path", ["/docs/../v1/tools", "/docs/..%2Fv1", "/docsx", "/healthz", "/.well-known/other"])
async def test_paths_that_look_open_are_not(gate: Gate, path: str) -> None:
    assert await gate.refusal(path) == (401, "token_missing")


async def test_a_bad_token_is_challenged_with_the_endpoint_s_metadata(gate: Gate) -> None:
    before = REGISTRY.get_sample_value("auth_failures_total", {"code": "token_bad_signature"}) or 0
    status, headers, body = await gate.call("/servers/support/mcp", {"Authorization": "Bearer bad-token"})
    assert (status, json.loads(body)["code"]) == (401, "token_bad_signature")
    challenge = f'Bearer error="invalid_token", {SCOPE}resource_metadata="{METADATA}/servers/support/mcp"'
    assert headers["www-authenticate"] == challenge
    assert b"bad-token" not in body
    assert REGISTRY.get_sample_value("auth_failures_total", {"code": "token_bad_signature"}) == before + 1


@pytest.mark.parametrize("value", ["", "Bearer", "Basic Z29vZA==", "good", "Bearer\tgood", "Token good", "Bearergood"])
async def test_a_header_without_a_bearer_token_is_refused(gate: Gate, value: str) -> None:
    status, code = await gate.refusal(headers={"Authorization": value})
    assert status == 401
    assert code in ("token_missing", "token_bad_signature")
    assert "good" not in gate.tokens.asked


TWO: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "two headers": ("/mcp", [("Authorization", "Bearer good"), ("Authorization", "Bearer good")]),
    "two schemes": ("/mcp", [("Authorization", "Basic Z29vZA=="), ("Authorization", "Bearer good")]),
    "two in one header": ("/mcp", [("Authorization", "Bearer good, Bearer good")]),
    "header and session cookie": ("/mcp", [*GOOD.items(), ("Cookie", "a=b; sluicegate_session=x")]),
    "header and query": ("/mcp?access_token=good", [*GOOD.items()]),
    "query alone": ("/mcp?a=b&token=good", []),
    "query, escaped": ("/mcp?acc%65ss_token=good", []),
    "query, another case": ("/mcp?Access_Token=good", []),
    "query, empty": ("/mcp?access_token", []),
}


@pytest.mark.parametrize("name", TWO)
async def test_two_credentials_or_one_in_the_url_are_refused(gate: Gate, name: str) -> None:
    target, headers = TWO[name]
    assert await gate.refusal(target, headers) == (400, "ambiguous_credential")
    assert gate.tokens.asked == []


async def test_other_parameters_and_cookies_are_no_credentials(gate: Gate) -> None:
    headers = GOOD | {"Cookie": "theme=dark; token=of-another-application"}
    assert (await gate.call("/v1/tools?limit=5&cursor=token", headers)).status == 200


async def test_a_fresh_lease_is_not_waited_for(gate: Gate) -> None:
    await gate.call(headers=GOOD)
    assert gate.lease.waited == 0


async def test_a_late_lease_is_waited_for_before_anybody_is_judged() -> None:
    gate = Gate(Lease(fresh=False))
    assert (await gate.call(headers=GOOD)).status == 200
    assert gate.lease.waited == 1


async def test_when_nothing_may_be_decided_the_answer_is_503_and_nobody_is_judged() -> None:
    gate = Gate(Lease(fresh=False, closed=True))
    status, headers, body = await gate.call(headers=GOOD)
    assert (status, json.loads(body)["code"], headers["retry-after"]) == (503, "authz_stale", "1")
    assert "www-authenticate" not in headers
    assert (gate.tokens.asked, gate.came_in) == ([], [])


async def test_a_user_who_was_added_a_moment_ago_comes_in_after_the_shared_poll(gate: Gate) -> None:
    gate.tokens.verdict = "user_unknown"
    gate.lease.on_catching_up = lambda: setattr(gate.tokens, "verdict", None)
    assert (await gate.call(headers=GOOD)).status == 200
    assert gate.came_in == [ALICE]


async def test_a_user_who_is_still_unknown_after_one_poll_is_refused(gate: Gate) -> None:
    gate.tokens.verdict = "user_unknown"
    assert await gate.refusal(headers=GOOD) == (401, "user_unknown")
    assert gate.lease.caught_up == 1


async def test_a_forged_token_waits_for_no_poll(gate: Gate) -> None:
    assert await gate.refusal(headers={"Authorization": "Bearer forged"}) == (401, "token_bad_signature")
    assert gate.lease.caught_up == 0


async def test_a_broken_authenticator_lets_nobody_in(gate: Gate) -> None:
    def broken(token: str) -> Principal:
        raise ZeroDivisionError

    gate.tokens.authenticate = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await gate.call(headers=GOOD)
    assert gate.came_in == []


# --- a revision that the request wants at least ---------------------------------------------------------------------


def wanting(*revisions: str) -> Headers:
    return [*GOOD.items(), *(("Sluicegate-Min-Revision", revision) for revision in revisions)]


@pytest.mark.parametrize("revision", ["0", "6", "7", "007"])
async def test_a_revision_that_is_reached_is_not_waited_for(gate: Gate, revision: str) -> None:
    assert (await gate.call(headers=wanting(revision))).status == 200
    assert gate.lease.wanted == []


async def test_a_revision_that_is_on_its_way_is_waited_for_before_anybody_is_judged(gate: Gate) -> None:
    gate.lease.reaches = 8
    assert (await gate.call("/v1/tools", wanting("8"), "GET")).status == 200
    assert gate.lease.wanted == [8]


async def test_a_revision_that_does_not_come_is_the_gateways_fault_and_nobody_is_judged(gate: Gate) -> None:
    status, headers, body = await gate.call(headers=wanting("8"))
    assert (status, json.loads(body)["code"], headers["retry-after"]) == (503, "revision_not_reached", "1")
    assert "sluicegate-authz-age" not in headers
    assert gate.came_in == []


async def test_a_stranger_waits_for_no_revision_and_learns_none(gate: Gate) -> None:
    headers = {"Authorization": "Bearer forged", "Sluicegate-Min-Revision": "8"}
    assert await gate.refusal(headers=headers) == (401, "token_bad_signature")
    assert gate.lease.wanted == []


@pytest.mark.parametrize("verdict", ["user_unknown", "user_inactive"])
async def test_a_user_whom_only_the_wanted_revision_lets_in_is_waited_for(gate: Gate, verdict: str) -> None:
    gate.tokens.verdict = verdict
    gate.lease.reaches = 8
    gate.lease.on_reaching = lambda: setattr(gate.tokens, "verdict", None)
    assert (await gate.call(headers=wanting("8"))).status == 200
    assert gate.came_in == [ALICE]


@pytest.mark.parametrize(
    "revisions", [[""], ["-1"], ["+1"], ["1.5"], ["x"], ["0x1"], ["1 2"], ["1, 2"], ["9" * 19], ["\xb2"], ["1", "1"]]
)
async def test_what_is_not_one_revision_is_refused(gate: Gate, revisions: list[str]) -> None:
    assert await gate.refusal(headers=wanting(*revisions)) == (400, "invalid_input")
    assert (gate.lease.wanted, gate.tokens.asked) == ([], [])


async def test_nobody_waits_for_a_revision_without_a_token_or_on_a_public_page(gate: Gate) -> None:
    revision = {"Sluicegate-Min-Revision": "8"}
    assert await gate.refusal(headers=revision) == (401, "token_missing")
    assert (await gate.call("/ready", revision, "GET")).status == 200
    assert gate.lease.wanted == []
