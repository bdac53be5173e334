"""The connection ledger (design, section 4): who has a database connection, and the law that a request has none.

Always on. A checkout is refused when its task has one already or acts for a data-plane request; upstream I/O is refused
while a connection is held. The state lives in context variables, so it follows the work into the pool's thread and into
every task that the work starts. No I/O here: `store`, `upstream` and `web` share it.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, Token
from enum import StrEnum
from types import CodeType, FrameType

from msgspec import Struct
from prometheus_client import Counter, Gauge, Histogram


class Owner(StrEnum):
    """What a connection is taken for, as the metrics name it."""

    REQUEST = "request"
    """The data plane. Its checkouts are refused, so its counter is the number of attempts: 0 unless there is a bug."""
    ADMIN = "admin"
    FEED = "feed"
    UPKEEP = "upkeep"
    """What the process does for itself: its report once a second, trimming the log, the hourly audit."""


class LedgerViolation(RuntimeError):
    """The program broke the law of the connection ledger. A bug, never the caller's fault or the database's."""


CHECKOUTS = Counter("db_checkouts_total", "Database connections taken, or refused to a request", ["owner"])
CHECKED_OUT = Gauge("db_checked_out", "Database connections in use now", ["owner"], multiprocess_mode="livesum")
CHECKOUT_SECONDS = Histogram("db_checkout_seconds", "Seconds from taking a database connection to giving it back")
LEAKS = Counter("db_leaks_total", "Database connections held for longer than their work should take", ["owner"])
for _owner in Owner:
    CHECKOUTS.labels(_owner)  # so that /metrics shows a 0, not nothing
    CHECKED_OUT.labels(_owner)
    LEAKS.labels(_owner)

LEAK_AFTER = 1.0
"""Seconds after which a checkout counts as a leak, unless its work stated that it takes longer."""
STACK = 24
"""Frames that are remembered and shown of one stack, the innermost ones."""

_held_for: ContextVar[Owner | None] = ContextVar("sluicegate_connection_held_for", default=None)
_on_data_plane: ContextVar[bool] = ContextVar("sluicegate_on_data_plane", default=False)


class Leak(Struct, frozen=True):
    """A connection that is held for too long: since when, where it was asked for, where its thread is now."""

    owner: Owner
    seconds: float
    asked: tuple[str, ...]
    now: tuple[str, ...]


Place = tuple[CodeType, int]
"""A line of code. Unlike a frame it keeps no variables alive."""


class _Checkout:
    """A connection that was asked for, and from `began` on is held by `thread`."""

    __slots__ = ("asked", "began", "leaked", "owner", "patience", "thread")

    def __init__(self, owner: Owner, patience: float, asked: tuple[Place, ...]) -> None:
        self.owner = owner
        self.patience = patience
        self.asked = asked
        self.began = 0.0
        self.thread = 0
        self.leaked = False


_held: set[_Checkout] = set()
_held_lock = threading.Lock()


def checkout(owner: Owner, patience: float = LEAK_AFTER) -> AbstractContextManager[None]:
    """Asks for a connection at once, in the task that wants it; the context manager spans the time it is used.

    It may be entered in another thread, in a copy of the task's context. After `patience` seconds it is a leak. Raises
    LedgerViolation when the task holds a connection already, or acts for a data-plane request.
    """
    if _on_data_plane.get():
        CHECKOUTS.labels(Owner.REQUEST).inc()
        raise LedgerViolation("a data-plane request asked for a database connection: answer it from the directory")
    if (held := _held_for.get()) is not None:
        raise LedgerViolation(f"a second database connection was asked for while one is held for `{held}`")
    return _counted(_Checkout(owner, patience, _places(sys._getframe(1))))


@contextmanager
def _counted(taken: _Checkout) -> Iterator[None]:
    CHECKOUTS.labels(taken.owner).inc()
    token = _held_for.set(taken.owner)
    taken.began, taken.thread = time.perf_counter(), threading.get_ident()
    with _held_lock:
        _held.add(taken)
    with CHECKED_OUT.labels(taken.owner).track_inprogress():
        try:
            yield
        finally:
            CHECKOUT_SECONDS.observe(time.perf_counter() - taken.began)
            with _held_lock:
                _held.discard(taken)
            _held_for.reset(token)


def new_leaks() -> list[Leak]:
    """The connections that are held for too long now; each once, and counted."""
    now = time.perf_counter()
    with _held_lock:
        late = [each for each in _held if not each.leaked and now - each.began > each.patience]
        for each in late:
            each.leaked = True
    threads = sys._current_frames() if late else {}
    for each in late:
        LEAKS.labels(each.owner).inc()
    return [
        Leak(each.owner, round(now - each.began, 3), _shown(each.asked), stack_of(threads.get(each.thread)))
        for each in late
    ]


def stack_of(frame: FrameType | None) -> tuple[str, ...]:
    """The frame and its callers, innermost first, one line each; nothing for a thread that has ended."""
    return _shown(_places(frame))


def _places(frame: FrameType | None) -> tuple[Place, ...]:
    places: list[Place] = []
    while frame is not None and len(places) < STACK:
        places.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(places)


def _shown(places: tuple[Place, ...]) -> tuple[str, ...]:
    return tuple(f"{code.co_filename}:{line} in {code.co_qualname}" for code, line in places)


def refuse_if_holding() -> None:
    """To be called before upstream I/O: raises LedgerViolation while a database connection is held."""
    if (held := _held_for.get()) is not None:
        raise LedgerViolation(f"an upstream was about to be called while a database connection is held for `{held}`")


class DataPlane:
    """Marks the current task as a data-plane request. A class of two methods, because it is on the warm way."""

    __slots__ = ("_token",)
    _token: Token[bool]

    def __enter__(self) -> None:
        self._token = _on_data_plane.set(True)

    def __exit__(self, *_: object) -> None:
        _on_data_plane.reset(self._token)


def data_plane() -> DataPlane:
    """Wraps an MCP request or a REST read: inside, every checkout is refused and counted as the request's."""
    return DataPlane()
