"""Streams of `subscriptions/listen` over real sockets: the official SDK's client hears of changes and of its end."""

import asyncio
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path

import pytest
from mcp.client.client import Client
from mcp.client.subscriptions import Subscription, SubscriptionLost, ToolsListChanged
from mcp.shared.exceptions import MCPError

from sluicegate.cli.serve import KILL_AFTER
from tests.e2e.conftest import Opening, example_upstreams
from tests.e2e.running import MODERN, Gateway, Tokens, claims_of, has_ended_well, http, serving, wait_until, workers_of
from tests.e2e.sdk import connected
from tests.e2e.test_bad_input import open_files
from tests.e2e.test_revocation import committed_by
from tests.e2e.wire import PATIENCE, post

BOUND = 2.0
"""Seconds within which a revocation is effective."""
SLACK = 3.0
"""Seconds that a busy machine may take to say so."""
STREAMS = 50
GAUGE = "mcp_streams_open"
SUPPORT = "/servers/support/mcp"
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a connection whose end is a reset."""
numbers = count()


@asynccontextmanager
async def listening(url: str, token: str):
    """The SDK's client with a subscription that was acknowledged."""
    async with connected(url, token, "auto") as client, client.listen(tools_list_changed=True) as subscription:
        yield client, subscription


async def next_event(subscription: Subscription) -> object:
    async with asyncio.timeout(PATIENCE):
        return await anext(subscription)


@contextmanager
def one_more_upstream(gateway: Gateway, root: str, url: str) -> Iterator[str]:
    """Registered by its slug, of root's own, so that no other test sees its tools."""
    slug = f"news-{next(numbers)}"
    with http(root) as admin:
        wanted = {"slug": slug, "url": url, "visibility": "private", "team": "payments"}
        admin.post(f"{gateway.url}/v1/upstreams", json=wanted).raise_for_status()
        yield slug
        admin.delete(f"{gateway.url}/v1/upstreams/{slug}").raise_for_status()


async def names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


async def test_the_sdk_hears_that_an_upstream_came_and_went(opening: Opening, gateway: Gateway, tokens: Tokens) -> None:
    clock = f"http://127.0.0.1:{opening.get(example_upstreams).clock}/mcp"
    async with listening(f"{gateway.url}/mcp", tokens.root) as (client, subscription):
        assert client.server_capabilities.tools.list_changed
        assert subscription.honored.tools_list_changed
        before = await names(client)
        with one_more_upstream(gateway, tokens.root, clock) as slug:
            assert await next_event(subscription) == ToolsListChanged()
            assert f"{slug}__now" in await names(client)
        assert await next_event(subscription) == ToolsListChanged()
        while await names(client) != before:  # the upstream's tools went in a change of their own
            assert await next_event(subscription) == ToolsListChanged()


async def test_on_a_servers_endpoint_the_sdk_hears_of_its_changes_until_it_is_gone(
    gateway: Gateway, tokens: Tokens
) -> None:
    slug = f"news-{next(numbers)}"
    wanted = {"slug": slug, "team": "payments", "visibility": "team", "tools": [{"tool": "clock__now"}]}
    with http(tokens.root) as admin:
        admin.post(f"{gateway.url}/v1/servers", json=wanted).raise_for_status()
        async with listening(f"{gateway.url}/servers/{slug}/mcp", tokens.alice) as (client, subscription):
            both = {"tools": [{"tool": "clock__now"}, {"tool": "clock__add"}]}
            admin.patch(f"{gateway.url}/v1/servers/{slug}", json=both).raise_for_status()
            assert await next_event(subscription) == ToolsListChanged()
            assert await names(client) == ["add", "now"]
            admin.delete(f"{gateway.url}/v1/servers/{slug}").raise_for_status()
            _, error = await lost(subscription)
    assert error.error.message == f"there is no server `{slug}`"


def revoked_by_the_api(gateway: Gateway, root: str, token_id: str) -> float:
    """The instant at which the answer was there, which is right after the commit."""
    with http(root) as admin:
        admin.post(f"{gateway.url}/v1/tokens/{token_id}/revoke").raise_for_status()
    return time.monotonic()


def revoked_by_another_process(gateway: Gateway, _: str, token_id: str) -> float:
    return committed_by(gateway, "token", "revoke", token_id)


