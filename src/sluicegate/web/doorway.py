"""The outer layers of the ASGI stack: what holds for every request, before anybody asks who is calling."""

import ipaddress
import re
import secrets
from collections.abc import Iterable
from functools import lru_cache

import structlog
from prometheus_client import Counter

from sluicegate import telemetry
from sluicegate.core.errors import ConfigurationError, SluicegateError, TooLarge
from sluicegate.web.asgi import REQUEST_ID, Answer, App, Message, Receive, Scope, Send, header_values, send_answer
from sluicegate.web.deciding import age_headers
from sluicegate.web.errors import problem
from sluicegate.web.metadata import MetadataUrl
from sluicegate.web.public import PROBES, is_public
from sluicegate.web.refusals import refusal

log = structlog.get_logger()

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
MAX_AUTHORITY = 261
"""Characters: a name of 255, a colon and a port."""
AUTHORITY = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9][a-z0-9._-]{0,252})(?::[0-9]{1,5})?")
ORIGIN = re.compile(r"https?://([^/?#@]+)")


class RequestBoundary:
    """Outermost: names and counts each request, and answers what nothing inside has answered.

    An error of the tree becomes its problem+json; any other exception is logged, counted and becomes a 500. When a part
    of an answer is out already the exception goes on to the server, which cuts the connection.
    """

    def __init__(self, app: App, metadata_url: MetadataUrl) -> None:
        self._app = app
        self._metadata_url = metadata_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = secrets.token_hex(8)
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = (b"x-request-id", request_id.encode())
                message["headers"] = [*message["headers"], *age_headers(scope), named]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception as error:
            answer = self._answer(error, scope)
            if status:
                raise
            await send_answer(send_named, answer)
        finally:
            counter(entrance(scope["path"]), status).inc()

    def _answer(self, error: Exception, scope: Scope) -> Answer:
        if isinstance(error, SluicegateError):
            return problem(error, self._metadata_url(scope), scope[REQUEST_ID])
        telemetry.unexpected_errors.labels("web").inc()
        log.error("a request failed", request_id=scope[REQUEST_ID], path=scope["path"], exc_info=error)
        return refusal(scope, 500, "internal", "this is a fault of the gateway: quote the request's id to its operator")


class HostAndOrigin:
    """Refuses a `Host` or an `Origin` that is not ours: pages that rebind a DNS name to us (MCP transports, Security).

    Loopback names are always accepted, and the names given; each with any port. Probes may name us as they like.
    """

    def __init__(self, app: App, names: Iterable[str]) -> None:
        """Raises ConfigurationError for what is not a host name or address alone."""
        self._app = app
        self._names = frozenset({*LOOPBACK, *map(_configured_name, names)})
        self._known = lru_cache(1024)(lambda authority: host_name(authority) in self._names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refusal(scope) if scope["type"] == "http" and scope["path"] not in PROBES else None
        if refused is None:
            await self._app(scope, receive, send)
        else:
            await send_answer(send, refused)

    def _is_ours(self, authority: str) -> bool:
        return len(authority) <= MAX_AUTHORITY and self._known(authority)  # what is remembered must not be long

    def _refusal(self, scope: Scope) -> Answer | None:
        hosts = header_values(scope, b"host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            detail = "this gateway does not go by that `Host`: add the name to SLUICEGATE_ALLOWED_HOSTS if it should"
            return refusal(scope, 403, "host_refused", detail)
        for origin in header_values(scope, b"origin"):
            match = ORIGIN.fullmatch(origin)
            if match is None or not self._is_ours(match[1]):
                return refusal(scope, 403, "origin_refused", "pages of that `Origin` may not call this gateway")
        return None


class BodyLimit:
    """Refuses a body that is larger than `limit` bytes: unread when its length is stated, else while it is read."""

    def __init__(self, app: App, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lengths = header_values(scope, b"content-length")
        if any(not length.isdecimal() or len(length) > 19 or int(length) > self._limit for length in lengths):
            raise self._too_large()
        await self._app(scope, receive if lengths else self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        room = self._limit

        async def receive_within_limit() -> Message:
            nonlocal room
            message = await receive()
            room -= len(message.get("body", b""))
            if room < 0:
                raise self._too_large()
            return message

        return receive_within_limit

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._limit} bytes")


def host_name(authority: str) -> str | None:
    """The host of `host` or `host:port` in its one spelling; None when it is neither."""
    match = AUTHORITY.fullmatch(authority.lower())
    if match is None:
        return None
    name = match[1]
    if not name.startswith("["):
        return name
    try:
        return f"[{ipaddress.IPv6Address(name[1:-1]).compressed}]"
    except ValueError:
        return None


@lru_cache(64)
def counter(entry: str, status: int) -> Counter:
    """The child of `http_requests_total`; a status of 0 means that no answer was sent."""
    return telemetry.requests.labels(entry, f"{status // 100}xx" if status else "none")


def entrance(path: str) -> str:
    """Which part of the gateway a path belongs to, for the metrics alone."""
    if path == "/mcp" or path.startswith("/servers/"):
        return "mcp"
    if path.startswith("/v1/"):
        return "rest"
    return "open" if is_public(path) else "other"


def _configured_name(name: str) -> str:
    host = host_name(name)
    if host is None or host != host_name(f"{name}:1"):
        raise ConfigurationError(f"allowed host `{name}` is not a name or address alone: leave scheme and port out")
    return host
