"""The fastest MCP upstream that we can write: raw ASGI, legacy era, one tool, a fixed answer under the request's id."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

Message = MutableMapping[str, Any]

RESULTS = {
    "initialize": b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"b"}}',
    "tools/list": b'{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}',
    "tools/call": b'{"content":[{"type":"text","text":"hello from the upstream"}],"isError":false}',
}


class Call(msgspec.Struct):
    method: str
    id: msgspec.Raw = msgspec.Raw(b"")


decoder = msgspec.json.Decoder(Call)


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answers 202 to notifications, 404 to methods that it does not know, and knows no lifespan."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    call = decoder.decode(body)
    result = RESULTS.get(call.method)
    status = 202 if not call.id else 200 if result else 404
    answer = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (bytes(call.id), result) if call.id and result else b""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