async def lost(subscription: Subscription) -> tuple[float, MCPError]:
    """When the stream ended, and the error with which it did."""
    with pytest.raises(SubscriptionLost) as found:
        async with asyncio.timeout(3 * PATIENCE):
            await anext(subscription)
    ended = time.monotonic()
    assert isinstance(found.value.__cause__, MCPError)
    return ended, found.value.__cause__


@pytest.mark.parametrize("path", ["/mcp", SUPPORT])
@pytest.mark.parametrize("revoke", [revoked_by_the_api, revoked_by_another_process])
async def test_a_stream_ends_with_an_error_within_the_bound_of_its_tokens_revocation(
    gateway: Gateway, tokens: Tokens, path: str, revoke: Callable[[Gateway, str, str], float]
) -> None:
    token = gateway.issue(tokens.root, "alice@example.com")
    async with listening(gateway.url + path, token) as (_, subscription), asyncio.TaskGroup() as group:
        losing = group.create_task(lost(subscription))
        committed = await asyncio.to_thread(revoke, gateway, tokens.root, claims_of(token)["jti"])
        ended, error = await losing
    print(f"{revoke.__name__}: the stream ended {(ended - committed) * 1000:.0f} ms after the commit")
    assert error.error.data == {"code": "token_revoked"}
    assert ended - committed <= BOUND + SLACK


def listen_request(token: str, request_id: int = 1) -> bytes:
    prefix = "io.modelcontextprotocol/"
    meta = {f"{prefix}protocolVersion": MODERN, f"{prefix}clientCapabilities": {}}
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": request_id, "method": "subscriptions/listen", "params": params}
    headers = [f"Authorization: Bearer {token}", f"MCP-Protocol-Version: {MODERN}", "Mcp-Method: subscriptions/listen"]
    return post(json.dumps(message).encode(), *headers)


@contextmanager
def raw_stream(port: int, token: str) -> Iterator[socket.socket]:
    """A connection on which a stream was acknowledged."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(listen_request(token))
        seen = b""
        while b"subscriptions/acknowledged" not in seen:
            part = connection.recv(65536)
            assert part, seen
            seen += part
        yield connection


def open_streams(gateway: Gateway) -> float:
    return gateway.metrics()[GAUGE]


def test_nothing_is_left_of_fifty_streams_whose_clients_vanish(gateway: Gateway, tokens: Tokens) -> None:
    [worker] = workers_of(gateway.pid)
    wait_until(lambda: open_streams(gateway) == 0, PATIENCE, "no stream is open")
    files = open_files(worker)
    with ExitStack() as clients:
        streams = [clients.enter_context(raw_stream(gateway.port, tokens.alice)) for _ in range(STREAMS)]
        assert open_streams(gateway) == STREAMS
        for stream in streams[::2]:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    wait_until(lambda: open_streams(gateway) == 0, PATIENCE, "their streams have ended")
    wait_until(lambda: open_files(worker) <= files + 2, PATIENCE, "their connections are closed")
    assert gateway.metrics()['db_checkouts_total{owner="request"}'] == 0


@pytest.mark.parametrize("how", ["the parent alone", "the group, as systemd does", "Ctrl-C"])
async def test_at_sigterm_every_stream_gets_its_result_and_the_process_ends_in_time(
    gateway: Gateway, tokens: Tokens, tmp_path: Path, how: str
) -> None:
    with serving(tmp_path, gateway.environment, "--workers", "2") as ending, ExitStack() as clients:
        raw = [clients.enter_context(raw_stream(ending.port, tokens.alice)) for _ in range(STREAMS)]
        assert open_streams(ending) == STREAMS
        async with listening(f"{ending.url}/mcp", tokens.alice) as (_, subscription):
            began = time.monotonic()
            match how:
                case "the parent alone":
                    os.kill(ending.pid, signal.SIGTERM)
                case "Ctrl-C":
                    os.killpg(ending.pid, signal.SIGINT)
                case _:
                    os.killpg(ending.pid, signal.SIGTERM)
            with pytest.raises(StopAsyncIteration):  # the graceful end; a cut connection is SubscriptionLost
                await next_event(subscription)
        last = [rest_of(stream) for stream in raw]
        await asyncio.to_thread(has_ended_well, ending)
    assert all(b'"result":{"resultType":"complete"' in each for each in last)
    assert time.monotonic() - began < KILL_AFTER


def rest_of(stream: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    parts = []
    while part := stream.recv(65536):
        parts.append(part)
    return b"".join(parts)
