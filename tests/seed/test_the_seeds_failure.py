"""The failure that this project exists for (design, section 1), in miniature, and the same traffic through our stack.

Both are behind PgBouncer in transaction mode on one PostgreSQL, before the same slow upstream, for the same callers.
The old shape has a pool of 20 + 10; ours has a single connection.
"""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest
from msgspec import Struct

from bench.processes import free_port, server
from tests.e2e.running import Gateway, async_http, command, serving
from tests.support.servers import Server, fresh_database, pgbouncer, postgresql
from tests.upstream.hostile import Exchange, Hostile, modern

EARLY, LATE = 30, 15
"""Callers: as many as the old shape's pool has connections, and some more."""
POOL_TIMEOUT = 0.2
"""Seconds; the original's were 60."""
HELD_AFTER = 0.5
"""Seconds after which a transaction counts as held: our own take milliseconds."""
LIMIT = 60.0
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "slow__work", "arguments": {}}}
DECLARATION = """
users:
  - {{email: alice@example.com, teams: {{payments: developer}}}}
teams:
  - {{slug: payments, name: Payments}}
upstreams:
  - {{slug: slow, url: "{url}", team: payments, visibility: team}}
"""
HELD = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = %s AND state = 'idle in transaction' AND now() - xact_start > make_interval(secs => %s)
"""


class Site(Struct, frozen=True):
    """A migrated database behind PgBouncer."""

    cluster: Server
    bouncer: Server
    database: str

    @property
    def url(self) -> str:
        return self.bouncer.url(self.database)

    def held(self) -> int:
        """Transactions that are open while their client does something else."""
        with psycopg.connect(self.cluster.url("postgres"), autocommit=True) as session:
            row = session.execute(HELD, [self.database, HELD_AFTER]).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """PgBouncer has server connections for three instances of the old shape, so that it is not what fails."""
    with (
        postgresql() as cluster,
        pgbouncer(cluster, default_pool_size=90) as bouncer,
        fresh_database(cluster) as database,
    ):
        found = Site(cluster, bouncer, database)
        migrated = command({"SLUICEGATE_DATABASE_URL": found.url}, "migrate")
        assert migrated.returncode == 0, migrated.stderr
        yield found


class SlowUpstream:
    """Its tool answers when it is let: `calls` wait for that now."""

    def __init__(self) -> None:
        self._let_go = asyncio.Event()
        self.calls = 0

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.rpc == "tools/list":
            await exchange.result({"tools": [{"name": "work", "inputSchema": {"type": "object"}}]})
            return
        self.calls += 1
        await self._let_go.wait()
        self.calls -= 1
        await exchange.result({"content": [{"type": "text", "text": "done"}]})

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Answers nobody before the end."""
        self._let_go.clear()
        try:
            yield
        finally:
            self._let_go.set()


class Seen(Struct, frozen=True):
    """What the callers got, and the transactions that were held while the upstream worked."""

    answers: Counter[str]
    held: int


async def traffic(url: str, token: str, upstream: SlowUpstream, site: Site) -> Seen:
    """All call while the upstream works for those who came before; it is done when nobody else gets through to it."""
    async with asyncio.timeout(LIMIT), async_http(token) as client:
        client.timeout = httpx2.Timeout(LIMIT)

        def call() -> asyncio.Task[httpx2.Response]:
            return asyncio.create_task(client.post(f"{url}/mcp", json=CALL))

        with upstream.working():
            early = [call() for _ in range(EARLY)]
            await until(lambda: upstream.calls == EARLY)
            late = [call() for _ in range(LATE)]
            await until(lambda: upstream.calls == EARLY + LATE or all(task.done() for task in late))
            await asyncio.sleep(HELD_AFTER)
            held = await asyncio.to_thread(site.held)
        answers = await asyncio.gather(*early, *late)
    return Seen(Counter(map(meaning, answers)), held)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.to_thread(time.sleep, 0.01)


def meaning(answer: httpx2.Response) -> str:
    """`done`, or the status and what was said."""
    body = answer.json()
    content = body.get("result", {}).get("content", [])
    return content[0]["text"] if content else f"{answer.status_code} {body.get('detail', body)}"


def told(answers: Counter[str]) -> str:
    """How often each answer was given, for people."""
    return ", ".join(f"{count} x {answer}" for answer, count in answers.items())


@contextlib.contextmanager
def old_shape(site: Site, upstream: str, folder: Path) -> Iterator[str]:
    """The old shape, serving; its URL."""
    port = free_port()
    database = site.url.replace("postgresql:", "postgresql+psycopg:")
    arguments = [str(port), database, upstream, str(POOL_TIMEOUT)]
    with server([sys.executable, "-m", "tests.seed.old_shape", *arguments], port, folder, {}):
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def in_a_thread() -> AsyncIterator[contextlib.ExitStack]:
    """What is entered in a thread is left in one: the loop serves the upstream meanwhile."""
    running = contextlib.ExitStack()
    try:
        yield running
    finally:
        await asyncio.to_thread(running.close)


def populated(gateway: Gateway, home: Path, upstream: str) -> str:
    """Declares one user and the upstream; the user's token."""
    gateway.apply(home, DECLARATION.format(url=upstream))
    return gateway.token("alice@example.com")


def failures_in(folder: Path) -> int:
    """How often the old shape found no connection, by its log."""
    log = "".join(file.read_text() for file in folder.glob("*.log"))
    return log.count("QueuePool limit of size 20 overflow 10 reached, connection timed out")


async def test_what_killed_the_old_shape_takes_no_connection_here(
    site: Site, tmp_path: Path, report: Callable[[str], None]
) -> None:
    settings = {"SLUICEGATE_DATABASE_URL": site.url, "SLUICEGATE_DB_POOL_SIZE": "1", "SLUICEGATE_DB_MAX_OVERFLOW": "0"}
    slow = SlowUpstream()
    async with Hostile(modern(slow)) as upstream, in_a_thread() as running:
        gateway = await asyncio.to_thread(running.enter_context, serving(tmp_path, settings))
        token = await asyncio.to_thread(populated, gateway, tmp_path, upstream.url)
        old_url = await asyncio.to_thread(running.enter_context, old_shape(site, upstream.url, tmp_path))

        old = await traffic(old_url, token, slow, site)
        before = await asyncio.to_thread(gateway.metrics)
        ours = await traffic(gateway.url, token, slow, site)
        after = await asyncio.to_thread(gateway.metrics)

    failures = failures_in(tmp_path)
    asked = after['db_checkouts_total{owner="request"}']
    report(f"old shape, pool 20 + 10: {told(old.answers)}; {failures} x QueuePool limit; {old.held} transactions held")
    report(f"sluicegate, pool 1 + 0: {told(ours.answers)}; {asked:.0f} checkouts by requests; {ours.held} held")

    assert old.held == EARLY, "every connection of the pool, across the upstream's work"
    assert failures == LATE
    assert old.answers == {"done": EARLY, "403 access denied": LATE}, "an infrastructure fault, told as a decision"

    assert ours.held == 0
    assert ours.answers == {"done": EARLY + LATE}
    assert asked == 0
    assert after['db_checkouts_total{owner="admin"}'] == before['db_checkouts_total{owner="admin"}']
    assert after['db_timeouts_total{owner="admin",wait="pool"}'] == 0
