"""Streamable HTTP to one upstream: one POST, one bounded answer, every failure as an UpstreamFailed.

What an upstream can do to us ends here: it cannot redirect, compress, set cookies, answer without end, or answer
another request. Source: specification 2026-07-28 and 2025-11-25, streamable HTTP transport.
"""

import asyncio
import os
import re

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from msgspec import Struct

from sluicegate import __version__
from sluicegate.core.errors import EgressRefused, UpstreamFailed, UpstreamInvalid, UpstreamTimeout, UpstreamUnreachable
from sluicegate.ports import UpstreamAnswer, UpstreamRefusal
from sluicegate.protocol.sse import EventTooLarge, SseParser
from sluicegate.upstream.egress import AddressGuard
from sluicegate.upstream.messages import Headers, NotAnAnswer, Outgoing, read_answer
from sluicegate.upstream.pool import GuardedPool

STREAM_END = 0.05
"""Seconds to wait, after the answer came in a stream, for the end of that stream: then the connection can be reused."""

_SESSION_ID = re.compile(r"[\x21-\x7e]{1,1024}")
_BASE_HEADERS = {
    "Accept": "application/json, text/event-stream",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"sluicegate/{__version__}",
}


class Limits(Struct, frozen=True):
    """What one upstream may cost. Times in seconds, sizes in bytes, numbers per process and upstream."""

    call: float
    connect: float
    max_answer: int
    connections: int = 256
    sessions: int = 1000


class Reply(Struct, frozen=True):
    """What came back for a request. `answer` is None only for a status outside 2xx without a JSON-RPC error for us."""

    status: int
    session_id: str | None
    answer: UpstreamAnswer | None


class _TooLarge(Exception):
    """The answer has more bytes than it may."""


class _Body:
    """Counts what is read of one answer."""

    def __init__(self, content: aiohttp.StreamReader, limit: int) -> None:
        self._content = content
        self._left = limit

    async def read(self) -> bytes:
        """What has arrived, at least one byte; empty at the end. Raises _TooLarge."""
        chunk = await self._content.readany()
        self._left -= len(chunk)
        if self._left < 0:
            raise _TooLarge
        return chunk

    async def end(self) -> None:
        """Waits a moment for the end, so that the connection can be used again; no harm if it does not come."""
        try:
            async with asyncio.timeout(STREAM_END):
                while await self.read():
                    pass
        except (TimeoutError, aiohttp.ClientError, _TooLarge):
            return


class _Response(aiohttp.ClientResponse):
    """Remembers its connection, which aiohttp gives back to the pool as soon as the body has been read."""

    _wire: ResponseHandler | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        self._wire = connection.protocol
        return await super().start(connection)

    def hang_up(self) -> None:
        """Closes the connection, pooled or not: what it says is out of step with what we ask."""
        if self._wire is not None:
            self._wire.close()


