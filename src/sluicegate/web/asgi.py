"""The few ASGI pieces that all of `web` shares: types, the answer, and how it is sent."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from msgspec import Struct

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

PRINCIPAL = "sluicegate.principal"
"""Scope key of the `Principal` that TokenScopingMiddleware puts there."""
REQUEST_ID = "sluicegate.request_id"
"""Scope key of the request's id, a str."""
JSON = (b"content-type", b"application/json")


class Answer(Struct, frozen=True, gc=False):
    """A whole HTTP response."""

    status: int
    headers: Headers
    body: bytes


async def send_answer(send: Send, answer: Answer) -> None:
    """Sends the whole response; content-length is added here."""
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def header_values(scope: Scope, name: bytes) -> list[str]:
    """All values of a header (`name` in lower case), without surrounding blanks, in order."""
    return [value.decode("latin-1").strip(" \t") for key, value in scope["headers"] if key == name]


async def read_body(receive: Receive) -> bytes:
    """The whole request body; its size is bounded by the body limit further out. Raises ClientGone."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return bytes(message.get("body", b""))
    parts: list[bytes] = []
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
    raise ClientGone


class ClientGone(Exception):
    """The client closed the connection before its request was complete: there is nobody to answer."""
