"""Streamable HTTP to one upstream: one POST, one bounded answer, every failure as an UpstreamFailed.

What an upstream can do to us ends here: it cannot redirect, compress, set cookies, answer without end, or answer
another request. Source: specification 2026-07-28 and 2025-11-25, streamable HTTP transport.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from msgspec import Struct

from sluicegate import __version__
from sluicegate.core.errors import EgressRefused, UpstreamFailed, UpstreamInvalid, UpstreamTimeout, UpstreamUnreachable
from sluicegate.ports import UpstreamAnswer, UpstreamRefusal
from sluicegate.protocol.sse import EventTooLarge, SseParser
from sluicegate.upstream.egress import AddressGuard
from sluicegate.upstream.messages import Headers, NotAnAnswer, Outgoing, read_answer, read_rejection
from sluicegate.upstream.pool import GuardedPool

STREAM_END = 0.05
"""Seconds to wait, after the answer came in a stream, for the end of that stream: then the connection can be reused."""

SLICE = 16 * 1024
"""Bytes of a stream that are looked at in one go: some 10 ms of hostile lines."""

_REJECTED = (400, 404, 405)
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
    sessions: int = 10_000


class Reply(Struct, frozen=True):
    """What came back for a request. `answer` is None only for a status outside 2xx without a JSON-RPC error for us.

    `unread` tells that the answer is an error which names no request: the upstream did not get as far as reading ours.
    A server that ran the request knows its id.
    """

    status: int
    session_id: str | None
    answer: UpstreamAnswer | None
    unread: bool = False

    @property
    def rejected(self) -> bool:
        """True when HTTP says no, and no error that names our request says why: perhaps a server of another era."""
        return self.status in _REJECTED and (self.answer is None or self.unread)


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

    async def whole(self) -> bytes:
        """All of it. Raises _TooLarge."""
        chunks = []
        while chunk := await self.read():
            chunks.append(chunk)
        return b"".join(chunks)

    async def slices(self) -> AsyncIterator[bytes]:
        """What arrives, in slices after each of which all else gets its turn. Raises _TooLarge."""
        while chunk := await self.read():
            for start in range(0, len(chunk), SLICE):
                yield chunk[start : start + SLICE]
                await asyncio.sleep(0)

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
        except _TooLarge:
            raise self._invalid(f"answered with more than {self._limits.max_answer} bytes") from None
        except EventTooLarge:
            what = f"answered with more than {self._limits.max_answer} bytes, or in too many lines"
            raise self._invalid(what) from None
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
        if not accepted:
            refusal, unread = await self._refusal(body, request_id) if kind == "application/json" else (None, False)
            return Reply(response.status, self._session_id(response), refusal, unread)
        answer: UpstreamAnswer | None
        if kind == "text/event-stream":
            answer = await self._from_stream(body, request_id)
        elif kind == "application/json":
            answer = read_answer(await body.whole(), request_id)
        else:
            raise self._invalid(f"answered HTTP {response.status} with neither JSON nor an event stream")
        if answer is None:
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

    async def _refusal(self, body: _Body, request_id: int) -> tuple[UpstreamRefusal | None, bool]:
        """The error that explains a status outside 2xx, if one does, and whether it is `Reply.unread`."""
        data = await body.whole()
        try:
            rejection = read_rejection(data)
            answer = rejection or read_answer(data, request_id)
        except NotAnAnswer:
            return None, False
        return (answer, rejection is not None) if isinstance(answer, UpstreamRefusal) else (None, False)

    async def _from_stream(self, body: _Body, request_id: int) -> UpstreamAnswer:
        parser = SseParser(self._limits.max_answer)
        async for chunk in body.slices():
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
