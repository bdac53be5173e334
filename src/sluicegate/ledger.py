"""The connection ledger (design, section 4): who has a database connection, and the law that a request has none.

Always on. A checkout is refused when its task has one already or acts for a data-plane request; upstream I/O is refused
while a connection is held. The state lives in context variables, so it follows the work into the pool's thread and into
every task that the work starts. No I/O here: `store`, `upstream` and `web` share it.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, Token
from enum import StrEnum

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
CHECKED_OUT = Gauge("db_checked_out", "Database connections in use now", ["owner"])
CHECKOUT_SECONDS = Histogram("db_checkout_seconds", "Seconds from taking a database connection to giving it back")
for _owner in Owner:
    CHECKOUTS.labels(_owner)  # so that /metrics shows a 0, not nothing
    CHECKED_OUT.labels(_owner)

_held_for: ContextVar[Owner | None] = ContextVar("sluicegate_connection_held_for", default=None)
_on_data_plane: ContextVar[bool] = ContextVar("sluicegate_on_data_plane", default=False)


def checkout(owner: Owner) -> AbstractContextManager[None]:
    """Asks for a connection at once, in the task that wants it; the context manager spans the time it is used.

    It may be entered in another thread, in a copy of the task's context. Raises LedgerViolation when the task holds a
    connection already, or acts for a data-plane request.
    """
    if _on_data_plane.get():
        CHECKOUTS.labels(Owner.REQUEST).inc()
        raise LedgerViolation("a data-plane request asked for a database connection: answer it from the directory")
    if (held := _held_for.get()) is not None:
        raise LedgerViolation(f"a second database connection was asked for while one is held for `{held}`")
    return _counted(owner)


@contextmanager
def _counted(owner: Owner) -> Iterator[None]:
    CHECKOUTS.labels(owner).inc()
    token = _held_for.set(owner)
    with CHECKED_OUT.labels(owner).track_inprogress():
        began = time.perf_counter()
        try:
            yield
        finally:
            CHECKOUT_SECONDS.observe(time.perf_counter() - began)
            _held_for.reset(token)


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
