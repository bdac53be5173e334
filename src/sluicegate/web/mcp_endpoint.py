"""`POST /mcp` and `POST /servers/{slug-or-id}/mcp`: MCP in both eras, on raw ASGI.

Reads the envelope, routes by the directory, decides, and lets `proxy_call` carry the bytes. `arguments` and results are
never parsed. One request sees one directory from route to decision, as there is no `await` between them.
"""

from collections.abc import Callable

from msgspec import Raw

from sluicegate import __version__
from sluicegate.core import errors as tree
from sluicegate.core.catalog import VirtualServer
from sluicegate.core.identity import Principal
from sluicegate.core.permissions import Permission
from sluicegate.core.policy import decide, enforce
from sluicegate.core.routing import MERGED, Entrance
from sluicegate.ports import AuthzFeed, Clock, ToolCall, UpstreamRefusal
from sluicegate.protocol import jsonrpc, legacy, modern
from sluicegate.protocol.jsonrpc import Code, ProtocolError, Request
from sluicegate.protocol.tools import list_result, rendered
from sluicegate.usecases.list_catalog import list_tools
from sluicegate.usecases.proxy_call import ProxyCall
from sluicegate.web.asgi import (
    JSON,
    PRINCIPAL,
    REQUEST_ID,
    Answer,
    Receive,
    Scope,
    Send,
    header_values,
    read_body,
    send_answer,
)
from sluicegate.web.errors import error_headers, http_status, jsonrpc_code, problem
from sluicegate.web.mcp_methods import LEGACY_METHODS, MODERN_METHODS
from sluicegate.web.metadata import MetadataUrl

NAME = "sluicegate"
CAPABILITIES: dict[str, object] = {"tools": {}}
NO_CAPABILITIES = Raw(b"{}")
PARAM_HEADER = b"mcp-param-"


