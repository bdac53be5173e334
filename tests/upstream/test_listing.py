"""`tools/list`: every page, every byte, and an end."""

import pytest

from sluicegate.core.catalog import Era
from sluicegate.core.errors import UpstreamInvalid
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from tests.upstream.calls import upstream_at
from tests.upstream.hostile import Exchange, Hostile, Json, Script, modern

NEXT = {"nextCursor": "x"}
NAME_FIRST = b'{"name":"\\u0061", "x":[1.0,{}],"name":"b"}'


def pages(by_cursor: dict[str | None, Json]) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.result(by_cursor[exchange.json["params"].get("cursor")])

    return modern(script)


async def test_all_pages_are_followed_and_an_empty_cursor_is_one(upstreams: StreamableHttpUpstreams) -> None:
    script = pages(
        {
            None: {"tools": [{"name": "a"}], "nextCursor": ""},
            "": {"tools": [], "nextCursor": "ü"},
            "ü": {"tools": [7, {"name": "b"}], "nextCursor": None},
        }
    )
    async with Hostile(script) as server:
        listing = await upstreams.list_tools(upstream_at(server.url))
    assert listing.tools == (b'{"name": "a"}', b"7", b'{"name": "b"}')


async def test_a_tool_passes_byte_for_byte(upstreams: StreamableHttpUpstreams) -> None:
    async def odd(exchange: Exchange) -> None:
        body = b'{"jsonrpc":"2.0","id":%d,"result":{"tools":[ %b ]}}' % (exchange.json["id"], NAME_FIRST)
        await exchange.respond(200, body, "application/json")

    async with Hostile(modern(odd)) as server:
        assert (await upstreams.list_tools(upstream_at(server.url))).tools == (NAME_FIRST,)


async def test_a_cursor_that_comes_twice_ends_the_listing(upstreams: StreamableHttpUpstreams) -> None:
    again = {"tools": [], "nextCursor": "x"}
    async with Hostile(pages({None: again, "x": again})) as server:
        with pytest.raises(UpstreamInvalid, match="same cursor"):
            await upstreams.list_tools(upstream_at(server.url))
        assert server.methods().count("tools/list") == 2


async def test_pages_without_end_are_cut(upstreams: StreamableHttpUpstreams) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.result({"tools": [], "nextCursor": str(len(server.seen))})

    async with Hostile(modern(endless)) as server:
        with pytest.raises(UpstreamInvalid, match="more than 1000 pages"):
            await upstreams.list_tools(upstream_at(server.url))
        assert server.methods().count("tools/list") == 1000


async def test_more_tools_than_an_upstream_may_have_are_refused(upstreams: StreamableHttpUpstreams) -> None:
    async def many(exchange: Exchange) -> None:
        size = 2500 if "cursor" in exchange.json["params"] else 2500 + over
        await exchange.result({"tools": [1] * size, **({} if "cursor" in exchange.json["params"] else NEXT)})

    over = 0
    async with Hostile(modern(many)) as server:
        assert len((await upstreams.list_tools(upstream_at(server.url))).tools) == 5000
        over = 1
        with pytest.raises(UpstreamInvalid, match="upstream `search` lists more than 5000 tools"):
            await upstreams.list_tools(upstream_at(server.url))


async def test_all_pages_together_are_bounded_as_one_answer_is(upstreams: StreamableHttpUpstreams) -> None:
    async def large(exchange: Exchange) -> None:
        await exchange.result({"tools": [{"name": "x" * 60_000}], "nextCursor": str(len(server.seen))})

    async with Hostile(modern(large)) as server:
        with pytest.raises(UpstreamInvalid, match="more bytes of tools"):
            await upstreams.list_tools(upstream_at(server.url))
        assert server.methods().count("tools/list") == 2


async def test_an_upstream_without_tools_lists_none(upstreams: StreamableHttpUpstreams) -> None:
    async def none(exchange: Exchange) -> None:
        await exchange.error(-32601, status=404)

    async with Hostile(modern(none)) as server:
        listing = await upstreams.list_tools(upstream_at(server.url))
    assert (listing.tools, listing.era) == ((), Era.MODERN)


@pytest.mark.parametrize("result", [{}, {"tools": {}}, {"tools": [], "nextCursor": 7}])
async def test_a_list_of_another_shape_is_invalid(result: Json, upstreams: StreamableHttpUpstreams) -> None:
    async with Hostile(pages({None: result})) as server:
        with pytest.raises(UpstreamInvalid, match="without a list of tools"):
            await upstreams.list_tools(upstream_at(server.url))


async def test_a_refused_list_is_the_upstreams_failure(upstreams: StreamableHttpUpstreams) -> None:
    async def refuses(exchange: Exchange) -> None:
        await exchange.error(-32603)

    async with Hostile(modern(refuses)) as server:
        with pytest.raises(UpstreamInvalid, match=r"refused tools/list \(error -32603\)"):
            await upstreams.list_tools(upstream_at(server.url))
