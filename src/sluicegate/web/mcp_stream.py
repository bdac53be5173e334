"""The open answers of `subscriptions/listen`: server-sent events until the client leaves, loses its right, or we end.

A stream keeps nothing for a client that does not read: it waits for `send`, and ends when that takes too long. Source:
MCP 2026-07-28, streamable HTTP and subscriptions.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import Struct

from sluicegate import telemetry
from sluicegate.core.errors import SluicegateError, Unavailable
from sluicegate.ports import Clock
from sluicegate.protocol import sse, subscriptions
from sluicegate.protocol.subscriptions import Subscription
from sluicegate.usecases.watch_list import ListWatch
from sluicegate.web.asgi import Message, Receive, Send

EVENTS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class StreamLimits(Struct, frozen=True):
    """Of the streams of one worker; times in seconds."""

    recheck: float
    """Within which a right is looked at again, whatever happens: L."""
    most: int = 1000
    """Streams at a time."""
    keep_alive: float = 2.0
    """Silence after which a comment is sent: proxies hang up after a minute of it, httpx after five seconds."""
    send_within: float = 10.0
    """In which a client must have made room for a message; `recheck` if that is less, as nobody looks meanwhile."""

    @property
    def every(self) -> float:
        """How often each stream has to look up."""
        return min(self.recheck, self.keep_alive)


class Listening(Struct, frozen=True):
    """What one stream is about."""

    subscription: Subscription
    watch: ListWatch
    refusal: Callable[[SluicegateError], bytes]
    """The body of the answer that a request would get for the error."""


class McpStreams:
    """All streams of this worker."""

    def __init__(self, clock: Clock, limits: StreamLimits) -> None:
        self.limits = limits
        self._clock = clock
        self._open = 0
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Closes every stream with its result, and refuses new ones."""
        self._ending.set()

    def require_room(self) -> None:
        """Raises Unavailable when no further stream may be opened."""
        if self._ending.is_set():
            raise Unavailable("this gateway is ending: listen again in a moment", code="ending")
        if self._open >= self.limits.most:
            raise Unavailable(f"{self._open} streams are open and no more can be: try again", code="too_many_streams")

    async def run(self, listening: Listening, receive: Receive, send: Send) -> None:
        """The whole answer, headers first; returns when the stream has ended. `require_room` comes before it.

        Returning with an answer that is not complete makes the server cut the connection.
        """
        self._open += 1
        telemetry.streams_open.inc()
        try:
            if not await self._sent(send, {"type": "http.response.start", "status": 200, "headers": EVENTS}):
                return
            ways_to_end = self._tell(listening, send), self._ended(listening.subscription), _left(receive)
            last = await _first_of(*ways_to_end)
            if last is not None:
                await self._sent(send, _body(sse.encoded(last), more=False))
        finally:
            self._open -= 1
            telemetry.streams_open.dec()

    async def _tell(self, listening: Listening, send: Send) -> bytes | None:
        """Says what there is to say; returns the response that ends it, or None when nobody reads it."""
        message = _body(sse.encoded(subscriptions.acknowledged(listening.subscription)))
        try:
            while await self._sent(send, message):
                message = _body(await self._next_of(listening))
        except SluicegateError as error:
            return listening.refusal(error)
        return None

    async def _next_of(self, listening: Listening) -> bytes:
        """The next event, or a comment when there was none for a while. Raises as `ListWatch.next` does."""
        silent_since = self._clock.boot()
        while True:
            changed = await listening.watch.next()
            if changed and listening.subscription.tools_list_changed:
                return sse.encoded(subscriptions.tools_list_changed(listening.subscription))
            if self._clock.boot() - silent_since >= self.limits.keep_alive:
                return sse.COMMENT

    async def _ended(self, subscription: Subscription) -> bytes | None:
        await self._ending.wait()
        return subscriptions.closed(subscription)

    async def _sent(self, send: Send, message: Message) -> bool:
        """False when the client did not make room for it in time."""
        try:
            async with asyncio.timeout(min(self.limits.send_within, self.limits.recheck)):
                await send(message)
        except TimeoutError:
            return False
        return True


async def _left(receive: Receive) -> bytes | None:
    """Returns when the client has closed the connection: there is nobody to send a last message to."""
    while (await receive())["type"] != "http.disconnect":
        pass
    return None


async def _first_of(*ways: Coroutine[Any, Any, bytes | None]) -> bytes | None:
    """What the first of them returns; the others are cancelled, and none runs on."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(task for task in tasks if task.done())
        for task in tasks:
            task.cancel()
    return first.result()


def _body(content: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}
