"""`@modelcontextprotocol/server-everything`, the reference server of the TypeScript SDK, as an upstream."""

from collections.abc import Iterator

import pytest
from mcp.client.client import Client

from tests.e2e.running import Caller, Gateway, Tokens, http
from tests.e2e.sdk import connected, text_of


@pytest.fixture(scope="module")
def registered(gateway: Gateway, tokens: Tokens, everything: str) -> Iterator[dict[str, object]]:
    """What the API answered when the server was registered."""
    wanted = {"slug": "everything", "url": everything, "visibility": "public"}
    with http(tokens.root) as admin:
        answer = admin.post(f"{gateway.url}/v1/upstreams", json=wanted)
        assert answer.status_code == 201, answer.text
        yield answer.json()
        admin.delete(f"{gateway.url}/v1/upstreams/everything").raise_for_status()


async def directly_offered(url: str) -> dict[str, object]:
    """The definitions that the server gives to a client of its own, by name."""
    async with Client(url, mode="legacy") as client:
        return definitions(await client.list_tools())


def definitions(listed) -> dict[str, object]:
    return {tool.name: tool.model_dump(exclude={"name"}) for tool in listed.tools}


async def test_all_its_tools_are_listed_as_it_describes_them(
    gateway: Gateway, tokens: Tokens, everything: str, registered
) -> None:
    offered = await directly_offered(everything)
    assert len(offered) >= 10
    assert registered["sync"] == {
        "ok": True,
        "offered": len(offered),
        "added": len(offered),
        "changed": 0,
        "withdrawn": 0,
        "warnings": [],
        "error": None,
    }
    async with connected(f"{gateway.url}/mcp", tokens.bob, "auto") as client:
        listed = definitions(await client.list_tools())
    prefix = "everything__"
    ours = {name.removeprefix(prefix): tool for name, tool in listed.items() if name.startswith(prefix)}
    assert ours == offered


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_it_is_called_by_the_sdk(gateway: Gateway, tokens: Tokens, registered, mode: str) -> None:
    async with connected(f"{gateway.url}/mcp", tokens.bob, mode) as client:
        answer = await client.call_tool("everything__echo", {"message": "over the sluice"})
        assert text_of(answer) == "Echo: over the sluice"
        image = await client.call_tool("everything__get-tiny-image", {})
        assert "image/png" in [getattr(part, "mime_type", None) for part in image.content]
        sum_of = await client.call_tool("everything__get-sum", {"a": 20, "b": 22})
        assert "42" in text_of(sum_of)


def test_it_is_called_by_raw_http(gateway: Gateway, tokens: Tokens, registered) -> None:
    with Caller(f"{gateway.url}/mcp", tokens.bob) as caller:
        answer = caller.call("everything__echo", message="ünï\u2028code")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    expected = {"content": [{"type": "text", "text": "Echo: ünï\u2028code"}]}
    assert answer.json() == {"jsonrpc": "2.0", "id": 1, "result": expected}