class McpEndpoint:
    """The MCP side of the gateway."""

    def __init__(self, feed: AuthzFeed, proxy_call: ProxyCall, clock: Clock, metadata_url: MetadataUrl) -> None:
        self._feed = feed
        self._proxy_call = proxy_call
        self._clock = clock
        self._metadata_url = metadata_url

    async def merged(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The endpoint with all that the caller may use, under public names."""
        await send_answer(send, await self._respond(lambda: MERGED, scope, receive))

    async def server(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """The endpoint of the virtual server with this slug or id."""
        await send_answer(
            send, await self._respond(lambda: self._usable_server(name, scope[PRINCIPAL]), scope, receive)
        )

    def _usable_server(self, name: str, principal: Principal) -> VirtualServer:
        directory = self._feed.directory
        missing = f"there is no server `{name[:80]}`"
        server = directory.server(name)
        if server is None:
            raise tree.NotFound(missing)
        enforce(decide(principal, Permission.SERVERS_USE, server, directory, self._clock.wall()), missing)
        return server

    async def _respond(self, entrance: Callable[[], Entrance], scope: Scope, receive: Receive) -> Answer:
        """`entrance` is asked once the body is there: from then on nothing waits before the decision."""
        request: Request | None = None
        try:
            body = await read_body(receive)
            if not self._feed.fresh:
                await self._feed.ensure_current()
            entered = entrance()
            if scope["method"] != "POST":
                # neither era needs another method: no session is given out, and the modern era has none
                return Answer(405, [(b"allow", b"POST")], b"")
            _check_content_type(scope)
            request = jsonrpc.parse(body)
            return await self._dispatch(request, entered, scope)
        except ProtocolError as error:
            request_id = error.id if request is None else request.id
            return _answer(jsonrpc.error_body(request_id, _error_object(error)), error.status)
        except tree.SluicegateError as error:
            return self._failure(error, request, scope)

    async def _dispatch(self, request: Request, entrance: Entrance, scope: Scope) -> Answer:
        version = header_values(scope, b"mcp-protocol-version")
        is_modern = modern.speaks_modern(request, version)
        if is_modern:
            mirrored = header_values(scope, b"mcp-method"), header_values(scope, b"mcp-name")
            modern.check(request, modern.MirrorHeaders(version, *mirrored))
        else:
            legacy.check_version(request, version)
        if request.id is None:
            return Answer(
                202, [], b""
            )  # a notification: none of those that clients send concerns this stateless server
        if request.method not in (MODERN_METHODS if is_modern else LEGACY_METHODS):
            status = 404 if is_modern else 200
            raise ProtocolError(Code.METHOD_NOT_FOUND, f"unknown method: {request.method[:80]}", status=status)
        if request.method == "tools/call":
            return await self._call(request, entrance, scope, is_modern)
        return _answer(jsonrpc.result_body(request.id, self._result(request, entrance, scope[PRINCIPAL], is_modern)))

    def _result(self, request: Request, entrance: Entrance, principal: Principal, is_modern: bool) -> bytes:
        if request.method == "tools/list":
            return self._list(request, entrance, principal, is_modern)
        if request.method == "server/discover":
            return modern.discover_result(CAPABILITIES, NAME, __version__)
        if request.method == "initialize":
            return legacy.initialize_result(request, CAPABILITIES, NAME, __version__)
        return b"{}"  # ping

    def _list(self, request: Request, entrance: Entrance, principal: Principal, is_modern: bool) -> bytes:
        cursor = jsonrpc.text(request.params["cursor"], "cursor") if "cursor" in request.params else None
        page = list_tools(principal, entrance, cursor, self._feed.directory, self._clock.wall())
        tools = [rendered(name, tool.definition) for name, tool in page.tools]
        return list_result(tools, page.next_cursor, is_modern)

    async def _call(self, request: Request, entrance: Entrance, scope: Scope, is_modern: bool) -> Answer:
        assert request.id is not None
        principal: Principal = scope[PRINCIPAL]
        name = jsonrpc.text(request.params.get("name"), "name")
        answer = await self._proxy_call(principal, entrance, name, _tool_call(request, principal, scope, is_modern))
        if isinstance(answer, UpstreamRefusal):
            return _answer(jsonrpc.error_body(request.id, answer.error))
        if is_modern:
            return _answer(jsonrpc.result_body(request.id, modern.completed(answer.result)))
        if modern.wants_input(answer.result):
            raise ProtocolError(
                Code.MISSING_CLIENT_CAPABILITY,
                f"`{name}` asks the client for input in a way that this protocol version does not have",
                status=200,
            )
        return _answer(jsonrpc.result_body(request.id, answer.result))

    def _failure(self, error: tree.SluicegateError, request: Request | None, scope: Scope) -> Answer:
        """JSON-RPC errors go out with 200, so that every client reads them, but for decisions and faults of our own."""
        status = http_status(error)
        if request is None:
            return problem(error, self._metadata_url(scope), scope.get(REQUEST_ID))
        headers = error_headers(error, self._metadata_url(scope)) if status in (401, 403, 503) else []
        data = {"code": error.code} | ({"reason": error.reason} if isinstance(error, tree.Forbidden) else {})
        body = jsonrpc.error_body(request.id, jsonrpc.error_object(jsonrpc_code(error), str(error), data))
        return Answer(status if headers else 200, [JSON, *headers], body)


def _tool_call(request: Request, principal: Principal, scope: Scope, is_modern: bool) -> ToolCall:
    return ToolCall(
        name="",  # the upstream's own name, known once the call is routed
        params={key: value for key, value in request.params.items() if key not in ("name", "_meta")},
        meta={key: value for key, value in request.meta.items() if not key.startswith(jsonrpc.META_PREFIX)},
        capabilities=request.meta[modern.CLIENT_CAPABILITIES] if is_modern else NO_CAPABILITIES,
        token_id=principal.token_id,
        param_headers=tuple(
            (key.decode("latin-1"), value.decode("latin-1").strip(" \t"))
            for key, value in scope["headers"]
            if is_modern and key.startswith(PARAM_HEADER)
        ),
    )


def _check_content_type(scope: Scope) -> None:
    values = header_values(scope, b"content-type")
    if len(values) != 1 or values[0].partition(";")[0].strip().lower() != "application/json":
        raise ProtocolError(Code.INVALID_REQUEST, "send `Content-Type: application/json`", status=415)


def _error_object(error: ProtocolError) -> bytes:
    return jsonrpc.error_object(error.code, str(error), error.data)


def _answer(body: bytes, status: int = 200) -> Answer:
    return Answer(status, [JSON], body)
