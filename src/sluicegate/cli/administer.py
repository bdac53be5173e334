"""Run what works on the database directly, also while a gateway serves."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sluicegate import bootstrap, telemetry
from sluicegate.bootstrap import Administration
from sluicegate.settings import load_settings

T = TypeVar("T")


def administer(work: Callable[[Administration], Awaitable[T]]) -> T:
    """What `work` returns, given what administrative commands need. Raises what it raises, and ConfigurationError."""

    async def lent() -> T:
        async with bootstrap.administration(load_settings()) as admin:
            return await work(admin)

    telemetry.configure_logging()
    return asyncio.run(lent())
