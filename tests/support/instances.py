"""The table of instances in memory."""

import asyncio
from collections.abc import Callable

from sluicegate.core.identity import InstanceId
from sluicegate.ports import Report, Seen


class FakeInstances:
    """Keeps reports; others can be put there by hand, and looked at is what `when_looked_at` leaves there."""

    def __init__(self) -> None:
        self.rows: dict[InstanceId, Seen] = {}
        self.reports: list[Report] = []
        self.reported = asyncio.Condition()
        self.looks = 0
        self.failure: Exception | None = None
        """What every method raises."""
        self.when_looked_at: Callable[[], None] = lambda: None
        self.may_be_read = asyncio.Event()
        """To be cleared: then looking hangs."""
        self.may_be_read.set()

    def stands(self, name: str, revision: int, *, trust: float = 300.0, ago: float = 0.0) -> None:
        """Another instance has reported."""
        key = InstanceId(f"id of {name}")
        self.rows[key] = Seen(Report(key, name, revision, trust), ago)

    async def report(self, report: Report) -> None:
        self.reports.append(report)
        async with self.reported:
            self.reported.notify_all()
        self._fail()
        self.rows[report.instance] = Seen(report, 0.0)

    async def seen(self) -> list[Seen]:
        self.looks += 1
        self.when_looked_at()
        await self.may_be_read.wait()
        self._fail()
        return sorted(self.rows.values(), key=lambda seen: seen.report.name)

    async def leave(self, instance: InstanceId) -> None:
        self._fail()
        self.rows.pop(instance, None)

    async def forget_silent(self) -> int:
        self._fail()
        gone = [key for key, seen in self.rows.items() if seen.ago > 86400.0]
        for key in gone:
            del self.rows[key]
        return len(gone)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
