"""Clients go away in every phase of a request, at random: fault 24 of the list. Nothing of them stays behind."""

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count

import pytest
from msgspec import Struct

from tests.e2e.running import wait_until
from tests.e2e.test_bad_upstreams import registered
from tests.e2e.test_streams import listen_request
from tests.e2e.wire import post
from tests.faults.site import PATIENCE, Site
from tests.faults.sleeping import call_of
from tests.faults.vitals import nothing_left_behind
from tests.upstream.hostile import Exchange, Hostile

SEED = 24
CLIENTS = 10
"""In each phase, all at the same time: more than `vitals` lets an instance grow by."""
SOON = 0.05
"""Seconds, at most, from a phase to its end by a client."""
LARGE = 8 * 1024 * 1024
"""Bytes of an answer that no client reads, and that fit into no socket's buffer."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a connection whose end is a reset."""


class Client(Struct, frozen=True):
    """One that will go away. `chance` is its own, so that no scheduling changes what the others do."""

    site: Site
    upstream: Hostile
    chance: random.Random
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, request: bytes) -> None:
        self.writer.write(request)
        await self.writer.drain()

    async def read_until(self, text: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.reader.readuntil(text)

    def call(self, what: str) -> bytes:
        return call_of(self.site.tokens.alice, "hostile__find", f'{{"what":"{what}"}}')


Phase = Callable[[Client], Awaitable[None]]
numbers = count()


async def in_the_headers(client: Client) -> None:
    request = client.call("nothing")
    await client.send(request[: client.chance.randrange(1, request.index(b"\r\n\r\n"))])


async def in_the_body(client: Client) -> None:
    request = client.call("nothing")
    await client.send(request[: client.chance.randrange(request.index(b"\r\n\r\n") + 4, len(request))])


async def while_the_upstream_works(client: Client) -> None:
    await client.send(client.call("hang"))
    await client.upstream.until(lambda: client.upstream.methods().count("tools/call") >= CLIENTS)


async def while_the_answer_is_sent(client: Client) -> None:
    await client.send(client.call("much"))
    await client.read_until(b"\r\n\r\n")


async def in_an_open_stream(client: Client) -> None:
    await client.send(listen_request(client.site.tokens.alice))
    await client.read_until(b"subscriptions/acknowledged")


async def while_a_change_is_made(client: Client) -> None:
    """Of which more are wanted than there are connections for."""
    body = b'{"slug":"gone-%d","name":"Gone"}' % next(numbers)
    await client.send(post(body, f"Authorization: Bearer {client.site.tokens.root}", path="/v1/teams"))


PHASES = [
    in_the_headers,
    in_the_body,
    while_the_upstream_works,
    while_the_answer_is_sent,
    in_an_open_stream,
    while_a_change_is_made,
]


class Upstream:
    """Its one tool gives a large answer, or none before it is `released`."""

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.json["params"]["arguments"]["what"] == "hang":
            await self.released.wait()
        await exchange.result({"content": [{"type": "text", "text": "x" * LARGE}]})


async def goes_away(site: Site, upstream: Hostile, phase: Phase, number: int) -> None:
    """One client, to its end."""
    chance = random.Random(f"{SEED} {phase.__name__} {number}")
    reader, writer = await asyncio.open_connection("127.0.0.1", site.lasting.gateway.port, limit=4096)
    await phase(Client(site, upstream, chance, reader, writer))
    await asyncio.sleep(chance.uniform(0.0, SOON))
    if chance.random() < 0.5:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
async def test_nothing_is_left_of_clients_that_go_away(site: Site, phase: Phase) -> None:
    """The upstream works on for them: a client that goes away has not cancelled its request (MCP, transports)."""
    script = Upstream()
    with nothing_left_behind(site):
        async with registered(site.lasting.gateway, site.tokens, script) as upstream:
            await all_go_away(site, upstream, phase)
            script.released.set()
            await until_all_is_over(site)


async def test_nothing_is_left_of_clients_that_go_away_while_the_database_hangs(site: Site) -> None:
    with nothing_left_behind(site):
        async with registered(site.lasting.gateway, site.tokens, Upstream()) as upstream:
            with site.lasting.link.frozen():
                await all_go_away(site, upstream, while_a_change_is_made)
            await until_all_is_over(site)


async def all_go_away(site: Site, upstream: Hostile, phase: Phase) -> None:
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(goes_away(site, upstream, phase, number))


async def until_all_is_over(site: Site) -> None:
    for gauge in ("mcp_streams_open", "db_checked_out", "db_waiting"):
        await asyncio.to_thread(wait_until, partial(is_zero, site, gauge), PATIENCE, f"{gauge} is 0")


def is_zero(site: Site, gauge: str) -> bool:
    return site.lasting.metric(gauge) == 0
