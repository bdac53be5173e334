"""One upstream: which era it speaks, and the calls to it. The era is probed, and believed until contradicted."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from sluicegate.core.catalog import Era, Upstream
from sluicegate.core.errors import UpstreamInvalid, UpstreamTimeout
from sluicegate.ports import Listing, ToolCall, UpstreamAnswer
from sluicegate.protocol.modern import VERSION
from sluicegate.upstream.legacy import HandshakeRefused, Legacy
from sluicegate.upstream.listing import all_tools
from sluicegate.upstream.modern import Modern, speaks_modern
from sluicegate.upstream.sessions import Farewells
from sluicegate.upstream.transport import Limits, Reply, Transport

T = TypeVar("T")
Dialect = Modern | Legacy


class Connection:
    """The way to one upstream as it is registered: another URL or credential is another connection."""

    def __init__(self, upstream: Upstream, transport: Transport, limits: Limits) -> None:
        self._upstream = upstream
        self._transport = transport
        self._limits = limits
        self._farewells = Farewells(transport)
        self._probing = asyncio.Lock()
        self._asked = 0
        self._dialect: Dialect | None = self._of_era(upstream.era) if upstream.era is not None else None
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def leads_to(self, upstream: Upstream) -> bool:
        """True when the upstream is still reached in this way."""
        ours = self._upstream
        return ours is upstream or (ours.url, ours.auth, ours.slug) == (upstream.url, upstream.auth, upstream.slug)

    async def call_tool(self, call: ToolCall) -> UpstreamAnswer:
        """As `ports.Upstreams.call_tool`."""
        return await self._in_time(self._call_tool(call))

    async def list_tools(self) -> Listing:
        """As `ports.Upstreams.list_tools`."""
        return await self._in_time(self._list_tools())

    async def close(self) -> None:
        """Lets the calls under way end, ends the sessions, closes the connections."""
        try:
            await self._idle.wait()
            if self._dialect is not None:
                self._dialect.close()
            await self._farewells.said()
        finally:
            await self._transport.close()

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """One deadline for all that a call takes: probe, handshake, a wait for a free connection, the call."""
        self._under_way += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(self._limits.call):
                return await work
        except TimeoutError:
            text = f"upstream `{self._upstream.slug}` did not answer within {self._limits.call:g} s"
            raise UpstreamTimeout(text) from None
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _call_tool(self, call: ToolCall) -> UpstreamAnswer:
        dialect = self._dialect or await self._probe(instead_of=None)
        try:
            reply = await dialect.call_tool(call)
        except HandshakeRefused:
            found = await self._probe(instead_of=dialect)
            if found is dialect:
                raise
        else:
            if not dialect.contradicted_by(reply):
                return self._answer(reply)
            found = await self._probe(instead_of=dialect)
            if found is dialect or reply.answer is None:
                return self._answer(reply)  # also a refusal that does not say why: the call may have been run
        return self._answer(await found.call_tool(call))

    async def _probe(self, *, instead_of: Dialect | None) -> Dialect:
        """Asks the upstream how it speaks, unless somebody did since it said `instead_of`, or while we waited."""
        asked = self._asked
        async with self._probing:
            if self._dialect is None or (self._dialect is instead_of and self._asked == asked):
                return await self._ask()
            return self._dialect

    async def _ask(self) -> Dialect:
        self._adopt(Era.MODERN if await speaks_modern(self._transport) else Era.LEGACY)
        self._asked += 1
        assert self._dialect is not None
        return self._dialect

    def _adopt(self, era: Era) -> None:
        """Keeps the dialect, and with it the sessions, when the era is as it was."""
        if self._dialect is not None and self._dialect.era is era:
            return
        if self._dialect is not None:
            self._dialect.close()
        self._dialect = self._of_era(era)

    def _of_era(self, era: Era) -> Dialect:
        if era is Era.MODERN:
            return Modern(self._transport)
        return Legacy(self._upstream.slug, self._transport, self._farewells, self._limits)

    def _answer(self, reply: Reply) -> UpstreamAnswer:
        if reply.answer is None:
            raise UpstreamInvalid(
                f"upstream `{self._upstream.slug}` answered HTTP {reply.status} and no JSON-RPC error"
            )
        return reply.answer

    async def _list_tools(self) -> Listing:
        async with self._probing:
            dialect = await self._ask()
        if isinstance(dialect, Legacy):
            return await self._list_legacy(dialect)
        tools = await all_tools(self._upstream.slug, dialect.list_page, self._limits.max_answer)
        return Listing(tools, Era.MODERN, VERSION)

    async def _list_legacy(self, dialect: Legacy) -> Listing:
        """In a session of its own, so that no token's session shows what only the listing asked for."""
        session = await dialect.open_session()
        try:
            tools = await all_tools(
                self._upstream.slug, lambda params: dialect.list_page(session, params), self._limits.max_answer
            )
            return Listing(tools, Era.LEGACY, session.version)
        finally:
            self._farewells.say(session)
