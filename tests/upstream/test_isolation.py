"""No answer reaches another call than its own, and no call lasts longer than its caller."""

import asyncio
import random
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from sluicegate import ledger
from sluicegate.core.catalog import BearerAuth, Era
from sluicegate.core.errors import UpstreamFailed, UpstreamInvalid
from sluicegate.upstream.credentials import CredentialCipher
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from tests.upstream.calls import ID, call, result_of, upstream_at
from tests.upstream.hostile import Exchange, Hostile, LegacySessions, Script, echo, modern, stateless


async def in_a_stream(exchange: Exchange) -> None:
    """The answer as the last of some events."""
    await exchange.start_stream()
    await exchange.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
    await exchange.event({"jsonrpc": "2.0", "id": exchange.json["id"], "result": {"echo": exchange.json["params"]}})
    await exchange.send(b"0\r\n\r\n")


async def in_a_stream_that_ends_later(exchange: Exchange) -> None:
    await exchange.start_stream()
    await exchange.event({"jsonrpc": "2.0", "id": exchange.json["id"], "result": {}})
    for _ in range(10):
        await asyncio.sleep(0)  # turns of the event loop, in which the caller gets its answer
    await exchange.send(b"0\r\n\r\n")


async def either(exchange: Exchange) -> None:
    await random.choice([echo, in_a_stream])(exchange)


@pytest.mark.parametrize("server_of", [modern, stateless, LegacySessions])
async def test_a_thousand_calls_at_once_each_get_their_own_answer(
    server_of: Callable[[Script], Script], upstreams: StreamableHttpUpstreams
) -> None:
    async with Hostile(server_of(either)) as server:
        upstream = upstream_at(server.url)

        async def canary(n: int) -> None:
            result = result_of(await upstreams.call_tool(upstream, call(token=f"tok_{n % 7}", canary=n)))
            assert result["echo"]["arguments"] == {"canary": n}

        async with asyncio.TaskGroup() as tasks:
            for n in range(1000):
                tasks.create_task(canary(n))
        ids = [exchange.json["id"] for exchange in server.seen if "id" in exchange.json]
        assert len(ids) == len(set(ids)) >= 1000


@pytest.mark.parametrize("era", Era)
async def test_a_cancelled_call_closes_its_connection_and_its_answer_reaches_nobody(
    era: Era, upstreams: StreamableHttpUpstreams
) -> None:
    gone = asyncio.Event()

    async def late(exchange: Exchange) -> None:
        if exchange.json["params"]["arguments"].get("late"):
            await exchange.closed()
            gone.set()
            await exchange.result({"late": True})
        else:
            await echo(exchange)

    async with Hostile(modern(late) if era is Era.MODERN else stateless(late)) as server:
        upstream = upstream_at(server.url, era)
        task = asyncio.create_task(upstreams.call_tool(upstream, call(late=True)))
        await server.until(lambda: "tools/call" in server.methods())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(2):
            await gone.wait()
        for n in range(20):
            assert result_of(await upstreams.call_tool(upstream, call(n=n)))["echo"]["arguments"] == {"n": n}


async def test_a_call_that_is_cancelled_in_a_stream_closes_its_connection(upstreams: StreamableHttpUpstreams) -> None:
    gone = asyncio.Event()

    async def streams(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
        await exchange.closed()
        gone.set()

    async with Hostile(modern(streams)) as server:
        task = asyncio.create_task(upstreams.call_tool(upstream_at(server.url, Era.MODERN), call()))
        await server.until(lambda: len(server.seen) == 1)
        task.cancel()
        async with asyncio.timeout(2):
            await gone.wait()


@pytest.mark.parametrize("turns", [0, 10])
async def test_a_response_that_nobody_asked_for_is_not_taken_for_the_next_answer(
    turns: int, upstreams: StreamableHttpUpstreams
) -> None:
    """Whether the event loop has read it (after some turns) or not when the connection is to be used again."""
    answered, sent = asyncio.Event(), asyncio.Event()

    async def twice(exchange: Exchange) -> None:
        await echo(exchange)
        if exchange.connection == 1:
            await answered.wait()
            await exchange.result({"stale": True})
            sent.set()

    async with Hostile(twice) as server:
        upstream = upstream_at(server.url, Era.MODERN)
        await upstreams.call_tool(upstream, call())
        answered.set()
        await sent.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        for n in range(5):
            assert result_of(await upstreams.call_tool(upstream, call(n=n)))["echo"]["arguments"] == {"n": n}
        assert server.connections == 2


async def test_a_connection_that_answered_another_request_is_closed(upstreams: StreamableHttpUpstreams) -> None:
    gone = asyncio.Event()

    async def out_of_step(exchange: Exchange) -> None:
        if exchange.connection == 1:
            await exchange.reply({"jsonrpc": "2.0", "id": 0, "result": {}})
            await exchange.closed()
            gone.set()
        else:
            await echo(exchange)

    async with Hostile(out_of_step) as server:
        upstream = upstream_at(server.url, Era.MODERN)
        with pytest.raises(UpstreamInvalid, match="another request"):
            await upstreams.call_tool(upstream, call())
        async with asyncio.timeout(2):
            await gone.wait()
        await upstreams.call_tool(upstream, call())


async def test_a_call_is_never_sent_twice_when_its_connection_breaks(upstreams: StreamableHttpUpstreams) -> None:
    async def breaks(exchange: Exchange) -> None:
        exchange.reset()

    async with Hostile(breaks) as server:
        for _ in range(3):
            with pytest.raises(UpstreamFailed):
                await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call())
        assert len(server.seen) == 3


