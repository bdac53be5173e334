"""The whole of `web` put together: the stack, outermost first, and what stands at each path.

A path only chooses the room; whether the caller may do what it asks is decided there, at the object.
"""

from collections.abc import Callable, Sequence
from functools import reduce

from msgspec import Struct

from sluicegate import ledger
from sluicegate.core.errors import NotFound
from sluicegate.ports import Authenticator, AuthzFeed
from sluicegate.web.asgi import REQUEST_ID, App, ClientGone, Receive, Scope, Send, send_answer
from sluicegate.web.doorway import BodyLimit, HostAndOrigin, RequestBoundary
from sluicegate.web.errors import problem
from sluicegate.web.mcp_endpoint import McpEndpoint
from sluicegate.web.metadata import MetadataUrl
from sluicegate.web.public import DOCUMENTATION, is_page
from sluicegate.web.refusals import refusal
from sluicegate.web.token_scoping import TokenScopingMiddleware

MCP = "/mcp"
SERVERS = "/servers/"
REST = "/v1/"
READS = frozenset({"GET", "HEAD"})


class Rooms(Struct, frozen=True):
    """The apps behind the doorway."""

    mcp: McpEndpoint
    rest: App
    public: App


class Doorway(Struct, frozen=True):
    """What the layers in front of the rooms need."""

    authenticator: Authenticator
    feed: AuthzFeed
    metadata_url: MetadataUrl
    host_names: tuple[str, ...]
    """Names that `Host` and `Origin` may have, besides those of loopback."""
    max_body: int
    """Bytes."""


def web_app(rooms: Rooms, doorway: Doorway) -> App:
    """The ASGI application for requests (the lifespan is `bootstrap`'s)."""
    layers: Sequence[Callable[[App], App]] = [
        lambda app: RequestBoundary(app, doorway.metadata_url),
        lambda app: HostAndOrigin(app, doorway.host_names),
        lambda app: BodyLimit(app, doorway.max_body),
        lambda app: TokenScopingMiddleware(app, doorway.authenticator, doorway.feed, doorway.metadata_url),
    ]
    app: App = Router(rooms, doorway.metadata_url)
    return reduce(lambda inner, layer: layer(inner), reversed(layers), app)


class Router:
    """What stands at each path. Everything but the public pages comes here with a principal."""

    def __init__(self, rooms: Rooms, metadata_url: MetadataUrl) -> None:
        self._rooms = rooms
        self._metadata_url = metadata_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if is_data_plane(scope):
                with ledger.data_plane():
                    await self._route(scope, receive, send)
            else:
                await self._route(scope, receive, send)
        except ClientGone:  # the server says the same of a body whose framing is broken: then somebody reads the answer
            broken_off = refusal(scope, 400, "incomplete_body", "the body ended before it was complete")
            await send_answer(send, broken_off)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == MCP:
            await self._rooms.mcp.merged(scope, receive, send)
        elif path.startswith(SERVERS) and path.endswith(MCP):
            await self._rooms.mcp.server(path[len(SERVERS) : -len(MCP)], scope, receive, send)
        elif path.startswith((REST, "/docs")) or path in DOCUMENTATION:
            await self._rooms.rest(scope, receive, send)
        elif is_page(path):
            await self._rooms.public(scope, receive, send)
        else:
            missing = NotFound(f"there is nothing at {path[:200]}")
            await send_answer(send, problem(missing, self._metadata_url(scope), scope.get(REQUEST_ID)))


def is_data_plane(scope: Scope) -> bool:
    """True for what may never take a database connection: MCP, and everything that only reads."""
    return not scope["path"].startswith(REST) or scope["method"] in READS
