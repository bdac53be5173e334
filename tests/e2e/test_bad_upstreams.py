"""Whatever an upstream does: the caller gets a clear error with a stable code in time, and others notice nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.e2e.conftest import UPSTREAM_TIMEOUT
from tests.e2e.running import Caller, Gateway, Tokens, async_http
from tests.upstream.hostile import Exchange, Hostile, modern

Script = Callable[[Exchange], Awaitable[None]]
UNHURRIED = 2.0
"""Seconds within which everything but a slow upstream has failed; with room for a busy machine."""


async def answers_html(exchange: Exchange) -> None:
    await exchange.respond(200, b"<html><script>alert(1)</script></html>", "text/html")


async def answers_another_id(exchange: Exchange) -> None:
    await exchange.reply({"jsonrpc": "2.0", "id": "another", "result": {"content": []}})


async def answers_garbage(exchange: Exchange) -> None:
    await exchange.respond(200, b'{"jsonrpc":"2.0","id":', "application/json")


async def answers_500(exchange: Exchange) -> None:
    await exchange.respond(500, b"Traceback: secret", "text/plain")


async def redirects(exchange: Exchange) -> None:
    await exchange.respond(307, b"", "text/plain", "Location: http://127.0.0.1:1/mcp")


async def closes_in_the_middle(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
    exchange.hang_up()


async def closes_in_the_middle_of_a_stream(exchange: Exchange) -> None:
    await exchange.start_stream()
    await exchange.chunk(b'data: {"jsonrpc":"2.0",')
    exchange.hang_up()


async def resets(exchange: Exchange) -> None:
    exchange.reset()


async def refuses_our_credential(exchange: Exchange) -> None:
    await exchange.respond(401, b"", "text/plain", 'WWW-Authenticate: Bearer realm="theirs"')


async def never_answers(exchange: Exchange) -> None:
    await exchange.closed()


async def drips(exchange: Exchange) -> None:
    """Says something every moment, so that only a deadline of the whole call ends it."""
    await exchange.start_stream()
    while True:
        await exchange.chunk(b": still here\n\n")
        await asyncio.sleep(0.1)


CODES: dict[Script, str] = {
    answers_html: "upstream_invalid",
    answers_another_id: "upstream_invalid",
    answers_garbage: "upstream_invalid",
    answers_500: "upstream_invalid",
    redirects: "upstream_invalid",
    closes_in_the_middle: "upstream_unreachable",
    closes_in_the_middle_of_a_stream: "upstream_unreachable",
    resets: "upstream_unreachable",
    refuses_our_credential: "upstream_credential_refused",
}
SLOW: list[Script] = [never_answers, drips]


@asynccontextmanager
async def registered(gateway: Gateway, tokens: Tokens, call: Script) -> AsyncIterator[Hostile]:
    """An upstream that lists one tool properly, and then does this when it is called."""

    async def script(exchange: Exchange) -> None:
        if exchange.rpc == "tools/list":
            await exchange.result({"tools": [{"name": "find", "inputSchema": {"type": "object"}}]})
        else:
            await call(exchange)

    async with Hostile(modern(script)) as upstream, async_http(tokens.root) as admin:
        wanted = {"slug": "hostile", "url": upstream.url, "visibility": "public"}
        answer = await admin.post(f"{gateway.url}/v1/upstreams", json=wanted)
        assert answer.json()["sync"]["ok"], answer.text
        try:
            yield upstream
        finally:
            (await admin.delete(f"{gateway.url}/v1/upstreams/hostile")).raise_for_status()


async def failure(gateway: Gateway, tokens: Tokens) -> tuple[str, str]:
    """Code and message of the failed call."""
    with Caller(f"{gateway.url}/mcp", tokens.bob) as caller:
        answer = await asyncio.to_thread(caller.call, "hostile__find")
    assert answer.status_code == 200, "neither era's clients read an error with another status"
    assert "www-authenticate" not in answer.headers
    error = answer.json()["error"]
    assert error["code"] == -32603
    return error["data"]["code"], error["message"]


@pytest.mark.parametrize("script", CODES, ids=lambda script: script.__name__)
async def test_a_broken_upstream_is_named_by_a_stable_code(gateway: Gateway, tokens: Tokens, script: Script) -> None:
    async with registered(gateway, tokens, script):
        began = time.monotonic()
        code, message = await failure(gateway, tokens)
        assert time.monotonic() - began < UNHURRIED
    assert code == CODES[script]
    assert message.startswith("upstream `hostile` ")
    assert "secret" not in message
    assert "<" not in message


@pytest.mark.parametrize("script", SLOW, ids=lambda script: script.__name__)
async def test_a_slow_upstream_is_given_up_and_holds_nobody_up(
    gateway: Gateway, tokens: Tokens, script: Script
) -> None:
    async with registered(gateway, tokens, script) as upstream:
        began = time.monotonic()
        failing = asyncio.create_task(failure(gateway, tokens))
        await upstream.until(lambda: upstream.methods()[-1] == "tools/call")
        with Caller(f"{gateway.url}/mcp", tokens.alice) as other:
            await asyncio.to_thread(other.text, "clock__now")
        assert not failing.done()
        assert await failing == (
            "upstream_timeout",
            f"upstream `hostile` did not answer within {UPSTREAM_TIMEOUT:g} s",
        )
        assert UPSTREAM_TIMEOUT <= time.monotonic() - began < UPSTREAM_TIMEOUT + UNHURRIED
        await upstream.until(lambda: upstream.open == 0)


async def test_an_upstream_that_is_down_is_unreachable(gateway: Gateway, tokens: Tokens) -> None:
    async with registered(gateway, tokens, answers_html) as upstream:
        await upstream.__aexit__()
        assert (await failure(gateway, tokens))[0] == "upstream_unreachable"


async def test_an_upstream_that_is_down_when_registered_is_kept_and_its_failure_told(
    gateway: Gateway, tokens: Tokens
) -> None:
    async with Hostile(answers_html) as upstream:
        url = upstream.url
    async with async_http(tokens.root) as admin:
        wanted = {"slug": "absent", "url": url, "visibility": "public"}
        answer = await admin.post(f"{gateway.url}/v1/upstreams", json=wanted)
        assert answer.status_code == 201
        assert answer.json()["sync"]["error"]["code"] == "upstream_unreachable"
        (await admin.delete(f"{gateway.url}/v1/upstreams/absent")).raise_for_status()