async def test_a_connection_that_its_server_closed_while_idle_is_not_used_again(
    upstreams: StreamableHttpUpstreams,
) -> None:
    async def closes_afterwards(exchange: Exchange) -> None:
        await echo(exchange)
        exchange.hang_up()

    async with Hostile(closes_afterwards) as server:
        for n in range(1, 6):
            await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call())
            await server.until(lambda: server.open == 0)
            assert server.connections == n


@pytest.mark.parametrize("script", [echo, in_a_stream, in_a_stream_that_ends_later])
async def test_a_connection_is_used_again_after_an_answer_of_either_kind(
    script: Script, upstreams: StreamableHttpUpstreams
) -> None:
    async with Hostile(modern(script)) as server:
        for n in range(10):
            await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call(n=n))
        assert server.connections == 1


async def test_a_stream_that_stays_open_after_the_answer_is_left(upstreams: StreamableHttpUpstreams) -> None:
    async def lingers(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"jsonrpc": "2.0", "id": exchange.json["id"], "result": {"n": 1}})
        await exchange.closed()

    async with Hostile(modern(lingers)) as server:
        async with asyncio.timeout(1):
            assert result_of(await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call())) == {"n": 1}
        await server.until(lambda: server.open == 0)


async def test_cookies_of_one_caller_are_not_sent_for_another(upstreams: StreamableHttpUpstreams) -> None:
    async def bakes(exchange: Exchange) -> None:
        await exchange.result({}, "Set-Cookie: who=alice; Path=/")

    async with Hostile(modern(bakes)) as server:
        for token in ("tok_a", "tok_b"):
            await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call(token=token))
        assert all("cookie" not in exchange.headers for exchange in server.seen)


async def test_a_proxy_of_the_environment_is_not_used(
    upstreams: StreamableHttpUpstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Hostile(modern()) as proxy, Hostile(modern()) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call())
        assert (len(proxy.seen), len(server.seen)) == (0, 1)


async def test_another_url_or_credential_is_another_connection(
    upstreams: StreamableHttpUpstreams, cipher: CredentialCipher
) -> None:
    async with Hostile(modern()) as first, Hostile(modern()) as second:
        before = upstream_at(first.url, Era.MODERN, BearerAuth(cipher.seal(ID, "one")))
        await upstreams.call_tool(before, call())
        await upstreams.call_tool(replace(before, auth=BearerAuth(cipher.seal(ID, "two"))), call())
        await upstreams.call_tool(replace(before, url=second.url), call())
        assert [exchange.headers["authorization"] for exchange in first.seen] == ["Bearer one", "Bearer two"]
        assert second.seen[0].headers["authorization"] == "Bearer one"
        await first.until(lambda: first.open == 0)


async def test_an_equal_upstream_from_a_newer_revision_uses_the_same_connection(
    upstreams: StreamableHttpUpstreams,
) -> None:
    async with Hostile(modern()) as server:
        for warnings in ((), ("odd tool",)):
            await upstreams.call_tool(replace(upstream_at(server.url, Era.MODERN), sync_warnings=warnings), call())
        assert server.connections == 1


async def test_a_forgotten_upstream_leaves_no_connection_open(upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(modern()) as server:
        await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call())
        await upstreams.forget(ID)
        await upstreams.forget(ID)
        await server.until(lambda: server.open == 0)


async def test_no_upstream_is_called_while_a_database_connection_is_held(upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(modern()) as server:
        with ledger.checkout(ledger.Owner.ADMIN):
            with pytest.raises(ledger.LedgerViolation):
                await upstreams.call_tool(upstream_at(server.url), call())
            with pytest.raises(ledger.LedgerViolation):
                await upstreams.list_tools(upstream_at(server.url))
        assert server.connections == 0
