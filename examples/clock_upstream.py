"""An MCP server that tells the time, built with the official Python SDK. It speaks only the legacy era (2025-11-25).

Most servers that are installed today are like this one.

    python examples/clock_upstream.py 9101
"""

import sys
from datetime import UTC, datetime, timedelta, timezone

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

server = MCPServer("clock", version="1.0.0", log_level="ERROR")


@server.tool()
def now(utc_offset_hours: float = 0) -> str:
    """The time of day and the date, as ISO 8601, at this offset from UTC."""
    return datetime.now(timezone(timedelta(hours=utc_offset_hours))).isoformat(timespec="seconds")


@server.tool()
def add(instant: str, seconds: float) -> str:
    """The instant that lies this many seconds after another one. Instants are written as ISO 8601."""
    return (datetime.fromisoformat(instant) + timedelta(seconds=seconds)).isoformat()


@server.tool()
def difference(earlier: str, later: str) -> float:
    """The seconds from one instant to another. An instant without an offset is taken as UTC."""
    return (_aware(later) - _aware(earlier)).total_seconds()


def _aware(instant: str) -> datetime:
    parsed = datetime.fromisoformat(instant)
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


class LegacyOnly:
    """Answers what a server from before 2026-07-28 answers to a newer client; the SDK alone would speak both eras."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        version = dict(scope.get("headers", ())).get(b"mcp-protocol-version", b"").decode("latin-1")
        if not version or version in HANDSHAKE_PROTOCOL_VERSIONS:
            await self._app(scope, receive, send)
            return
        error = {"code": -32600, "message": f"Bad Request: Unsupported protocol version: {version}"}
        refusal = JSONResponse({"jsonrpc": "2.0", "id": "server-error", "error": error}, status_code=400)
        await refusal(scope, receive, send)


if __name__ == "__main__":
    app = LegacyOnly(server.streamable_http_app())
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
