"""HTTP/1.1 byte by byte: requests that no client library would send, and what comes back."""

import json
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

LIST = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
PATIENCE = 10.0
"""Seconds for an answer."""
SLICE = 65536


class Answer(Struct, frozen=True):
    """One response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> object:
        """The stable code of a problem, or the number of a JSON-RPC error; None where there is neither."""
        if not self.body:
            return None
        content = self.json
        error = content.get("error")
        return error["code"] if error else content.get("code")


def post(body: bytes, *headers: str, path: str = "/mcp", content_type: str = "application/json") -> bytes:
    """A POST whose framing is right; each header is a whole line."""
    lines = [f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return head("POST", path, *lines) + body


def head(method: str, path: str, *headers: str, host: str = "127.0.0.1") -> bytes:
    """A request's head with the `Host` given; each header is a whole line."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode("latin-1")


def chunked(body: bytes) -> bytes:
    """The body in chunks of 64 KiB, with the last one."""
    pieces = [body[at : at + SLICE] for at in range(0, len(body), SLICE)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def exchange(port: int, request: bytes) -> Answer:
    """Sends the bytes, until an answer begins to come, and reads that answer."""
    with sent(port, request) as answer:
        return answer()


@contextmanager
def sent(port: int, request: bytes) -> Iterator[Callable[[], Answer]]:
    """Has sent the bytes, on a connection of their own; the answer is read when it is asked for."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        _send(connection, request)
        yield lambda: _answer(connection, without_body=request.startswith(b"HEAD "))


def _answer(connection: socket.socket, *, without_body: bool) -> Answer:
    with connection.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        headers: dict[str, str] = {}
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = b"" if without_body else stream.read(int(headers.get("content-length", 0)))
    return Answer(status, headers, body)


def _send(connection: socket.socket, request: bytes) -> None:
    """A server that has refused what it has not read yet stops reading: then so do we stop sending."""
    for at in range(0, len(request), SLICE):
        if select.select([connection], [], [], 0)[0]:
            return
        try:
            connection.sendall(request[at : at + SLICE])
        except (BrokenPipeError, ConnectionResetError):
            return
