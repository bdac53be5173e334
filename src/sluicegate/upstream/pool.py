"""The pooled TCP connections to one upstream: only to judged addresses, and only such as can still carry a request.

A POST on a connection that its server is closing fails, and a `tools/call` may not be repeated then (RFC 9110, section
9.2.2), so every effort goes into not using such a connection.
"""

import select
from typing import Any
from weakref import WeakSet

from aiohttp import ClientRequest, ClientTimeout, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from sluicegate.upstream.egress import AddressGuard, GuardedResolver

KEEP_ALIVE = 4.0
"""Seconds an idle connection is kept: below the 5 s after which common servers (uvicorn, Node) close."""


class GuardedPool(TCPConnector):
    """At most `limit` connections. Looks at one before using it again: who spoke or closed while idle is left alone."""

    def __init__(self, guard: AddressGuard, limit: int, connect_timeout: float) -> None:
        super().__init__(
            limit=limit,
            keepalive_timeout=KEEP_ALIVE,
            resolver=GuardedResolver(guard, connect_timeout),
            socket_factory=guard.open_socket,
        )
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, req: ClientRequest, traces: list[Any], timeout: ClientTimeout) -> Connection:
        """A new connection, or one from the pool on which nothing has happened since its last answer."""
        while True:
            connection = await super().connect(req, traces, timeout)
            wire = connection.protocol
            assert wire is not None
            if wire not in self._used:
                self._used.add(wire)
                return connection
            if not wire.should_close and not _readable(wire):
                return connection
            connection.close()


def _readable(wire: ResponseHandler) -> bool:
    """True when bytes, or the end, have arrived that the event loop has not read yet."""
    transport = wire.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None:
        return True
    look = select.poll()
    look.register(sock.fileno(), select.POLLIN)
    return bool(look.poll(0))
