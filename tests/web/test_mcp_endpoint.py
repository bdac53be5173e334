"""The MCP endpoints in process: both eras, on both kinds of endpoint, against a directory in memory."""

import json
from typing import Any

import pytest

from sluicegate.core import errors
from sluicegate.core.catalog import ToolSelector, Upstream
from sluicegate.core.identity import Principal
from sluicegate.core.permissions import Permission
from sluicegate.ports import ToolCall, UpstreamAnswer, UpstreamRefusal, UpstreamResult
from sluicegate.protocol import modern
from sluicegate.web.asgi import PRINCIPAL, Scope
from sluicegate.web.mcp_endpoint import McpEndpoint
from sluicegate.web.mcp_methods import LEGACY
from sluicegate.web.mcp_stream import McpStreams, StreamLimits
from tests.support.memory import FakeClock, FakeFeed, FakeUpstreams
from tests.support.world import ALICE, BOB, CLOCK, NOW, SUPPORT, VERA, ZOE, principal, server, tool, user, world
from tests.web.asgi_client import Response, call

META = {modern.PROTOCOL_VERSION: modern.VERSION, modern.CLIENT_CAPABILITIES: {"elicitation": {}}}
JSON_TYPE = {"content-type": "application/json"}
OK = UpstreamResult(b'{"content":[{"type":"text","text":"12:00"}],"future":1.50}')


