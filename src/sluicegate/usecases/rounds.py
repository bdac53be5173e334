"""When the log is polled: in rounds that all who wait share, so that their number never makes more polls."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct


class Pace(Struct, frozen=True):
    """Seconds between two polls."""

    idle: float = 0.25
    """When nobody asks for one."""
    least: float = 0.05
    """However many wait for one: at most 20 a second."""
    failing: tuple[float, float] = (0.25, 0.9)
    """At random between the two while polls fail: instances do not come back in step, and each within a second."""


PACE = Pace()


class Rounds:
    """Lets one task poll in rounds, and others wish for one and wait until it is over."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._wanted = asyncio.Event()
        self._over = asyncio.Condition()
        self._begun = 0
        self._done = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Spans the polling of one round; who waited for it is woken at its end."""
        self._loop = asyncio.get_running_loop()
        self._wanted.clear()
        self._begun += 1
        yield
        async with self._over:
            self._done = self._begun
            self._over.notify_all()

    async def pause(self, *, failing: bool) -> None:
        """Returns when the next round is due. Wishes do not hasten it while polls fail."""
        if failing:
            await asyncio.sleep(random.uniform(*self._pace.failing))  # noqa: S311 - spreads load, keeps no secret
            return
        await asyncio.sleep(self._pace.least)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.idle - self._pace.least):  # `wait_for` may lose a cancellation
                await self._wanted.wait()

    def wish(self) -> None:
        """Makes the next round come as soon as it may."""
        self._wanted.set()

    def wish_from_thread(self) -> None:
        """The same, from any thread; nothing when no round was ever begun, or the event loop has ended."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wanted.set)

    async def next(self, at_most: float) -> None:
        """Waits, for `at_most` seconds, until a round that begins after this call is over."""
        target = self._begun + 1
        self._wanted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most), self._over:
                await self._over.wait_for(lambda: self._done >= target)
