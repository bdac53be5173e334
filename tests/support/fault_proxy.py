"""A TCP proxy on loopback that makes faults on demand: it delays, holds, trickles, resets and refuses.

It runs in a thread of its own and is told what to do by plain calls, which return when the fault is in force:

    with FaultProxy(target_port) as proxy:
        with proxy.frozen():
            ...
        proxy.reset()

Bytes are never lost or reordered, as under TCP on a bad network: what is held is delivered when the fault ends.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from enum import Flag, auto
from typing import Self, TypeVar

from msgspec import Struct

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
ANSWERS_WITHIN = 10.0
"""Seconds for the proxy's thread to do what it is told, and to end."""
CONNECT_WITHIN = 5.0
"""Seconds for the target to accept a connection."""
CHUNK = 16 * 1024
"""Bytes read at a time; a delay is drawn for each chunk."""
HELD = 64
"""Chunks that one way of a connection holds at most; then its sender is not read any more."""
MAX_CONNECTIONS = 512
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST."""


class Way(Flag):
    """Which way the bytes go that a fault is about."""

    TO_SERVER = auto()
    TO_CLIENT = auto()
    BOTH = TO_SERVER | TO_CLIENT


class Delay(Struct, frozen=True):
    """A `share` of the chunks is late by `least` to `most` seconds, evenly drawn; the others are on time."""

    least: float
    most: float
    share: float = 1.0


NO_DELAY = Delay(0.0, 0.0)


class Trickle(Struct, frozen=True):
    """`size` bytes each `every` seconds, in each connection."""

    size: int
    every: float


class FaultProxy:
    """Listens on `port` of loopback while entered, and carries each connection to the target port there.

    Each fault is in both ways unless told otherwise. `seed` makes the delays that are drawn the same in each run.
    """

    def __init__(self, target: int, seed: int = 0) -> None:
        self._target = target
        self._ways = {way: _Terms(random.Random(seed + way.value)) for way in (Way.TO_SERVER, Way.TO_CLIENT)}
        self._place = _bound(0)  # never listens: it keeps the port ours while connections are refused
        self.port: int = self._place.getsockname()[1]
        self.accepted = 0
        """Connections since the beginning."""
        self._listening: socket.socket | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"fault-proxy-{self.port}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(ANSWERS_WITHIN), "the fault proxy did not start"
        return self

    def __exit__(self, *_: object) -> None:
        """Breaks all connections and ends the thread. Raises what went wrong in there."""
        with suppress(RuntimeError):  # the loop is closed: it failed, which is raised below
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(ANSWERS_WITHIN)
        self._place.close()
        if self._failure is not None:
            raise self._failure
        assert not self._thread.is_alive(), "the fault proxy did not end"

    @property
    def open(self) -> int:
        """Connections that live now."""
        return self._do(lambda: len(self._open))

    def frozen(self, way: Way = Way.BOTH) -> AbstractContextManager[None]:
        """Bytes are held; connections stay, and new ones are accepted but lead nowhere."""
        return self._during(way, lambda terms: terms.flowing.clear(), lambda terms: terms.flowing.set())

    def slowed(self, delay: Delay, way: Way = Way.BOTH) -> AbstractContextManager[None]:
        """Chunks are late; one that is late holds up those behind it."""
        return self._during(way, lambda terms: terms.slow(delay), lambda terms: terms.slow(NO_DELAY))

    def trickling(self, trickle: Trickle, way: Way = Way.BOTH) -> AbstractContextManager[None]:
        """Bytes pass a few at a time."""
        return self._during(way, lambda terms: terms.thin(trickle), lambda terms: terms.thin(None))

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """New connections are refused; those that are open stay."""
        self._do(self._stop_listening)
        try:
            yield
        finally:
            self._do(self._listen)

    @contextmanager
    def away(self) -> Iterator[None]:
        """All connections are reset and new ones refused."""
        with self.refusing():
            self.reset()
            yield

    def reset(self) -> int:
        """Breaks all connections with RST, on both sides; returns how many."""
        return self._do(self._break_all)

    @contextmanager
    def _during(self, way: Way, begin: "Callable[[_Terms], None]", end: "Callable[[_Terms], None]") -> Iterator[None]:
        concerned = [terms for each, terms in self._ways.items() if each in way]
        self._do(lambda: _each(concerned, begin))
        try:
            yield
        finally:
            self._do(lambda: _each(concerned, end))

    def _do(self, action: Callable[[], T]) -> T:
        """What the action returns, done in the proxy's thread."""

        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(ANSWERS_WITHIN)

    # --- in the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - the boundary of the thread: raised by `__exit__`
            self._failure = failure
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with asyncio.TaskGroup() as self._connections:
            self._listen()
            self._started.set()
            await self._end.wait()
            self._stop_listening()
            self._break_all()

    def _listen(self) -> None:
        self._listening = _bound(self.port)
        self._listening.listen(MAX_CONNECTIONS)
        self._loop.add_reader(self._listening, self._accept, self._listening)

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def _accept(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except OSError:
            return  # it has gone again
        self.accepted += 1
        if len(self._open) >= MAX_CONNECTIONS:
            _break(client)
            return
        task = self._connections.create_task(self._carry(client))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    def _break_all(self) -> int:
        living = len(self._open)
        for task in self._open:
            task.cancel()
        return living

    async def _carry(self, client: socket.socket) -> None:
        """One connection: until both sides have ended it, or one breaks, which breaks the other."""
        to_server, to_client = self._ways[Way.TO_SERVER], self._ways[Way.TO_CLIENT]
        client.setblocking(False)
        server = socket.socket()
        server.setblocking(False)
        try:
            await to_server.flowing.wait()
            async with asyncio.timeout(CONNECT_WITHIN):
                await self._loop.sock_connect(server, (LOOPBACK, self._target))
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_carry_one_way(client, server, to_server))
                ways.create_task(_carry_one_way(server, client, to_client))
            client.close()
            server.close()
        except* OSError:
            pass  # the other side learns it by the RST below
        finally:
            _break(client)
            _break(server)


