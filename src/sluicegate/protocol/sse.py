"""Server-sent events on the wire, sans I/O (HTML Standard, section 9.2, "Server-sent events")."""

import re
from typing import Final

from msgspec import Struct

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
LINE_COST: Final = 64
"""Bytes that a line is charged with at least, as one that says nothing costs time too."""


COMMENT: Final = b":\n\n"
"""Says nothing: it keeps the connection in use."""


def encoded(message: bytes) -> bytes:
    """The event that carries a message, which must hold no line end: JSON as we write it has none."""
    return b"data: %b\n\n" % message


class EventTooLarge(Exception):
    """The stream sent more bytes for one event, or more lines in all, than were allowed."""


class SseEvent(Struct, frozen=True):
    """One dispatched event. `data` is bytes as sent, its lines joined by LF; whether it is UTF-8 is for its reader."""

    type: str
    data: bytes


class SseParser:
    """Turns the chunks of one stream into events; the events never depend on where the chunks were cut.

    An event that the stream ends in the middle of is dropped, as the standard demands. Holds at most `max_event`
    bytes and one chunk; takes one line for each LINE_COST of `max_event`, in the stream as a whole.
    """

    def __init__(self, max_event: int) -> None:
        self._max_event = max_event
        self._lines_left = max_event // LINE_COST
        self._partial = bytearray()
        self._after_cr = False
        self._at_start = True
        self._type = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that this chunk completes. Raises EventTooLarge."""
        if not chunk:
            return []
        start = 1 if self._after_cr and chunk.startswith(b"\n") else 0
        events: list[SseEvent] = []
        for end in _LINE_END.finditer(chunk, start):
            line = chunk[start : end.start()]
            if self._partial:
                line = bytes(self._partial) + line
                self._partial.clear()
            start = end.end()
            self._lines_left -= 1
            if self._lines_left < 0:
                raise EventTooLarge(f"the stream has more than {self._max_event // LINE_COST} lines")
            self._take(line, events)
        self._partial += chunk[start:]
        self._bound(len(self._partial))
        self._after_cr = chunk.endswith(b"\r")
        return events

    def _take(self, line: bytes, events: list[SseEvent]) -> None:
        if self._at_start:
            line = line.removeprefix(_BOM)
            self._at_start = False
        if not line:
            self._dispatch(events)
            return
        self._bound(len(line))
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")

    def _dispatch(self, events: list[SseEvent]) -> None:
        if self._data:
            events.append(SseEvent(self._type or "message", b"\n".join(self._data)))
        self._type, self._data, self._size = "", [], 0

    def _bound(self, more: int) -> None:
        if self._size + more > self._max_event:
            raise EventTooLarge(f"one event has more than {self._max_event} bytes")
