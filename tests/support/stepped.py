"""A feed whose waiting a test ends by hand, so that nothing in it takes time."""

import asyncio

from msgspec import Struct

from sluicegate.core.catalog import KIND_OF, Entity, Kind
from sluicegate.core.directory import Directory
from sluicegate.core.events import Change
from tests.support.memory import FakeFeed

PATIENCE = 10.0
"""Seconds."""


class Wait(Struct, frozen=True):
    """One call of `next_change`: what was asked, and how to let it return."""

    above: int
    at_most: float
    over: asyncio.Future[None]


class SteppedFeed(FakeFeed):
    """`next_change` returns when the test takes a step, and only then."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory)
        self._waits: asyncio.Queue[Wait] = asyncio.Queue()

    async def next_change(self, above: int, at_most: float) -> None:
        wait = Wait(above, at_most, asyncio.get_running_loop().create_future())
        self._waits.put_nowait(wait)
        await wait.over

    async def step(self) -> Wait:
        """Ends the wait that came first, once there is one; what was asked by it."""
        async with asyncio.timeout(PATIENCE):
            wait = await self._waits.get()
            while wait.over.done():  # its stream has ended
                wait = await self._waits.get()
        wait.over.set_result(None)
        return wait

    def put(self, *entities: Entity) -> None:
        """Gives each entity this state, one revision each."""
        for entity in entities:
            self.change(KIND_OF[type(entity)], entity.id, entity)  # type: ignore[attr-defined]

    def change(self, kind: Kind, key: str, entity: Entity | None) -> None:
        """The next revision; None deletes."""
        self.directory.apply(Change(self.directory.revision + 1, kind, key, entity))
