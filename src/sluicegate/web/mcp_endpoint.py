"""`POST /mcp` and `POST /servers/{slug-or-id}/mcp`: MCP in both eras, on raw ASGI.

Reads the envelope, routes by the directory, decides, and has the upstream adapter carry the bytes. `arguments` and
results are never parsed. One request sees one directory from route to decision, as there is no `await` between them.
"""

from msgspec import Raw

from sluicegate import __version__
from sluicegate.core import errors as tree
from sluicegate.core.catalog import VirtualServer
from sluicegate.core.identity import Principal
from sluicegate.core.permissions import Permission
from sluicegate.core.routing import MERGED, Entrance
from sluicegate.ports import AuthzFeed, Clock, ToolCall, UpstreamAnswer, UpstreamRefusal, Upstreams
from sluicegate.protocol import jsonrpc, legacy, modern, subscriptions
from sluicegate.protocol.jsonrpc import Code, ProtocolError, Request
from sluicegate.protocol.subscriptions import Subscription
from sluicegate.protocol.tools import list_result, rendered
from sluicegate.usecases.calling import Caller, no_such
from sluicegate.usecases.list_catalog import list_tools
from sluicegate.usecases.proxy_call import permitted_tool
from sluicegate.usecases.watch_list import Enter, ListWatch
from sluicegate.web.asgi import (
    JSON,
    REQUEST_ID,
    Answer,
    Receive,
    Scope,
    Send,
    header_values,
    read_body,
    send_answer,
)
from sluicegate.web.deciding import caller_now
from sluicegate.web.errors import error_headers, http_status, jsonrpc_code, problem
from sluicegate.web.mcp_methods import LEGACY, MODERN, Access
from sluicegate.web.mcp_stream import Listening, McpStreams
from sluicegate.web.metadata import MetadataUrl

NAME = "sluicegate"
LEGACY_CAPABILITIES: dict[str, object] = {"tools": {}}
"""Without a session there is no stream to tell of changes on."""
MODERN_CAPABILITIES: dict[str, object] = {"tools": {"listChanged": True}}
NO_CAPABILITIES = Raw(b"{}")
PARAM_HEADER = b"mcp-param-"