class _Terms:
    """What happens to bytes that go one way, in all connections alike."""

    def __init__(self, chance: random.Random) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.trickle: Trickle | None = None
        self._delay = NO_DELAY
        self._chance = chance

    def slow(self, delay: Delay) -> None:
        self._delay = delay

    def thin(self, trickle: Trickle | None) -> None:
        self.trickle = trickle

    def lateness(self) -> float:
        """Seconds by which the next chunk is to be late."""
        late = self._chance.random() < self._delay.share
        return self._chance.uniform(self._delay.least, self._delay.most) if late else 0.0


def _each(concerned: list[_Terms], change: Callable[[_Terms], None]) -> None:
    for terms in concerned:
        change(terms)


class _Chunk(Struct, frozen=True):
    """Bytes, not to be passed on before the instant `due`. No bytes: the sender has ended, or the connection broke."""

    due: float
    data: bytes
    broken: bool = False


async def _carry_one_way(source: socket.socket, sink: socket.socket, terms: _Terms) -> None:
    on_the_way: asyncio.Queue[_Chunk] = asyncio.Queue(HELD)
    async with asyncio.TaskGroup() as both:
        both.create_task(_receive(source, on_the_way, terms))
        both.create_task(_deliver(on_the_way, sink, terms))


async def _receive(source: socket.socket, on_the_way: asyncio.Queue[_Chunk], terms: _Terms) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            chunk = _Chunk(0.0, await loop.sock_recv(source, CHUNK))
        except OSError:
            chunk = _Chunk(0.0, b"", broken=True)
        await on_the_way.put(_Chunk(loop.time() + terms.lateness(), chunk.data, chunk.broken))
        if not chunk.data:
            return


async def _deliver(on_the_way: asyncio.Queue[_Chunk], sink: socket.socket, terms: _Terms) -> None:
    loop = asyncio.get_running_loop()
    while True:
        chunk = await on_the_way.get()
        await asyncio.sleep(max(0.0, chunk.due - loop.time()))
        await terms.flowing.wait()
        if chunk.broken:
            raise ConnectionResetError("the other side broke the connection")
        if not chunk.data:
            sink.shutdown(socket.SHUT_WR)
            return
        await _send(sink, chunk.data, terms)


async def _send(sink: socket.socket, data: bytes, terms: _Terms) -> None:
    loop = asyncio.get_running_loop()
    while data and (trickle := terms.trickle):
        drop, data = data[: trickle.size], data[trickle.size :]
        await loop.sock_sendall(sink, drop)
        await asyncio.sleep(trickle.every)
        await terms.flowing.wait()
    await loop.sock_sendall(sink, data)


def _bound(port: int) -> socket.socket:
    """A socket that does not block, bound to a port of loopback beside others that do not listen."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((LOOPBACK, port))
    bound.setblocking(False)
    return bound


def _break(connection: socket.socket) -> None:
    """Closes with RST; nothing when it is closed already."""
    if connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        connection.close()
