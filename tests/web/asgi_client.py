"""A tiny in-process ASGI client: one request, the whole answer."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from sluicegate.web.asgi import App, Message, Scope

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class Response(NamedTuple):
    """The answer. Names of headers are in lower case; the values of a repeated one are joined by `, `."""

    status: int
    headers: dict[str, str]
    body: bytes


def http_scope(method: str, target: str, headers: Headers = ()) -> Scope:
    """The scope of a request to `target` (path and query); with `Host: 127.0.0.1:4444` unless a host is given."""
    path, _, query = target.partition("?")
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    if all(name != b"host" for name, _ in raw):
        raw.insert(0, (b"host", b"127.0.0.1:4444"))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": raw,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 4444),
        "state": {},
    }


async def call(
    app: App, method: str, target: str, *, headers: Headers = (), body: bytes | list[bytes] = b""
) -> Response:
    """One request. A body of bytes states its length; a list of chunks arrives as that many messages and does not."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if isinstance(body, bytes) and body and all(name.lower() != "content-length" for name, _ in pairs):
        pairs.append(("content-length", str(len(body))))
    chunks = [body] if isinstance(body, bytes) else list(body)
    last = len(chunks) - 1
    incoming = [{"type": "http.request", "body": chunk, "more_body": at < last} for at, chunk in enumerate(chunks)]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(10):
        await app(http_scope(method, target, pairs), receive, send)
    return answered(sent)


def answered(sent: list[Message]) -> Response:
    """The response that these messages make up."""
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1, f"expected one start of a response, got {len(starts)}"
    headers: dict[str, str] = {}
    for raw_name, raw_value in starts[0]["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    body = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return Response(starts[0]["status"], headers, body)