class Transport:
    """The pooled connections to one upstream. `name` is the upstream's slug, for messages."""

    def __init__(self, name: str, url: str, secret: str | None, guard: AddressGuard, limits: Limits) -> None:
        self._name = name
        self._url = guard.checked_url(url)
        self._limits = limits
        authorization = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        self._session = aiohttp.ClientSession(
            headers=_BASE_HEADERS | authorization,
            connector=GuardedPool(guard, limits.connections, limits.connect),
            response_class=_Response,
            cookie_jar=aiohttp.DummyCookieJar(),  # a cookie would join the callers of all tokens into one session
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect),
            trust_env=False,
        )

    async def post(self, message: Outgoing) -> Reply:
        """Sends a request once and reads its answer. Cancelling closes the connection. Raises UpstreamFailed."""
        try:
            response = await self._send("POST", message.headers, message.body)
            try:
                return await self._read(response, message.id)
            finally:
                response.close()  # gives up the connection unless the body has been read to its end
        except NotAnAnswer as error:
            raise self._invalid(f"answered something that {error}") from None
        except (_TooLarge, EventTooLarge):
            raise self._invalid(f"answered with more than {self._limits.max_answer} bytes") from None
        except (aiohttp.ClientError, OSError, EgressRefused) as error:
            raise self._translated(error) from None  # aiohttp's errors hold the request's headers

    async def notify(self, message: Outgoing) -> None:
        """Sends a notification, which has no answer. Raises UpstreamFailed, also when it is not accepted."""
        status = await self._status("POST", message.headers, message.body)
        if not 200 <= status < 300:
            raise self._invalid(f"did not accept a notification (HTTP {status})")

    async def end_session(self, headers: Headers) -> None:
        """Asks the upstream to end a session; it may refuse to. Raises UpstreamFailed."""
        await self._status("DELETE", headers, None)

    async def close(self) -> None:
        """Closes all connections, also those in use."""
        await self._session.close()

    async def _status(self, method: str, headers: Headers, body: bytes | None) -> int:
        try:
            response = await self._send(method, headers, body)
            try:
                await _Body(response.content, self._limits.max_answer).end()
            finally:
                response.close()
        except (aiohttp.ClientError, OSError, EgressRefused) as error:
            raise self._translated(error) from None
        return response.status

    async def _send(self, method: str, headers: Headers, body: bytes | None) -> _Response:
        response = await self._session.request(method, self._url, data=body, headers=headers, allow_redirects=False)
        assert isinstance(response, _Response)
        return response

    async def _read(self, response: _Response, request_id: int) -> Reply:
        self._refuse_head(response)
        accepted = 200 <= response.status < 300
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        body = _Body(response.content, self._limits.max_answer)
        answer = None
        if kind == "text/event-stream" and accepted:
            answer = await self._from_stream(body, request_id)
        elif kind == "application/json":
            answer = await self._from_json(body, request_id, accepted)
        elif accepted:
            raise self._invalid(f"answered HTTP {response.status} with neither JSON nor an event stream")
        if answer is None and accepted:
            response.hang_up()
            raise self._invalid("answered another request than ours")
        return Reply(response.status, self._session_id(response), answer)

    def _refuse_head(self, response: _Response) -> None:
        status = response.status
        if status in (401, 403):
            text = f"upstream `{self._name}` refused our credential (HTTP {status}): check its `auth`"
            raise UpstreamFailed(text, code="upstream_credential_refused")
        if 300 <= status < 400:
            raise self._invalid(f"answered HTTP {status}: redirects are not followed, register the final URL")
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise self._invalid("compressed its answer though it was asked not to")
        if (response.content_length or 0) > self._limits.max_answer:
            raise _TooLarge

    async def _from_json(self, body: _Body, request_id: int, accepted: bool) -> UpstreamAnswer | None:
        chunks = []
        while chunk := await body.read():
            chunks.append(chunk)
        try:
            answer = read_answer(b"".join(chunks), request_id, null_is_ours=not accepted)
        except NotAnAnswer:
            if accepted:
                raise
            return None
        return answer if accepted or isinstance(answer, UpstreamRefusal) else None

    async def _from_stream(self, body: _Body, request_id: int) -> UpstreamAnswer:
        parser = SseParser(self._limits.max_answer)
        while chunk := await body.read():
            for event in parser.feed(chunk):
                if event.type != "message" or not event.data:
                    continue
                answer = read_answer(event.data, request_id)
                if answer is not None:
                    await body.end()
                    return answer
        raise self._unreachable("broke off its answer")

    def _session_id(self, response: _Response) -> str | None:
        session_id = response.headers.get("Mcp-Session-Id")
        if session_id is not None and not _SESSION_ID.fullmatch(session_id):
            raise self._invalid("gave a session id that is not 1 to 1024 visible ASCII characters")
        return session_id

    def _translated(self, error: Exception) -> UpstreamFailed:
        match error:
            case EgressRefused():
                return UpstreamUnreachable(f"upstream `{self._name}`: {error}", code=error.code)
            case aiohttp.ClientConnectorDNSError():
                return self._unreachable("has no address: its name cannot be resolved")
            case aiohttp.ClientConnectorCertificateError():
                return self._unreachable("has a TLS certificate that is not trusted")
            case aiohttp.ClientSSLError():
                return self._unreachable("does not speak TLS as its URL says")
            case aiohttp.ClientConnectorError():
                why = os.strerror(error.errno).lower() if error.errno else "no connection"  # aiohttp names the address
                return self._unreachable(f"cannot be connected to: {why}")
            case TimeoutError():
                text = f"upstream `{self._name}` did not accept a connection within {self._limits.connect:g} s"
                return UpstreamTimeout(text)
            case aiohttp.ClientPayloadError():
                return self._unreachable("broke off its answer")
            case aiohttp.ClientResponseError():
                return self._invalid("answered something that is not HTTP")
            case _:
                return self._unreachable("closed the connection before it answered")

    def _unreachable(self, what: str) -> UpstreamUnreachable:
        return UpstreamUnreachable(f"upstream `{self._name}` {what}")

    def _invalid(self, what: str) -> UpstreamInvalid:
        return UpstreamInvalid(f"upstream `{self._name}` {what}")