class McpEndpoint:
    """The MCP side of the gateway."""

    def __init__(
        self, feed: AuthzFeed, upstreams: Upstreams, clock: Clock, metadata_url: MetadataUrl, streams: McpStreams
    ) -> None:
        self._feed = feed
        self._upstreams = upstreams
        self._clock = clock
        self._metadata_url = metadata_url
        self._streams = streams

    async def merged(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The endpoint with all that the caller may use, under public names."""
        await self._serve(lambda _: MERGED, scope, receive, send)

    async def server(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """The endpoint of the virtual server with this slug or id."""
        await self._serve(lambda caller: usable_server(caller, name), scope, receive, send)

    async def _serve(self, enter: Enter, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._respond(enter, scope, receive)
        if isinstance(answer, Answer):
            await send_answer(send, answer)
        else:
            await self._streams.run(answer, receive, send)

    async def _respond(self, enter: Enter, scope: Scope, receive: Receive) -> Answer | Listening:
        """Everything is judged once the body is there: from then on nothing waits before the decision."""
        request: Request | None = None
        try:
            body = await read_body(receive)
            if not self._feed.fresh:
                await self._feed.ensure_current()
            caller = caller_now(scope, self._feed, self._clock)
            caller.require_live()
            entrance = enter(caller)
            if scope["method"] != "POST":
                # neither era needs another method: no session is given out, and the modern era has none
                return Answer(405, [(b"allow", b"POST")], b"")
            _check_content_type(scope)
            request = jsonrpc.parse(body)
            answer = await self._dispatch(request, entrance, caller, scope)
            if isinstance(answer, Answer):
                return answer
            self._streams.require_room()
            watch = ListWatch(self._feed, self._clock, caller, enter, self._streams.limits.every)
            return Listening(answer, watch, lambda error: self._failure(error, request, scope).body)
        except ProtocolError as error:
            request_id = error.id if request is None else request.id
            return _answer(jsonrpc.error_body(request_id, _error_object(error)), error.status)
        except tree.SluicegateError as error:
            return self._failure(error, request, scope)

    async def _dispatch(
        self, request: Request, entrance: Entrance, caller: Caller, scope: Scope
    ) -> Answer | Subscription:
        version = header_values(scope, b"mcp-protocol-version")
        is_modern = modern.speaks_modern(request, version)
        if request.id is None:
            return Answer(202, [], b"")  # a notification: none that clients send concerns this stateless server
        if is_modern:
            mirrored = header_values(scope, b"mcp-method"), header_values(scope, b"mcp-name")
            modern.check(request, modern.MirrorHeaders(version, *mirrored))
        else:
            legacy.check_version(version)
        permission = (MODERN if is_modern else LEGACY).get(request.method)
        if permission is None:
            status = 404 if is_modern else 200
            raise ProtocolError(Code.METHOD_NOT_FOUND, f"unknown method: {request.method[:80]}", status=status)
        if request.method == subscriptions.METHOD:
            _check_takes_events(scope)
            return subscriptions.subscription(request.id, request)
        if isinstance(permission, Access):
            return _answer(jsonrpc.result_body(request.id, _greeting(request)))
        if request.method == "tools/list":
            page = list_tools(caller, permission, entrance, _cursor(request))
            tools = [rendered(name, tool.described) for name, tool in page.tools]
            return _answer(jsonrpc.result_body(request.id, list_result(tools, page.next_cursor, is_modern)))
        tool, upstream = permitted_tool(caller, permission, entrance, jsonrpc.text(request.params.get("name"), "name"))
        call = _tool_call(tool.name, request, caller.principal, _param_headers(scope) if is_modern else ())
        answer = await self._upstreams.call_tool(upstream, call)
        return _relayed(request.id, answer, is_modern)

    def _failure(self, error: tree.SluicegateError, request: Request | None, scope: Scope) -> Answer:
        """JSON-RPC errors go out with 200, so that every client reads them, but for decisions and faults of our own."""
        status = http_status(error)
        if request is None:
            return problem(error, self._metadata_url(scope), scope.get(REQUEST_ID))
        headers = error_headers(error, self._metadata_url(scope)) if status in (401, 403, 503) else []
        data = {"code": error.code} | ({"reason": error.reason} if isinstance(error, tree.Forbidden) else {})
        body = jsonrpc.error_body(request.id, jsonrpc.error_object(jsonrpc_code(error), str(error), data))
        return Answer(status if headers else 200, [JSON, *headers], body)


def usable_server(caller: Caller, name: str) -> VirtualServer:
    """The server with this slug or id, if the caller may use it. Raises NotFound or Forbidden."""
    return caller.permitted(Permission.SERVERS_USE, caller.directory.server(name), no_such("server", name))


def _greeting(request: Request) -> bytes:
    """The result of the methods that only say who we are, and of `ping`."""
    if request.method == "server/discover":
        return modern.discover_result(MODERN_CAPABILITIES, NAME, __version__)
    if request.method == "initialize":
        return legacy.initialize_result(request, LEGACY_CAPABILITIES, NAME, __version__)
    return b"{}"


def _cursor(request: Request) -> str | None:
    return jsonrpc.text(request.params["cursor"], "cursor") if "cursor" in request.params else None


def _tool_call(
    own_name: str, request: Request, principal: Principal, param_headers: tuple[tuple[str, str], ...]
) -> ToolCall:
    return ToolCall(
        name=own_name,
        params={key: value for key, value in request.params.items() if key not in ("name", "_meta")},
        meta={key: value for key, value in request.meta.items() if not key.startswith(jsonrpc.META_PREFIX)},
        capabilities=request.meta.get(modern.CLIENT_CAPABILITIES, NO_CAPABILITIES),
        token_id=principal.token_id,
        param_headers=param_headers,
    )


def _param_headers(scope: Scope) -> tuple[tuple[str, str], ...]:
    return tuple(
        (key.decode("latin-1"), value.decode("latin-1").strip(" \t"))
        for key, value in scope["headers"]
        if key.startswith(PARAM_HEADER)
    )


def _relayed(request_id: bytes, answer: UpstreamAnswer, is_modern: bool) -> Answer:
    """The upstream's answer under the client's id; in the modern era an error has the status that belongs to it."""
    if isinstance(answer, UpstreamRefusal):
        status = modern.error_status(answer.error) if is_modern else 200
        return _answer(jsonrpc.error_body(request_id, answer.error), status)
    if is_modern:
        return _answer(jsonrpc.result_body(request_id, modern.completed(answer.result)))
    if modern.wants_input(answer.result):
        what = "the tool asks the client for input in a way that this protocol version does not have"
        raise ProtocolError(Code.MISSING_CLIENT_CAPABILITY, what, status=200)
    return _answer(jsonrpc.result_body(request_id, answer.result))


def _check_content_type(scope: Scope) -> None:
    values = header_values(scope, b"content-type")
    if len(values) != 1 or values[0].partition(";")[0].strip().lower() != "application/json":
        raise ProtocolError(Code.INVALID_REQUEST, "send `Content-Type: application/json`", status=415)


def _check_takes_events(scope: Scope) -> None:
    accepted = ",".join(header_values(scope, b"accept")).lower()
    if accepted and "text/event-stream" not in accepted and "*/*" not in accepted:
        raise ProtocolError(Code.INVALID_REQUEST, "send `Accept: application/json, text/event-stream`", status=406)


def _error_object(error: ProtocolError) -> bytes:
    return jsonrpc.error_object(error.code, str(error), error.data)


def _answer(body: bytes, status: int = 200) -> Answer:
    return Answer(status, [JSON], body)
