"""How an upstream's era is found, believed and found again; and what goes over the wire in each."""

import asyncio
import json

import pytest
from mcp.shared.inbound import classify_inbound_request, decode_header_value, encode_header_value
from msgspec import Raw

from sluicegate.core.catalog import Era
from sluicegate.core.errors import InvalidInput, UpstreamInvalid
from sluicegate.core.identity import TokenId
from sluicegate.ports import Listing, ToolCall, UpstreamRefusal
from sluicegate.protocol.modern import decoded_header
from sluicegate.upstream.modern import encoded_header
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from tests.upstream.calls import call, result_of, upstream_at
from tests.upstream.hostile import Exchange, Hostile, LegacySessions, Script, modern, stateless

RICH = ToolCall(
    "grüße senden",
    {"arguments": Raw(b'{"a": 1.0}'), "requestState": Raw(b'"s"')},
    {"progressToken": Raw(b"7"), "traceparent": Raw(b'"00-1"')},
    Raw(b'{"elicitation":{}}'),
    TokenId("tok_a"),
    (("Mcp-Param-Region", "eu"), ("mcp-param-x", "=?base64?w6k=?=")),
)


async def test_a_modern_call_says_in_its_headers_what_its_body_says(upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(modern()) as server:
        result = result_of(await upstreams.call_tool(upstream_at(server.url, Era.MODERN), RICH))
        (sent,) = server.seen
    assert classify_inbound_request(sent.json, headers=sent.headers).__class__.__name__ == "InboundModernRoute"
    assert decode_header_value(sent.headers["mcp-name"]) == "grüße senden"
    assert (sent.headers["mcp-param-region"], sent.headers["mcp-param-x"]) == ("eu", "=?base64?w6k=?=")
    assert sent.headers["accept"] == "application/json, text/event-stream"
    assert sent.headers["accept-encoding"] == "identity"
    assert "mcp-session-id" not in sent.headers
    assert "authorization" not in sent.headers
    meta = result["echo"].pop("_meta")
    assert result["echo"] == {"name": "grüße senden", "arguments": {"a": 1.0}, "requestState": "s"}
    assert meta.pop("io.modelcontextprotocol/clientInfo")["name"] == "sluicegate"
    assert meta == {
        "progressToken": 7,
        "traceparent": "00-1",
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    }


async def test_a_legacy_call_carries_no_key_or_header_of_the_modern_era(upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(stateless()) as server:
        result = result_of(await upstreams.call_tool(upstream_at(server.url, Era.LEGACY), RICH))
        initialize, initialized, sent = server.seen
    assert result["echo"]["_meta"] == {"progressToken": 7, "traceparent": "00-1"}
    assert not {"mcp-method", "mcp-name", "mcp-param-region", "mcp-session-id"} & set(sent.headers)
    assert sent.headers["mcp-protocol-version"] == "2025-06-18"
    assert initialize.json["params"]["protocolVersion"] == "2025-11-25"
    assert "mcp-protocol-version" not in initialize.headers
    assert initialized.json == {"jsonrpc": "2.0", "method": "notifications/initialized"}


async def test_what_our_keys_say_cannot_be_overridden_by_the_caller(upstreams: StreamableHttpUpstreams) -> None:
    forged = ToolCall(
        "find",
        {"name": Raw(b'"other"'), "_meta": Raw(b'{"x":1}')},
        {"io.modelcontextprotocol/protocolVersion": Raw(b'"1999-01-01"')},
        Raw(b"{}"),
        TokenId("tok_a"),
        (),
    )
    async with Hostile(modern()) as server:
        sent = result_of(await upstreams.call_tool(upstream_at(server.url, Era.MODERN), forged))["echo"]
    assert sent["name"] == "find"
    assert sent["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert "x" not in sent["_meta"]


@pytest.mark.parametrize(
    "name", ["find", "a b", " a", "ü", "", "=?base64?eA==?=", "=?base64?", "x\ty", "\u202e", "\r\nX: y"]
)
def test_a_name_survives_its_header_as_with_the_official_sdk(name: str) -> None:
    assert decode_header_value(encoded_header(name)) == name
    assert decoded_header(encode_header_value(name)) == name
    assert encoded_header(name).isprintable()
    if name != "=?base64?":
        assert encoded_header(name) == encode_header_value(name)


@pytest.mark.parametrize(
    "header", [("Host", "evil"), ("Mcp-Param-X", "a\r\nb"), ("Mcp-Param-X\r\nA", "b"), ("Mcp-Param-", "b")]
)
async def test_a_header_that_is_not_a_plain_parameter_is_not_passed_on(
    header: tuple[str, str], upstreams: StreamableHttpUpstreams
) -> None:
    forged = ToolCall("find", {}, {}, Raw(b"{}"), TokenId("tok_a"), (header,))
    async with Hostile(modern()) as server:
        with pytest.raises(InvalidInput):
            await upstreams.call_tool(upstream_at(server.url, Era.MODERN), forged)
        assert server.seen == []


async def test_the_probe_finds_a_modern_upstream_once(upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(modern()) as server:
        for _ in range(3):
            await upstreams.call_tool(upstream_at(server.url), call())
        assert server.methods() == ["server/discover", *["tools/call"] * 3]


def says(status: int, body: dict[str, object] | None, **kind: str) -> Script:
    async def script(exchange: Exchange) -> None:
        if body is None:
            await exchange.respond(status, b"<html>not here</html>", "text/html")
        else:
            await exchange.reply({"jsonrpc": "2.0", "id": exchange.json["id"], **body}, status=status)

    return script


def refuses(code: int, **data: object) -> dict[str, object]:
    return {"error": {"code": code, "message": "no", "data": data}}


NOT_MODERN = {
    "400 in html": says(400, None),
    "404 in html": says(404, None),
    "405 in html": says(405, None),
    "500 in html": says(500, None),
    "200 in html": says(200, None),
    "unknown method": says(200, refuses(-32601)),
    "unknown method, 404": says(404, refuses(-32601)),
    "not initialized": says(400, refuses(-32000)),
    "only an older version": says(400, refuses(-32022, supported=["2025-11-25"])),
    "a result that lists no modern version": says(200, {"result": {"supportedVersions": ["2025-11-25"]}}),
    "a result that is none": says(200, {"result": {"supportedVersions": "2026-07-28"}}),
}


@pytest.mark.parametrize("name", NOT_MODERN)
async def test_anything_but_a_modern_answer_to_the_probe_means_legacy(
    name: str, upstreams: StreamableHttpUpstreams
) -> None:
    legacy = stateless()

    async def script(exchange: Exchange) -> None:
        await (NOT_MODERN[name] if exchange.rpc == "server/discover" else legacy)(exchange)

    async with Hostile(script) as server:
        await upstreams.call_tool(upstream_at(server.url), call())
        assert server.methods() == ["server/discover", "initialize", "notifications/initialized", "tools/call"]


@pytest.mark.parametrize("code", [-32020, -32021])
async def test_an_error_that_only_the_modern_era_knows_means_modern(
    code: int, upstreams: StreamableHttpUpstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.rpc == "server/discover":
            await exchange.error(code, status=400)
        else:
            await modern()(exchange)

    async with Hostile(script) as server:
        await upstreams.call_tool(upstream_at(server.url), call())
        assert server.methods() == ["server/discover", "tools/call"]


@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"])
async def test_every_legacy_version_is_agreed_to(version: str, upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(stateless(version=version)) as server:
        await upstreams.call_tool(upstream_at(server.url), call())
        assert server.seen[-1].headers["mcp-protocol-version"] == version


@pytest.mark.parametrize("version", ["2026-07-28", "1999-01-01", "", None, 7])
async def test_another_version_is_not_agreed_to(version: object, upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(stateless(version=version)) as server:  # type: ignore[arg-type]
        with pytest.raises(UpstreamInvalid, match="protocol version"):
            await upstreams.call_tool(upstream_at(server.url), call())
        assert "tools/call" not in server.methods()


async def test_an_upstream_that_became_modern_is_found_out_and_called(upstreams: StreamableHttpUpstreams) -> None:
    now: Script = stateless()

    async def script(exchange: Exchange) -> None:
        await now(exchange)

    async with Hostile(script) as server:
        upstream = upstream_at(server.url, Era.LEGACY)
        await upstreams.call_tool(upstream, call(n=1))
        now = modern()
        for n in (2, 3):
            assert result_of(await upstreams.call_tool(upstream, call(n=n)))["echo"]["arguments"] == {"n": n}
        assert server.methods()[3:] == ["tools/call", "server/discover", "tools/call", "tools/call"]


async def test_a_remembered_legacy_era_that_is_over_costs_one_probe(upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(modern()) as server:
        for n in (1, 2):
            await upstreams.call_tool(upstream_at(server.url, Era.LEGACY), call(n=n))
        assert server.methods() == ["initialize", "server/discover", "tools/call", "tools/call"]


async def test_an_upstream_that_became_legacy_is_found_out_and_called(upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(LegacySessions()) as server:
        upstream = upstream_at(server.url, Era.MODERN)
        for n in (1, 2):
            sent = result_of(await upstreams.call_tool(upstream, call(n=n)))["echo"]
            assert sent == {"name": "find", "arguments": {"n": n}}
        handshake = ["initialize", "notifications/initialized"]
        assert server.methods() == ["tools/call", "server/discover", *handshake, "tools/call", "tools/call"]


async def test_a_modern_upstream_that_refuses_one_call_keeps_its_era_and_its_answer(
    upstreams: StreamableHttpUpstreams,
) -> None:
    async def odd(exchange: Exchange) -> None:
        await exchange.error(-32000, status=400)

    async with Hostile(modern(odd)) as server:
        answer = await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call())
        assert isinstance(answer, UpstreamRefusal)
        assert json.loads(answer.error)["code"] == -32000
        assert server.methods() == ["tools/call"]


async def bare_400(exchange: Exchange) -> None:
    await exchange.respond(400, b"bad", "text/plain")


async def test_after_a_bare_400_the_era_is_asked_for_but_the_call_not_repeated(
    upstreams: StreamableHttpUpstreams,
) -> None:
    executed = 0

    async def lax(exchange: Exchange) -> None:
        nonlocal executed
        executed += 1
        await bare_400(exchange)

    async with Hostile(stateless(lax)) as server:
        with pytest.raises(UpstreamInvalid, match="HTTP 400"):
            await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call())
        assert executed == 1
        assert server.methods() == ["tools/call", "server/discover"]


@pytest.mark.parametrize("era", [Era.LEGACY, Era.MODERN])
async def test_an_error_that_names_our_request_is_an_answer_and_costs_no_probe(
    era: Era, upstreams: StreamableHttpUpstreams
) -> None:
    async def refuses_call(exchange: Exchange) -> None:
        await exchange.error(-32602, status=400)

    async with Hostile(modern(refuses_call) if era is Era.MODERN else stateless(refuses_call)) as server:
        for _ in range(3):
            assert isinstance(await upstreams.call_tool(upstream_at(server.url, era), call()), UpstreamRefusal)
        assert "server/discover" not in server.methods()
        assert server.methods().count("tools/call") == 3


async def test_many_calls_that_doubt_the_era_at_once_share_a_probe(upstreams: StreamableHttpUpstreams) -> None:
    all_called = asyncio.Event()
    legacy = stateless(bare_400)

    async def script(exchange: Exchange) -> None:
        if exchange.rpc == "tools/call" and server.methods().count("tools/call") == 40:
            all_called.set()
        elif exchange.rpc == "server/discover":
            await all_called.wait()
        await legacy(exchange)

    async with Hostile(script) as server:
        calls = [upstreams.call_tool(upstream_at(server.url, Era.LEGACY), call(token=f"tok_{n}")) for n in range(40)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {UpstreamInvalid}
        assert server.methods().count("tools/call") == 40
        assert server.methods().count("server/discover") <= 2


async def test_a_listing_probes_anew_and_names_what_it_found(upstreams: StreamableHttpUpstreams) -> None:
    async def tools(exchange: Exchange) -> None:
        await exchange.result({"tools": [{"name": "find"}]})

    async with Hostile(modern(tools)) as server:
        found = await upstreams.list_tools(upstream_at(server.url, Era.LEGACY))
        assert found == Listing((b'{"name": "find"}',), Era.MODERN, "2026-07-28")
        assert server.methods() == ["server/discover", "tools/list"]
        assert server.seen[1].headers["mcp-method"] == "tools/list"
        assert "mcp-name" not in server.seen[1].headers

    async with Hostile(stateless(tools)) as server:
        found = await upstreams.list_tools(upstream_at(server.url, Era.MODERN))
        assert (found.era, found.protocol_version) == (Era.LEGACY, "2025-06-18")
