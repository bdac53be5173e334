"""The official Python SDK's client, in each of its modes, against both endpoints and upstreams of both eras."""

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

from tests.e2e.running import Gateway, Tokens
from tests.e2e.sdk import connected, text_of

MODES = {"auto": "2026-07-28", "legacy": "2025-11-25", "2026-07-28": "2026-07-28"}
"""Each mode, and the version that it ends up with."""
CLOCK = ["clock__add", "clock__difference", "clock__now"]
WEB = ["web__fetch", "web__search"]
SUPPORT = ["add", "difference", "now", "read_page"]
MINUTE = {"instant": "2026-01-01T00:00:00+00:00", "seconds": 60}
PAGE = {"url": "https://example.com/"}


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "path, listed, add, fetch",
    [("/mcp", [*CLOCK, *WEB], "clock__add", "web__fetch"), ("/servers/support/mcp", SUPPORT, "add", "read_page")],
)
async def test_it_lists_and_calls_upstreams_of_both_eras(
    gateway: Gateway, tokens: Tokens, path: str, listed: list[str], add: str, fetch: str, mode: str
) -> None:
    async with connected(gateway.url + path, tokens.alice, mode) as client:
        assert client.protocol_version == MODES[mode]
        assert await names(client) == listed
        later = await client.call_tool(add, MINUTE)
        assert later.structured_content == {"result": "2026-01-01T00:01:00+00:00"}
        page = await client.call_tool(fetch, PAGE)
        assert "A sluice is a gate" in text_of(page)


@pytest.mark.parametrize("mode", MODES)
async def test_an_error_of_the_tool_itself_stays_a_result(gateway: Gateway, tokens: Tokens, mode: str) -> None:
    async with connected(f"{gateway.url}/mcp", tokens.alice, mode) as client:
        answer = await client.call_tool("web__fetch", {"url": "https://example.com/nowhere"})
        assert answer.is_error
        assert "there is no page https://example.com/nowhere" in text_of(answer)


@pytest.mark.parametrize("mode", MODES)
async def test_tools_of_another_team_are_not_listed_and_are_unknown(
    gateway: Gateway, tokens: Tokens, mode: str
) -> None:
    async with connected(f"{gateway.url}/mcp", tokens.bob, mode) as client:
        assert await names(client) == WEB
        for missing in ("clock__add", "clock__nothing"):
            with pytest.raises(MCPError, match=f"^unknown tool: {missing}$") as refused:
                await client.call_tool(missing, MINUTE)
            assert (refused.value.error.code, refused.value.error.data) == (-32602, {"code": "not_found"})


@pytest.mark.parametrize("path", ["/servers/support/mcp", "/servers/nothing/mcp"])
@pytest.mark.parametrize("mode", MODES)
async def test_a_server_of_another_team_cannot_be_connected_to(
    gateway: Gateway, tokens: Tokens, path: str, mode: str
) -> None:
    not_found = pytest.RaisesExc(MCPError, match="^Not Found$")
    with pytest.RaisesGroup(not_found, flatten_subgroups=True):
        async with connected(gateway.url + path, tokens.bob, mode) as client:
            await client.list_tools()