class AnsweringUpstreams(FakeUpstreams):
    """Gives every call the same answer, or raises it, and remembers the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: UpstreamAnswer | Exception = OK
        self.calls: list[tuple[Upstream, ToolCall]] = []

    async def call_tool(self, upstream: Upstream, call: ToolCall) -> UpstreamAnswer:
        self.calls.append((upstream, call))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Endpoint:
    """The endpoint with its fakes, and short ways to speak to it."""

    def __init__(self, *changed: Any) -> None:
        self.feed = FakeFeed(world(*changed))
        self.upstreams = AnsweringUpstreams()
        self.clock = clock = FakeClock(NOW)
        streams = McpStreams(clock, StreamLimits(recheck=2.0))
        self.mcp = McpEndpoint(self.feed, self.upstreams, clock, lambda scope: "http://gw/.well-known/x", streams)

    async def post(
        self, who: Principal, body: Any, *, server: str | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        async def app(scope: Scope, receive: Any, send: Any) -> None:
            scope[PRINCIPAL] = who
            if server is None:
                await self.mcp.merged(scope, receive, send)
            else:
                await self.mcp.server(server, scope, receive, send)

        raw = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        return await call(app, "POST", "/mcp", headers={**JSON_TYPE, **(headers or {})}, body=raw)

    async def legacy(self, who: Principal, method: str, *, server: str | None = None, **params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        response = await self.post(who, body, server=server, headers={"mcp-protocol-version": "2025-06-18"})
        return json.loads(response.body)

    async def modern(self, who: Principal, method: str, *, server: str | None = None, **params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": {**params, "_meta": META}}
        named = {"mcp-name": params["name"]} if "name" in params else {}
        headers = {"mcp-protocol-version": modern.VERSION, "mcp-method": method, **named}
        return json.loads((await self.post(who, body, server=server, headers=headers)).body)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


def tool_names(answer: Any) -> list[str]:
    return [each["name"] for each in answer["result"]["tools"]]


async def test_each_caller_is_listed_what_it_may_call_and_nothing_else(endpoint):
    assert tool_names(await endpoint.legacy(principal(ALICE), "tools/list")) == [
        "clock__now",
        "clock__sleep",
        "web__fetch",
    ]
    for who in (principal(BOB), principal(ALICE, teams=[]), principal(VERA)):
        assert tool_names(await endpoint.modern(who, "tools/list")) == ["web__fetch"]
    assert tool_names(await endpoint.legacy(principal(ALICE, permissions=[]), "tools/list")) == []


async def test_on_a_servers_endpoint_tools_have_their_own_names(endpoint):
    for by in ("support", SUPPORT):
        answer = await endpoint.modern(principal(ALICE), "tools/list", server=by)
        assert tool_names(answer) == ["fetch", "now", "sleep"]


async def test_a_modern_list_forbids_to_share_it(endpoint):
    result = (await endpoint.modern(principal(ALICE), "tools/list"))["result"]
    assert (result["resultType"], result["ttlMs"], result["cacheScope"]) == ("complete", 0, "private")


async def test_a_call_reaches_the_upstream_under_its_own_name_with_the_bytes_as_they_came(endpoint):
    raw = b'{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"clock__now","arguments":{"n" :1.0e2},'
    raw += b'"task":{"ttl":1},"_meta":{"progressToken":3,"traceparent":"00-1"}}}'
    response = await endpoint.post(principal(ALICE), raw)
    assert response.body == b'{"jsonrpc":"2.0","id":"a","result":' + OK.result + b"}"
    (upstream, sent) = endpoint.upstreams.calls[0]
    assert (upstream.id, sent.name) == (CLOCK, "now")
    assert {key: bytes(value) for key, value in sent.params.items()} == {
        "arguments": b'{"n" :1.0e2}',
        "task": b'{"ttl":1}',
    }
    assert set(sent.meta) == {"progressToken", "traceparent"}
    assert bytes(sent.capabilities) == b"{}"
    assert sent.token_id == principal(ALICE).token_id


async def test_a_modern_call_passes_on_capabilities_and_param_headers_but_no_keys_of_this_hop(endpoint):
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "now", "_meta": {**META, "traceparent": "00-1", modern.CLIENT_INFO: {"name": "c"}}},
    }
    headers = {"mcp-protocol-version": modern.VERSION, "mcp-method": "tools/call", "mcp-name": "now"}
    headers |= {"Mcp-Param-Region": "eu", "authorization": "Bearer secret"}
    response = await endpoint.post(principal(ALICE), body, server="support", headers=headers)
    assert json.loads(response.body)["result"]["resultType"] == "complete"
    (_, sent) = endpoint.upstreams.calls[0]
    assert set(sent.meta) == {"traceparent"}
    assert json.loads(bytes(sent.capabilities)) == {"elicitation": {}}
    assert sent.param_headers == (("mcp-param-region", "eu"),)


@pytest.mark.parametrize(
    "changed", [(), (tool(CLOCK, "hidden", enabled=False),), (tool(CLOCK, "hidden", offered=False),)]
)
async def test_a_hidden_tool_answers_byte_for_byte_like_a_missing_one(changed):
    endpoint = Endpoint(*changed)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "clock__hidden"}}
    reached = await endpoint.post(principal(ALICE), body)
    missing = await Endpoint().post(principal(ALICE), body)
    assert (reached.status, reached.headers, reached.body) == (missing.status, missing.headers, missing.body)
    assert json.loads(reached.body)["error"]["code"] == -32602
    assert endpoint.upstreams.calls == []


async def test_a_tool_of_another_team_answers_like_a_missing_one(endpoint):
    def call_of(name):
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}}

    hidden = await endpoint.post(principal(BOB), call_of("clock__now"))
    missing = await endpoint.post(principal(BOB), call_of("clock__not"))
    assert hidden.body.replace(b"clock__now", b"clock__not") == missing.body
    assert hidden.status == missing.status


async def test_a_tool_that_is_seen_but_may_not_be_called_is_403_with_the_scope(endpoint):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "clock__now"}}
    response = await endpoint.post(principal(VERA), body)
    assert response.status == 403
    assert 'error="insufficient_scope", scope="tools:call"' in response.headers["www-authenticate"]
    assert "resource_metadata=" in response.headers["www-authenticate"]
    assert json.loads(response.body)["error"]["data"] == {
        "code": "insufficient_scope",
        "reason": "permission_not_in_role",
    }
    assert endpoint.upstreams.calls == []


async def test_an_unknown_server_and_one_of_another_team_answer_alike(endpoint):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answers = [await endpoint.post(principal(BOB), body, server=name) for name in ("support", "nothing", "", "a/b")]
    assert [answer.status for answer in answers] == [404] * 4
    assert answers[0].body.replace(b"support", b"nothing") == answers[1].body


async def test_a_server_needs_servers_use(endpoint):
    who = principal(ALICE, permissions=[Permission.TOOLS_CALL])
    response = await endpoint.post(who, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, server="support")
    assert response.status == 403
    assert 'scope="servers:use"' in response.headers["www-authenticate"]


async def test_a_token_for_one_server_sees_its_tools_only_also_on_the_merged_endpoint():
    endpoint = Endpoint(server("clock__now"))
    who = principal(ALICE, servers=[SUPPORT])
    assert tool_names(await endpoint.legacy(who, "tools/list")) == ["clock__now"]
    assert (await endpoint.legacy(who, "tools/call", name="web__fetch"))["error"]["code"] == -32602


async def test_an_alias_leads_to_its_tool():
    endpoint = Endpoint(server(ToolSelector("web__fetch", "get")))
    await endpoint.legacy(principal(ALICE), "tools/call", server="support", name="get")
    assert endpoint.upstreams.calls[0][1].name == "fetch"
    refused = await endpoint.legacy(principal(ALICE), "tools/call", server="support", name="fetch")
    assert "error" in refused


async def test_an_upstreams_own_error_passes_as_it_is(endpoint):
    endpoint.upstreams.answer = UpstreamRefusal(b'{"code":-32005,"message":"own","data":{"x":1.0}}')
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "web__fetch"}}
    response = await endpoint.post(principal(ZOE), body)
    assert response.body == b'{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"own","data":{"x":1.0}}}'


async def test_a_result_with_is_error_stays_a_result(endpoint):
    endpoint.upstreams.answer = UpstreamResult(b'{"content":[],"isError":true}')
    answer = await endpoint.modern(principal(ZOE), "tools/call", name="web__fetch")
    assert answer["result"] == {"resultType": "complete", "content": [], "isError": True}


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (errors.UpstreamTimeout("upstream `web` did not answer within 1 s"), 200, "upstream_timeout"),
        (errors.UpstreamUnreachable("upstream `web` refused the connection"), 200, "upstream_unreachable"),
        (errors.AuthorizationStale("too old"), 503, "authz_stale"),
    ],
)
async def test_a_fault_is_a_json_rpc_error_with_a_stable_word(endpoint, failure, status, code):
    endpoint.upstreams.answer = failure
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "web__fetch"}}
    response = await endpoint.post(principal(ZOE), body)
    content = json.loads(response.body)
    assert (response.status, content["id"], content["error"]["data"]["code"]) == (status, 1, code)
    assert ("retry-after" in response.headers) is (status == 503)


async def test_input_that_only_the_modern_era_can_ask_for_is_refused_at_once_to_a_legacy_client(endpoint):
    endpoint.upstreams.answer = UpstreamResult(b'{"resultType":"input_required","inputRequests":{}}')
    assert (await endpoint.legacy(principal(ZOE), "tools/call", name="web__fetch"))["error"]["code"] == -32021
    passed = await endpoint.modern(principal(ZOE), "tools/call", name="web__fetch")
    assert passed["result"]["resultType"] == "input_required"


@pytest.mark.parametrize("asked", ["2025-11-25", "2025-06-18", "2025-03-26"])
async def test_initialize_agrees_on_a_version_that_we_speak(endpoint, asked):
    result = (await endpoint.legacy(principal(ZOE), "initialize", protocolVersion=asked, capabilities={}))["result"]
    assert result["protocolVersion"] == asked
    assert result["capabilities"] == {"tools": {}}
    assert result["serverInfo"]["name"] == "sluicegate"


async def test_initialize_offers_our_newest_version_for_one_that_we_do_not_speak(endpoint):
    answer = await endpoint.legacy(principal(ZOE), "initialize", protocolVersion="1999-01-01", capabilities={})
    assert answer["result"]["protocolVersion"] == "2025-11-25"


async def test_discover_names_the_modern_version_and_the_server(endpoint):
    result = (await endpoint.modern(principal(ZOE), "server/discover"))["result"]
    assert result["supportedVersions"] == ["2026-07-28"]
    assert result["_meta"][modern.SERVER_INFO]["name"] == "sluicegate"
    assert (result["ttlMs"], result["cacheScope"], result["resultType"]) == (0, "private", "complete")


async def test_ping_is_for_the_legacy_era_and_discover_for_the_modern_one(endpoint):
    assert (await endpoint.legacy(principal(ZOE), "ping"))["result"] == {}
    assert (await endpoint.modern(principal(ZOE), "ping"))["error"]["code"] == -32601
    assert (await endpoint.legacy(principal(ZOE), "server/discover"))["error"]["code"] == -32601


async def test_an_unknown_method_is_404_in_the_modern_era_only(endpoint):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/steal", "params": {"_meta": META}}
    headers = {"mcp-protocol-version": modern.VERSION, "mcp-method": "tools/steal"}
    assert (await endpoint.post(principal(ZOE), body, headers=headers)).status == 404
    del body["params"]
    assert (await endpoint.post(principal(ZOE), body)).status == 200


async def test_a_notification_is_accepted_and_empty(endpoint):
    response = await endpoint.post(principal(ZOE), {"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (response.status, response.body) == (202, b"")


@pytest.mark.parametrize("version", ["1999-01-01", "2026-07-28x", ""])
async def test_an_unknown_version_header_is_a_bad_request(endpoint, version):
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert (await endpoint.post(principal(ZOE), body, headers={"mcp-protocol-version": version})).status == 400


async def test_headers_that_contradict_the_body_are_refused(endpoint):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "web__fetch", "_meta": META}}
    headers = {"mcp-protocol-version": modern.VERSION, "mcp-method": "tools/call", "mcp-name": "clock__now"}
    response = await endpoint.post(principal(ALICE), body, headers=headers)
    assert (response.status, json.loads(response.body)["error"]["code"]) == (400, -32020)
    assert endpoint.upstreams.calls == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
async def test_another_content_type_is_refused(endpoint, content_type):
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert (await endpoint.post(principal(ZOE), body, headers={"content-type": content_type})).status == 415


async def test_a_content_type_with_parameters_is_accepted(endpoint):
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await endpoint.post(principal(ZOE), body, headers=headers)).status == 200


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "OPTIONS", "HEAD"])
async def test_other_http_methods_are_answered_with_the_one_that_works(endpoint, method):
    async def app(scope, receive, send):
        scope[PRINCIPAL] = principal(ZOE)
        await endpoint.mcp.merged(scope, receive, send)

    response = await call(app, method, "/mcp")
    assert (response.status, response.headers["allow"]) == (405, "POST")


async def test_the_name_of_a_tool_must_be_a_string(endpoint):
    assert (await endpoint.legacy(principal(ZOE), "tools/call", name=7))["error"]["code"] == -32602
    assert (await endpoint.legacy(principal(ZOE), "tools/call"))["error"]["code"] == -32602


async def test_long_lists_come_in_pages_that_join_without_gap_or_repetition():
    many = [tool(CLOCK, f"t{number:04}") for number in range(2500)]
    endpoint = Endpoint(*many)
    names: list[str] = []
    params: dict[str, str] = {}
    for _ in range(3):
        answer = await endpoint.legacy(principal(ALICE), "tools/list", **params)
        names += tool_names(answer)
        if "nextCursor" not in answer["result"]:
            break
        params = {"cursor": answer["result"]["nextCursor"]}
    assert names == sorted(names)
    assert len(names) == len(set(names)) == 2503


@pytest.mark.parametrize("cursor", ["%%%", "a", "w6k=w6k=", 7])
async def test_a_cursor_that_is_none_of_ours_is_invalid_params(endpoint, cursor):
    assert (await endpoint.legacy(principal(ALICE), "tools/list", cursor=cursor))["error"]["code"] == -32602


async def test_the_decision_is_made_when_the_body_is_there_not_when_its_headers_were(endpoint):
    """A slow body must not be judged by the world in which it began."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "now"}}).encode()

    async def app(scope, receive, send):
        async def receive_after_a_revocation():
            endpoint.feed.directory = world(server("web__fetch"))
            return await receive()

        scope[PRINCIPAL] = principal(ALICE)
        await endpoint.mcp.server("support", scope, receive_after_a_revocation, send)

    response = await call(app, "POST", "/servers/support/mcp", headers=JSON_TYPE, body=body)
    assert json.loads(response.body)["error"]["message"] == "unknown tool: now"


