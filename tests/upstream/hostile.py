"""A raw HTTP/1.1 server whose every byte is the test's, and scripts that make it an MCP server of either era."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

Json = dict[str, Any]


class Exchange:
    """One request, and the way to answer it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        self._reader = reader
        self._writer = writer
        self.connection = connection
        self.method = ""
        self.headers: dict[str, str] = {}
        self.body = b""

    async def read(self) -> bool:
        """Reads the request; False when the peer has closed the connection instead."""
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        first, *lines = head.rstrip("\r\n").split("\r\n")
        self.method = first.split(" ")[0]
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.body = await self._reader.readexactly(int(self.headers.get("content-length", 0)))
        return True

    @property
    def json(self) -> Json:
        return json.loads(self.body) if self.body else {}

    @property
    def rpc(self) -> str:
        """The JSON-RPC method, or the HTTP method where there is no body."""
        return str(self.json.get("method", self.method))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def respond(self, status: int, body: bytes, content_type: str, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def reply(self, message: Json, *headers: str, status: int = 200) -> None:
        await self.respond(status, json.dumps(message).encode(), "application/json", *headers)

    async def result(self, result: Json, *headers: str) -> None:
        await self.reply({"jsonrpc": "2.0", "id": self.json["id"], "result": result}, *headers)

    async def error(self, code: int, *, status: int = 200, **data: Any) -> None:
        error = {"code": code, "message": "no", **data}
        await self.reply({"jsonrpc": "2.0", "id": self.json["id"], "error": error}, status=status)

    async def reject(self, code: int, message: str = "no", *, status: int = 400, id: str | None = None) -> None:
        """An error of a server that did not read the request: it does not name its id."""
        await self.reply({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}, status=status)

    async def start_stream(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def event(self, message: Json) -> None:
        await self.chunk(b"event: message\r\ndata: " + json.dumps(message).encode() + b"\r\n\r\n")

    async def closed(self) -> None:
        """Waits until the peer closes the connection."""
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            return

    def hang_up(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        self._writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


class Hostile:
    """Listens on loopback while entered. `seen` holds every request, `connections` counts what was accepted."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.seen: list[Exchange] = []
        self.connections = 0
        self.open = 0
        self.changed = asyncio.Condition()

    async def __aenter__(self) -> "Hostile":
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=1 << 26, backlog=2048, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def methods(self) -> list[str]:
        return [exchange.rpc for exchange in self.seen]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for what the server sees, at most 5 s."""
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(condition)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            await self._talk(reader, writer, self.connections)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)
            self.open -= 1
            await self._tell()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        while not writer.is_closing():
            exchange = Exchange(reader, writer, connection)
            if not await exchange.read():
                return
            self.seen.append(exchange)
            await self._tell()
            await self._script(exchange)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


async def echo(exchange: Exchange) -> None:
    """Answers a call with its own params."""
    await exchange.result({"content": [], "echo": exchange.json["params"]})


def modern(call: Script = echo) -> Script:
    """A server of the modern era whose `tools/call` is `call`."""

    async def script(exchange: Exchange) -> None:
        if exchange.headers.get("mcp-protocol-version") != "2026-07-28":
            await exchange.error(-32022, status=400, data={"supported": ["2026-07-28"]})
        elif exchange.rpc == "server/discover":
            await exchange.result({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
        else:
            await call(exchange)

    return script


class LegacySessions:
    """A stateful server of the legacy era. `sessions` are those it knows now, `ended` those that were deleted.

    `denial` is how it answers to a session it does not know: HTTP status, id and code of the error.
    """

    def __init__(
        self, call: Script = echo, denial: tuple[int, str | None, int] = (404, "server-error", -32600)
    ) -> None:
        self._call = call
        self._denial = denial
        self._made = 0
        self.sessions: set[str] = set()
        self.ended: list[str] = []

    async def __call__(self, exchange: Exchange) -> None:
        session = exchange.headers.get("mcp-session-id")
        if exchange.rpc == "initialize":
            self._made += 1
            self.sessions.add(f"session-{self._made}")
            result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
            await exchange.result(result, f"Mcp-Session-Id: session-{self._made}")
        elif session is None:
            error = {"code": -32600, "message": "Bad Request: Missing session ID"}
            await exchange.reply({"jsonrpc": "2.0", "id": "server-error", "error": error}, status=400)
        elif session not in self.sessions:
            status, id, code = self._denial
            error = {"code": code, "message": "Session not found"}
            await exchange.reply({"jsonrpc": "2.0", "id": id, "error": error}, status=status)
        elif exchange.method == "DELETE":
            self.sessions.discard(session)
            self.ended.append(session)
            await exchange.respond(200, b"", "application/json")
        elif "id" not in exchange.json:
            await exchange.respond(202, b"", "application/json")
        else:
            await self._call(exchange)


def stateless(call: Script = echo, version: str = "2025-06-18") -> Script:
    """A server of the legacy era that keeps no sessions."""

    async def script(exchange: Exchange) -> None:
        if exchange.rpc == "initialize":
            await exchange.result({"protocolVersion": version, "capabilities": {}, "serverInfo": {}})
        elif exchange.rpc == "server/discover":
            await exchange.error(-32601)
        elif "id" not in exchange.json:
            await exchange.respond(202, b"", "application/json")
        else:
            await call(exchange)

    return script
