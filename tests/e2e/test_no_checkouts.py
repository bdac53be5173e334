"""What the project exists for: no request takes a database connection, and none is held while an upstream works.

On SQLite, and on PostgreSQL through PgBouncer in transaction mode; both with one connection for all writers.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, cycle, islice
from pathlib import Path

import httpx2
import pytest

from bench.processes import free_port
from tests.e2e.conftest import Postgres, Stack
from tests.e2e.running import Caller, async_http, command, http
from tests.support.servers import fresh_database
from tests.upstream.hostile import Exchange, Hostile, modern

REQUEST = 'db_checkouts_total{owner="request"}'
ADMIN = 'db_checkouts_total{owner="admin"}'
FEED = 'db_checkouts_total{owner="feed"}'
NOUNS = ["teams", "users", "upstreams", "tools", "servers", "tokens"]
CALLS = 200
AT_ONCE = 20
"""Calls that wait for one upstream at the same time."""
slugs = (f"from-inside-{number}" for number in count())


@pytest.fixture(scope="module", params=["stack", "postgres_stack"], ids=["sqlite", "postgresql"])
def warm(request: pytest.FixtureRequest) -> Stack:
    """A gateway whose pool has one connection."""
    stack: Stack = request.getfixturevalue(request.param)
    return stack


def mcp_callers(stack: Stack) -> Iterator[Caller]:
    for path in ("/mcp", "/servers/support/mcp"):
        for is_modern in (False, True):
            yield Caller(stack.gateway.url + path, stack.tokens.alice, modern=is_modern)


def call_both_upstreams(caller: Caller) -> None:
    """One `tools/list` and a `tools/call` for each upstream, by the names of the caller's endpoint."""
    names = [tool["name"] for tool in caller.rpc("tools/list").json()["result"]["tools"]]
    difference, fetch = (
        next(name for name in names if "difference" in name),
        next(name for name in names if name in ("web__fetch", "read_page")),
    )
    assert caller.text(difference, earlier="2026-01-01T00:00:00", later="2026-01-01T00:01:00") == "60.0"
    assert "A sluice is a gate" in caller.text(fetch, url="https://example.com/")


def readable_urls(reader: httpx2.Client, origin: str) -> Iterator[str]:
    """Each list, and each object in it, by its id and where it has one by its slug."""
    for noun in NOUNS:
        yield f"{origin}/v1/{noun}?limit=3"
        for item in reader.get(f"{origin}/v1/{noun}").json()["items"]:
            yield from (f"{origin}/v1/{noun}/{item[key]}" for key in ("id", "slug") if key in item)
    yield f"{origin}/v1/teams/payments/members"


def test_200_calls_and_200_reads_take_no_connection(warm: Stack) -> None:
    before = warm.gateway.metrics()
    callers = list(mcp_callers(warm))
    for caller in islice(cycle(callers), CALLS // 2):  # each calls both upstreams
        call_both_upstreams(caller)
    with http(warm.tokens.root) as reader:
        urls = list(readable_urls(reader, warm.gateway.url))
        assert len(urls) > 2 * len(NOUNS)
        for url in islice(cycle(urls), CALLS):
            assert reader.get(url).status_code == 200, url
    after = warm.gateway.metrics()
    assert after[REQUEST] == 0
    assert after[ADMIN] == before[ADMIN]
    assert after[FEED] > before[FEED], "the directory is followed meanwhile, by its own connection"


class Inside:
    """An upstream whose tool makes a team by our own API before it answers, and says how that went.

    Nobody is answered before `expected` callers wait; then one team is made after the other.
    """

    def __init__(self, stack: Stack, expected: int) -> None:
        self._stack = stack
        self._expected = expected
        self._waiting = 0
        self._complete = asyncio.Event()
        self._turn = asyncio.Lock()

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.rpc == "tools/list":
            await exchange.result({"tools": [{"name": "found_team", "inputSchema": {"type": "object"}}]})
            return
        self._waiting += 1
        if self._waiting == self._expected:
            self._complete.set()
        async with asyncio.timeout(10):
            await self._complete.wait()
        async with self._turn, async_http(self._stack.tokens.root) as admin:
            team = {"slug": next(slugs), "name": "Made by an upstream"}
            answer = await admin.post(f"{self._stack.gateway.url}/v1/teams", json=team)
        await exchange.result({"content": [{"type": "text", "text": str(answer.status_code)}]})


@pytest.fixture
async def inside(warm: Stack) -> AsyncIterator[Inside]:
    """The upstream, registered as `inside`."""
    script = Inside(warm, AT_ONCE)
    async with Hostile(modern(script)) as upstream, async_http(warm.tokens.root) as admin:
        wanted = {"slug": "inside", "url": upstream.url, "visibility": "public"}
        registered = await admin.post(f"{warm.gateway.url}/v1/upstreams", json=wanted)
        assert registered.json()["sync"]["ok"], registered.text
        yield script
        (await admin.delete(f"{warm.gateway.url}/v1/upstreams/inside")).raise_for_status()


async def test_an_upstream_may_write_through_our_own_api_before_it_answers(warm: Stack, inside: Inside) -> None:
    """With one connection for all writers, a single one held by any of the waiting calls would refuse the write."""
    before = await asyncio.to_thread(warm.gateway.metrics)
    loop = asyncio.get_running_loop()
    with Caller(f"{warm.gateway.url}/mcp", warm.tokens.alice) as caller, ThreadPoolExecutor(AT_ONCE) as pool:
        calls = [loop.run_in_executor(pool, caller.text, "inside__found_team") for _ in range(AT_ONCE)]
        assert await asyncio.gather(*calls) == ["201"] * AT_ONCE
    after = await asyncio.to_thread(warm.gateway.metrics)
    assert after[REQUEST] == 0
    assert after[ADMIN] == before[ADMIN] + AT_ONCE


def test_serve_refuses_a_postgresql_that_is_not_migrated_and_names_the_command(
    postgres: Postgres, tmp_path: Path
) -> None:
    with fresh_database(postgres.cluster) as empty:
        url = f"postgresql://sluicegate@127.0.0.1:{postgres.bouncer.port}/{empty}"
        settings = {"SLUICEGATE_DATABASE_URL": url, "SLUICEGATE_DATA_DIR": str(tmp_path)}
        refused = command(settings, "serve", "--port", str(free_port()))
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "error: the database schema is empty: run `sluicegate migrate` with this version"
    )
