"""The pages that need no principal: health, readiness, metrics and the metadata that a 401 points to."""

import asyncio
import hmac

import msgspec
from msgspec import Struct

from sluicegate import telemetry
from sluicegate.core.errors import AuthorizationStale, NotFound, SluicegateError, Unauthenticated
from sluicegate.core.lease import LeaseState
from sluicegate.ports import AuthzFeed
from sluicegate.web.asgi import JSON, REQUEST_ID, Answer, Receive, Scope, Send, send_answer
from sluicegate.web.credential import bearer_token
from sluicegate.web.errors import problem
from sluicegate.web.metadata import WELL_KNOWN, ResourceMetadata
from sluicegate.web.refusals import refusal

PROBES = frozenset({"/health", "/ready"})
PAGES = PROBES | {"/metrics", WELL_KNOWN}
DOCUMENTATION = frozenset({"/docs", "/openapi.json"})
PROMETHEUS = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


def is_page(path: str) -> bool:
    """True for the paths that PublicPages answers."""
    return path in PAGES or path.startswith(WELL_KNOWN + "/")


def is_public(path: str) -> bool:
    """True for the paths that need no principal: the pages, and the API's documentation with its assets."""
    return is_page(path) or path in DOCUMENTATION or (path.startswith("/docs/") and ".." not in path)


class OpenMetrics(Struct, frozen=True):
    """Whoever reaches the port may read the metrics: it is on loopback."""


class TokenMetrics(Struct, frozen=True):
    """Whoever has the token may."""

    token: str

    def __repr__(self) -> str:
        return "TokenMetrics()"


class ClosedMetrics(Struct, frozen=True):
    """Nobody may: no token is configured."""


MetricsAccess = OpenMetrics | TokenMetrics | ClosedMetrics


def metrics_access(token: str | None, *, on_loopback: bool) -> MetricsAccess:
    """A configured token is always asked for, also on loopback: a proxy may stand in front of it."""
    if token:
        return TokenMetrics(token)
    return OpenMetrics() if on_loopback else ClosedMetrics()


class PublicPages:
    """The ASGI app of these pages; every other path is missing."""

    def __init__(self, metadata: ResourceMetadata, lease: AuthzFeed, metrics: MetricsAccess) -> None:
        self._metadata = metadata
        self._lease = lease
        self._metrics = metrics

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope)
        except SluicegateError as error:
            answer = problem(error, self._metadata.url(scope), scope.get(REQUEST_ID))
        if scope["method"] == "HEAD":
            headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send_answer(send, answer)

    async def _answer(self, scope: Scope) -> Answer:
        path = scope["path"]
        if not is_page(path):
            raise NotFound("there is nothing at this path")
        if scope["method"] not in ("GET", "HEAD"):
            return refusal(scope, 405, "method_not_allowed", "only GET and HEAD are answered", (b"allow", b"GET, HEAD"))
        if path == "/metrics":
            self._check_metrics_access(scope)
            return Answer(200, [PROMETHEUS], await self._rendered_metrics())
        if path in PROBES:
            return self._liveness() if path == "/health" else self._readiness()
        document = self._metadata.document(scope)
        if document is None:
            raise NotFound("there is no such protected resource")
        return Answer(200, [JSON], document)

    @staticmethod
    def _liveness() -> Answer:
        return Answer(200, [JSON], msgspec.json.encode({"status": "alive"}))

    def _readiness(self) -> Answer:
        state = self._lease.state
        if state is LeaseState.CLOSED:
            raise AuthorizationStale("not ready: authorization data is missing or too old to decide with")
        return Answer(200, [JSON], msgspec.json.encode({"status": "ready", "authorization": state}))

    def _check_metrics_access(self, scope: Scope) -> None:
        if isinstance(self._metrics, ClosedMetrics):
            raise NotFound("metrics are closed: set SLUICEGATE_METRICS_TOKEN to read them here")
        if isinstance(self._metrics, TokenMetrics):
            given, wanted = bearer_token(scope), self._metrics.token
            if not hmac.compare_digest(given.encode(), wanted.encode()):
                raise Unauthenticated("that is not the metrics token", code="metrics_token_wrong")

    async def _rendered_metrics(self) -> bytes:
        try:
            revision = self._lease.directory.revision
        except AuthorizationStale:
            revision = 0
        telemetry.record_authz(self._lease.state, revision, self._lease.age)
        return await asyncio.to_thread(telemetry.render_metrics)
