"""Against the official Python SDK's server, in each of the shapes it takes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer

from sluicegate.core.catalog import Era
from sluicegate.ports import UpstreamRefusal
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from tests.upstream.calls import call, result_of, upstream_at


def build_server() -> MCPServer:
    server = MCPServer("sdk")

    @server.tool()
    async def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    @server.tool()
    async def fail() -> str:
        """Fails."""
        raise ValueError("on purpose")

    return server


def legacy_only(app: Any) -> Any:
    """Takes the modern era's headers away, so that the server sees what a server of the older SDK would make of it."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(k, v) for k, v in scope["headers"] if (k, v) != (b"mcp-protocol-version", b"2026-07-28")]
            scope = {**scope, "headers": headers}
        await app(scope, receive, send)

    return wrapped


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="on"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        async with asyncio.timeout(10):
            while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
                await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/mcp"
        finally:
            server.should_exit = True


async def use(url: str, upstreams: StreamableHttpUpstreams, era: Era) -> str:
    """Lists and calls; returns the version that was agreed on."""
    upstream = upstream_at(url)
    listing = await upstreams.list_tools(upstream)
    assert [json.loads(tool)["name"] for tool in listing.tools] == ["add", "fail"]
    assert listing.era is era
    async with asyncio.TaskGroup() as tasks:
        calls = {
            n: tasks.create_task(upstreams.call_tool(upstream, call("add", f"tok_{n % 3}", a=n, b=1)))
            for n in range(30)
        }
    for n, each in calls.items():
        assert result_of(each.result())["content"][0]["text"] == str(n + 1)
    assert result_of(await upstreams.call_tool(upstream, call("fail")))["isError"] is True
    unknown = await upstreams.call_tool(upstream, call("nothing"))
    assert isinstance(unknown, UpstreamRefusal) or result_of(unknown)["isError"] is True
    return listing.protocol_version


@pytest.mark.parametrize("json_response", [True, False])
async def test_the_modern_sdk_server_lists_and_calls(json_response: bool, upstreams: StreamableHttpUpstreams) -> None:
    async with serving(build_server().streamable_http_app(json_response=json_response)) as url:
        assert await use(url, upstreams, Era.MODERN) == "2026-07-28"
        await upstreams.close()


@pytest.mark.parametrize("json_response", [True, False])
@pytest.mark.parametrize("stateless_http", [True, False])
async def test_the_legacy_sdk_server_lists_and_calls(
    json_response: bool, stateless_http: bool, upstreams: StreamableHttpUpstreams
) -> None:
    app = build_server().streamable_http_app(json_response=json_response, stateless_http=stateless_http)
    async with serving(legacy_only(app)) as url:
        assert await use(url, upstreams, Era.LEGACY) == "2025-11-25"
        await upstreams.close()
