"""Sessions of a stateful legacy upstream: whose they are, when they die, how they end."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sluicegate.core.catalog import Era
from sluicegate.core.errors import UpstreamInvalid
from sluicegate.ports import UpstreamRefusal
from sluicegate.upstream.credentials import CredentialCipher
from sluicegate.upstream.egress import AddressGuard
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from sluicegate.upstream.transport import Limits
from tests.upstream.calls import ID, call, result_of, upstream_at
from tests.upstream.hostile import Exchange, Hostile, LegacySessions, Script, stateless

HANDSHAKE = ["initialize", "notifications/initialized"]


async def whose(exchange: Exchange) -> None:
    await exchange.result({"session": exchange.headers.get("mcp-session-id")})


async def session_of(upstreams: StreamableHttpUpstreams, server: Hostile, token: str) -> str:
    answer = await upstreams.call_tool(upstream_at(server.url, Era.LEGACY), call(token=token))
    return str(result_of(answer)["session"])


async def test_two_tokens_never_share_a_session_and_one_token_keeps_its_own(upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(LegacySessions(whose)) as server:
        tokens = [f"tok_{n % 20}" for n in range(200)]
        found = await asyncio.gather(*(session_of(upstreams, server, token) for token in tokens))
        by_token = {token: {f for t, f in zip(tokens, found, strict=True) if t == token} for token in tokens}
        assert all(len(sessions) == 1 for sessions in by_token.values())
        assert len(set(found)) == 20
        assert server.methods().count("initialize") == 20


async def test_a_stateless_upstream_is_asked_once_for_all_tokens(upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(stateless(whose)) as server:
        found = await asyncio.gather(*(session_of(upstreams, server, f"tok_{n}") for n in range(50)))
        assert set(found) == {"None"}
        assert server.methods().count("initialize") == 1


DENIALS = {
    "as the specification says": (404, "server-error", -32600),
    "as servers on the TypeScript SDK do": (400, None, -32000),
    "as servers on the Python SDK do": (400, "server-error", -32600),
}


async def own_id(exchange: Exchange, code: int) -> None:
    await exchange.error(code, status=400)


async def no_id(exchange: Exchange, code: int) -> None:
    await exchange.reject(code)


async def bare(exchange: Exchange, code: int) -> None:
    await exchange.respond(400, b"bad", "text/plain")


MAY_HAVE_RUN = [
    (own_id, -32600, LegacySessions),
    (own_id, -32000, LegacySessions),
    (own_id, -32600, stateless),
    (own_id, -32000, stateless),
    (no_id, -32603, LegacySessions),
    (no_id, -32600, stateless),
    (bare, 0, LegacySessions),
    (bare, 0, stateless),
]


@pytest.mark.parametrize(("refuse", "code", "server_of"), MAY_HAVE_RUN)
async def test_a_call_that_may_have_run_is_never_sent_again(
    refuse: Callable[[Exchange, int], Awaitable[None]],
    code: int,
    server_of: Callable[[Script], Script],
    upstreams: StreamableHttpUpstreams,
) -> None:
    async def runs(exchange: Exchange) -> None:
        await refuse(exchange, code)

    async with Hostile(server_of(runs)) as server:
        try:
            assert isinstance(await upstreams.call_tool(upstream_at(server.url, Era.LEGACY), call()), UpstreamRefusal)
        except UpstreamInvalid as error:
            assert "HTTP 400" in str(error)  # noqa: PT017  the bare ones
        assert server.methods().count("tools/call") == 1


async def test_a_404_of_an_upstream_that_keeps_no_sessions_is_not_a_sessions_end(
    upstreams: StreamableHttpUpstreams,
) -> None:
    async def gone(exchange: Exchange) -> None:
        await exchange.respond(404, b"", "text/plain")

    async with Hostile(stateless(gone)) as server:
        with pytest.raises(UpstreamInvalid, match="HTTP 404"):
            await session_of(upstreams, server, "tok_a")
        assert server.methods().count("tools/call") == 1


@pytest.mark.parametrize("denial", DENIALS)
async def test_a_session_that_died_is_replaced_and_the_call_repeated(
    denial: str, upstreams: StreamableHttpUpstreams
) -> None:
    script = LegacySessions(whose, denial=DENIALS[denial])
    async with Hostile(script) as server:
        assert await session_of(upstreams, server, "tok_a") == "session-1"
        assert await session_of(upstreams, server, "tok_b") == "session-2"
        script.sessions.remove("session-1")
        assert await session_of(upstreams, server, "tok_a") == "session-3"
        assert await session_of(upstreams, server, "tok_b") == "session-2"


async def test_many_calls_that_find_the_same_session_dead_make_one_new_one(upstreams: StreamableHttpUpstreams) -> None:
    script = LegacySessions(whose)
    async with Hostile(script) as server:
        await session_of(upstreams, server, "tok_a")
        script.sessions.clear()
        found = await asyncio.gather(*(session_of(upstreams, server, "tok_a") for _ in range(20)))
        assert set(found) == {"session-2"}


async def test_a_call_is_repeated_once_only(upstreams: StreamableHttpUpstreams) -> None:
    async def forgets(exchange: Exchange) -> None:
        await exchange.respond(404, b"", "text/plain")

    async with Hostile(LegacySessions(forgets)) as server:
        with pytest.raises(UpstreamInvalid, match="HTTP 404"):
            await session_of(upstreams, server, "tok_a")
        assert server.methods() == [*HANDSHAKE, "tools/call", *HANDSHAKE, "tools/call", "server/discover"]


async def test_a_stateless_upstream_that_began_to_keep_sessions_is_greeted_again(
    upstreams: StreamableHttpUpstreams,
) -> None:
    now = stateless(whose)

    async def script(exchange: Exchange) -> None:
        await now(exchange)

    async with Hostile(script) as server:
        assert await session_of(upstreams, server, "tok_a") == "None"
        now = LegacySessions(whose)
        assert await session_of(upstreams, server, "tok_a") == "session-1"
        assert await session_of(upstreams, server, "tok_b") == "session-2"


async def test_beyond_the_limit_the_session_that_was_idle_longest_is_ended(cipher: CredentialCipher) -> None:
    script = LegacySessions(whose)
    limits = Limits(call=5, connect=2, max_answer=10_000, sessions=2)
    upstreams = StreamableHttpUpstreams(AddressGuard(allow_private=True), cipher, limits)
    async with Hostile(script) as server:
        for token in ("tok_a", "tok_b", "tok_a", "tok_c"):
            await session_of(upstreams, server, token)
        await server.until(lambda: server.methods().count("DELETE") == 1)
        assert await session_of(upstreams, server, "tok_a") == "session-1"
        await upstreams.close()
        assert script.ended[0] == "session-2"
        assert sorted(script.ended) == ["session-1", "session-2", "session-3"]
        assert script.sessions == set()


async def test_a_session_in_use_is_not_ended_for_another_token(cipher: CredentialCipher) -> None:
    let_go = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        if exchange.json["params"]["arguments"].get("wait"):
            await let_go.wait()
        await whose(exchange)

    script = LegacySessions(waits)
    limits = Limits(call=5, connect=2, max_answer=10_000, sessions=1)
    upstreams = StreamableHttpUpstreams(AddressGuard(allow_private=True), cipher, limits)
    async with Hostile(script) as server, asyncio.TaskGroup() as tasks:
        upstream = upstream_at(server.url, Era.LEGACY)
        slow = tasks.create_task(upstreams.call_tool(upstream, call(token="tok_a", wait=True)))
        await server.until(lambda: server.methods().count("tools/call") == 1)
        assert await session_of(upstreams, server, "tok_b") == "session-2"
        assert "session-1" in script.sessions
        let_go.set()
        assert result_of(await slow) == {"session": "session-1"}
        await upstreams.close()


async def test_forgetting_an_upstream_ends_its_sessions_after_the_calls_under_way(
    upstreams: StreamableHttpUpstreams,
) -> None:
    let_go = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        if exchange.headers["mcp-session-id"] == "session-1":
            await let_go.wait()
        await whose(exchange)

    script = LegacySessions(waits)
    async with Hostile(script) as server, asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(session_of(upstreams, server, "tok_a"))
        await server.until(lambda: server.methods().count("tools/call") == 1)
        await upstreams.forget(ID)
        for _ in range(3):
            assert await session_of(upstreams, server, "tok_b") == "session-2"
        assert "DELETE" not in server.methods()
        let_go.set()
        assert await slow == "session-1"
        await server.until(lambda: server.open == 1)
        assert script.ended == ["session-1"]


async def test_a_late_denial_of_an_old_session_does_not_end_the_new_one(upstreams: StreamableHttpUpstreams) -> None:
    let_go = asyncio.Event()
    greeted = LegacySessions(whose)

    async def script(exchange: Exchange) -> None:
        if exchange.rpc == "tools/call" and exchange.json["params"]["arguments"].get("wait"):
            await let_go.wait()
        await greeted(exchange)

    async with Hostile(script) as server, asyncio.TaskGroup() as tasks:
        await session_of(upstreams, server, "tok_a")
        greeted.sessions.clear()
        upstream = upstream_at(server.url, Era.LEGACY)
        late = tasks.create_task(upstreams.call_tool(upstream, call(token="tok_a", wait=True)))
        await server.until(lambda: server.methods().count("tools/call") == 2)
        assert await session_of(upstreams, server, "tok_a") == "session-2"
        let_go.set()
        assert result_of(await late) == {"session": "session-2"}


async def test_a_handshake_that_fails_leaves_no_session_behind(upstreams: StreamableHttpUpstreams) -> None:
    greeted = LegacySessions(whose)

    async def script(exchange: Exchange) -> None:
        if exchange.rpc == "notifications/initialized":
            await exchange.respond(500, b"", "text/plain")
        else:
            await greeted(exchange)

    async with Hostile(script) as server:
        with pytest.raises(UpstreamInvalid, match="notification"):
            await session_of(upstreams, server, "tok_a")
        await server.until(lambda: "DELETE" in server.methods())
        assert greeted.sessions == set()


async def test_a_handshake_that_is_cancelled_leaves_no_session_behind(upstreams: StreamableHttpUpstreams) -> None:
    greeted = LegacySessions(whose)

    async def script(exchange: Exchange) -> None:
        if exchange.rpc == "notifications/initialized":
            await exchange.closed()
        else:
            await greeted(exchange)

    async with Hostile(script) as server:
        caller = asyncio.create_task(session_of(upstreams, server, "tok_a"))
        await server.until(lambda: "notifications/initialized" in server.methods())
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await server.until(lambda: "DELETE" in server.methods())
        await server.until(lambda: greeted.sessions == set())


async def test_a_session_of_a_version_that_is_not_ours_is_ended(upstreams: StreamableHttpUpstreams) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.result({"protocolVersion": "1999-01-01"}, "Mcp-Session-Id: odd")

    async with Hostile(script) as server:
        with pytest.raises(UpstreamInvalid, match="no protocol version"):
            await session_of(upstreams, server, "tok_a")
        await server.until(lambda: "DELETE" in server.methods())
        assert {e.headers["mcp-session-id"] for e in server.seen if e.rpc == "DELETE"} == {"odd"}


def test_four_thousand_tokens_have_room_for_a_session_each() -> None:
    assert Limits(call=5, connect=2, max_answer=1).sessions >= 2 * 4000


async def test_the_listing_has_a_session_of_its_own_and_ends_it(upstreams: StreamableHttpUpstreams) -> None:
    async def both(exchange: Exchange) -> None:
        if exchange.rpc == "tools/list":
            await exchange.result({"tools": []})
        else:
            await whose(exchange)

    script = LegacySessions(both)
    async with Hostile(script) as server:
        assert await session_of(upstreams, server, "tok_a") == "session-1"
        await upstreams.list_tools(upstream_at(server.url, Era.LEGACY))
        await server.until(lambda: server.methods().count("DELETE") == 1)
        assert script.sessions == {"session-1"}
        assert await session_of(upstreams, server, "tok_a") == "session-1"


async def test_an_upstream_that_ignores_the_end_of_a_session_does_not_hold_anything_up(
    upstreams: StreamableHttpUpstreams,
) -> None:
    greeted = LegacySessions(whose)

    async def script(exchange: Exchange) -> None:
        if exchange.method == "DELETE":
            exchange.reset()
        else:
            await greeted(exchange)

    async with Hostile(script) as server:
        await session_of(upstreams, server, "tok_a")
        await upstreams.close()
        assert server.methods()[-1] == "DELETE"
