"""The port `Upstreams` over streamable HTTP: one connection pool per upstream, one way in."""

import asyncio

from sluicegate import ledger
from sluicegate.core.catalog import BearerAuth, Upstream
from sluicegate.core.errors import EgressRefused, UpstreamUnreachable
from sluicegate.core.identity import UpstreamId
from sluicegate.ports import Listing, ToolCall, UpstreamAnswer
from sluicegate.upstream.connection import Connection
from sluicegate.upstream.credentials import CredentialCipher
from sluicegate.upstream.egress import AddressGuard
from sluicegate.upstream.transport import Limits, Transport


class StreamableHttpUpstreams:
    """Implements `ports.Upstreams`. To be used in one event loop, and closed in it."""

    def __init__(self, guard: AddressGuard, cipher: CredentialCipher, limits: Limits) -> None:
        self._guard = guard
        self._cipher = cipher
        self._limits = limits
        self._connections: dict[UpstreamId, Connection] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def call_tool(self, upstream: Upstream, call: ToolCall) -> UpstreamAnswer:
        """Carries one call; never repeats one that the upstream may have begun. Raises UpstreamFailed."""
        ledger.refuse_if_holding()
        return await self._connection(upstream).call_tool(call)

    async def list_tools(self, upstream: Upstream) -> Listing:
        """Probes the era and lists all pages of the upstream's tools. Raises UpstreamFailed."""
        ledger.refuse_if_holding()
        return await self._connection(upstream).list_tools()

    async def forget(self, upstream_id: UpstreamId) -> None:
        """The upstream's connections and sessions end as soon as the calls under way have; new calls open new ones."""
        self._retire(upstream_id)

    async def close(self) -> None:
        """Ends everything, after the calls under way. Its caller decides how long that may take."""
        for upstream_id in list(self._connections):
            self._retire(upstream_id)
        try:
            if self._retiring:
                await asyncio.wait(self._retiring)
        finally:
            for task in self._retiring:
                task.cancel()
            self._guard.close()

    def _connection(self, upstream: Upstream) -> Connection:
        known = self._connections.get(upstream.id)
        if known is not None and known.leads_to(upstream):
            return known
        opened = Connection(upstream, self._transport(upstream), self._limits)
        self._retire(upstream.id)
        self._connections[upstream.id] = opened
        return opened

    def _transport(self, upstream: Upstream) -> Transport:
        secret = None
        if isinstance(upstream.auth, BearerAuth):
            secret = self._cipher.open(upstream.id, upstream.auth.sealed)
        try:
            return Transport(upstream.slug, upstream.url, secret, self._guard, self._limits)
        except EgressRefused as error:
            raise UpstreamUnreachable(f"upstream `{upstream.slug}`: {error}", code=error.code) from None

    def _retire(self, upstream_id: UpstreamId) -> None:
        connection = self._connections.pop(upstream_id, None)
        if connection is not None:
            task = asyncio.create_task(connection.close())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