async def test_the_lease_is_looked_at_again_when_the_body_is_there(endpoint):
    endpoint.feed.fresh, endpoint.feed.stale = False, errors.AuthorizationStale("too old")
    response = await endpoint.post(principal(ALICE), {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert (response.status, json.loads(response.body)["code"]) == (503, "authz_stale")


@pytest.mark.parametrize("method", ["tools/list", "tools/call", "ping", "initialize"])
async def test_a_user_who_was_disabled_while_the_body_arrived_gets_nothing(endpoint, method):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "clock__now"}}).encode()

    async def app(scope, receive, send):
        async def receive_after_the_user_was_disabled():
            endpoint.feed.directory = world(user(ALICE, active=False))
            return await receive()

        scope[PRINCIPAL] = principal(ALICE)
        await endpoint.mcp.merged(scope, receive_after_the_user_was_disabled, send)

    response = await call(app, "POST", "/mcp", headers=JSON_TYPE, body=body)
    assert (response.status, json.loads(response.body)["code"]) == (401, "user_inactive")


@pytest.mark.parametrize(("code", "status"), [(-32021, 400), (-32022, 400), (-32601, 404), (-32603, 200)])
async def test_a_modern_client_gets_an_upstreams_error_with_its_status_a_legacy_one_with_200(endpoint, code, status):
    endpoint.upstreams.answer = UpstreamRefusal(b'{"code":%d,"message":"m"}' % code)
    headers = {"mcp-protocol-version": modern.VERSION, "mcp-method": "tools/call", "mcp-name": "web__fetch"}
    params: dict[str, Any] = {"name": "web__fetch", "_meta": META}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    assert (await endpoint.post(principal(ZOE), body, headers=headers)).status == status
    del params["_meta"]
    assert (await endpoint.post(principal(ZOE), body)).status == 200


async def test_a_modern_notification_without_meta_is_accepted_as_the_sdk_accepts_it(endpoint):
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert (await endpoint.post(principal(ZOE), body, headers={"mcp-protocol-version": modern.VERSION})).status == 202


async def test_an_old_version_is_answered_with_those_that_we_speak(endpoint):
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    response = await endpoint.post(principal(ZOE), body, headers={"mcp-protocol-version": "2024-11-05"})
    error = json.loads(response.body)["error"]
    assert (response.status, error["code"], error["data"]["requested"]) == (400, -32022, "2024-11-05")


async def test_the_permission_that_is_asked_is_the_one_in_the_table(endpoint, monkeypatch):
    monkeypatch.setitem(LEGACY, "tools/list", Permission.PLATFORM_MANAGE)
    assert tool_names(await endpoint.legacy(principal(ALICE), "tools/list")) == []
