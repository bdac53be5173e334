"""An MCP server with a small web of its own, built with the official Python SDK. It speaks only the modern era.

That is 2026-07-28. It makes no network access: the pages are in this file.
With WEB_TOKEN set, it wants that as its bearer token.

    WEB_TOKEN=… python examples/web_upstream.py 9102
"""

import os
import secrets
import sys

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

PAGES = {
    "https://example.com/": "A sluice is a gate that lets through as much as its keeper wants. See https://example.com/mills",
    "https://example.com/mills": "Water mills need a steady stream, whatever the river does. See https://example.com/locks",
    "https://example.com/locks": "A lock lifts a boat from one level of water to another. See https://example.com/",
}

server = MCPServer("web", version="1.0.0", log_level="ERROR")


@server.tool()
def fetch(url: str) -> str:
    """The text of a page."""
    try:
        return PAGES[url]
    except KeyError:
        raise ToolError(f"there is no page {url}; the pages are: {', '.join(PAGES)}") from None


@server.tool()
def search(words: str) -> list[str]:
    """The addresses of the pages that hold all of these words."""
    wanted = words.lower().split()
    return [url for url, text in PAGES.items() if all(word in text.lower() for word in wanted)]


class ModernOnly:
    """Answers an older client as a server without the `initialize` handshake would; the SDK alone speaks both eras."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        version = dict(scope["headers"]).get(b"mcp-protocol-version", b"").decode("latin-1")
        if scope["method"] != "POST":
            await Response(status_code=405, headers={"allow": "POST"})(scope, receive, send)
        elif version not in MODERN_PROTOCOL_VERSIONS:
            data = {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": version}
            error = {"code": -32022, "message": "Unsupported protocol version", "data": data}
            refusal = JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status_code=400)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class BearerOnly:
    """Lets through only requests with the one bearer token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "http" and not secrets.compare_digest(given, self._expected):
            await Response(status_code=401, headers={"www-authenticate": "Bearer"})(scope, receive, send)
        else:
            await self._app(scope, receive, send)


if __name__ == "__main__":
    app: ASGIApp = ModernOnly(server.streamable_http_app())
    if token := os.environ.get("WEB_TOKEN"):
        app = BearerOnly(app, token)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
