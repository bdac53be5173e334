"""Sessions of a legacy upstream (specification 2025-11-25, session management): one per token, never shared."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from sluicegate.core.errors import UpstreamFailed
from sluicegate.core.identity import TokenId
from sluicegate.upstream.messages import Headers
from sluicegate.upstream.transport import Transport

FAREWELL = 2.0
"""Seconds that the upstream has for taking note of a session's end."""

MAX_FAREWELLS = 1000
"""Ends of sessions under way at once; a session beyond them is left for the upstream to forget."""


class Session:
    """What one handshake agreed on. `id` is None when the upstream is stateless. Entered for the time of each call."""

    __slots__ = ("calls", "headers", "id", "version")

    def __init__(self, session_id: str | None, version: str) -> None:
        self.id = session_id
        self.version = version
        self.calls = 0
        named: Headers = () if session_id is None else (("Mcp-Session-Id", session_id),)
        self.headers: Headers = (("MCP-Protocol-Version", version), *named)

    def __enter__(self) -> None:
        self.calls += 1

    def __exit__(self, *_: object) -> None:
        self.calls -= 1


class Farewells:
    """Tells the upstream that sessions are over: best effort, in the background, in bounded time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._tasks: set[asyncio.Task[None]] = set()

    def say(self, session: Session) -> None:
        """Ends the session at the upstream, soon."""
        if session.id is None or len(self._tasks) >= MAX_FAREWELLS:
            return
        task = asyncio.create_task(self._end(session))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def said(self) -> None:
        """Waits until all have been said or given up."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _end(self, session: Session) -> None:
        try:
            async with asyncio.timeout(FAREWELL):
                await self._transport.end_session(session.headers)
        except (TimeoutError, UpstreamFailed):
            pass  # the upstream will forget the session by its own rules


class _Seat:
    """A token's place: its session, once there is one, and the lock under which it is made."""

    __slots__ = ("lock", "session")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.session: Session | None = None

    def idle(self) -> bool:
        return not self.lock.locked() and (self.session is None or self.session.calls == 0)


class Sessions:
    """Which session a token's calls go in. At most `limit`; beyond it, the one that was idle longest is ended."""

    def __init__(self, open_session: Callable[[], Awaitable[Session]], farewells: Farewells, limit: int) -> None:
        self._open = open_session
        self._farewells = farewells
        self._limit = limit
        self._first = asyncio.Lock()
        self._stateful = False
        self._shared: Session | None = None
        self._seats: OrderedDict[TokenId, _Seat] = OrderedDict()

    async def of(self, token_id: TokenId) -> Session:
        """The session of this token, opened when needed. A stateless upstream has one agreement, which all share."""
        if self._shared is None and not self._stateful:
            await self._learn(token_id)
        if self._shared is not None:
            return self._shared
        seat = self._seat(token_id)
        return seat.session or await self._session_in(seat)

    async def _session_in(self, seat: _Seat) -> Session:
        async with seat.lock:
            if seat.session is None:
                seat.session = await self._open()
            return seat.session

    async def _learn(self, token_id: TokenId) -> None:
        """The first handshake tells whether the upstream keeps sessions; until then, nobody else begins one."""
        async with self._first:
            if self._shared is not None or self._stateful:
                return
            session = await self._open()
            if session.id is None:
                self._shared = session
            else:
                self._stateful = True
                self._seat(token_id).session = session

    def bury(self, token_id: TokenId, dead: Session) -> None:
        """Forgets a session that the upstream does not know any more, unless there is a newer one already."""
        if self._shared is dead:
            self._shared = None
        seat = self._seats.get(token_id)
        if seat is not None and seat.session is dead:
            seat.session = None

    def end_all(self) -> None:
        """Ends every session."""
        for seat in self._seats.values():
            if seat.session is not None:
                self._farewells.say(seat.session)
        self._seats.clear()
        self._shared, self._stateful = None, False

    def _seat(self, token_id: TokenId) -> _Seat:
        seat = self._seats.get(token_id)
        if seat is not None:
            self._seats.move_to_end(token_id)
            return seat
        if len(self._seats) >= self._limit:
            self._make_room()
        seat = self._seats[token_id] = _Seat()
        return seat

    def _make_room(self) -> None:
        """Ends the idle seat used longest ago. Where all are in use, the limit gives way to the calls under way."""
        for token_id, seat in self._seats.items():
            if seat.idle():
                del self._seats[token_id]
                if seat.session is not None:
                    self._farewells.say(seat.session)
                return
