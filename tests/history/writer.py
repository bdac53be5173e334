"""A process that changes what decisions depend on, and writes down when each change was begun and acknowledged."""

import asyncio
import random
import signal
from pathlib import Path

from sluicegate.store import SqlDatabase, open_database
from tests.history.plans import WriterPlan
from tests.history.records import Acknowledged, Begun, Journal, boot_time
from tests.history.scripts import Script

PATIENCE = 60.0
"""Seconds for one write. One whose end nobody knows would spoil the history, so it ends the run instead."""


async def write(plan: WriterPlan, scripts: list[Script]) -> None:
    """Writes from SIGUSR1 to SIGTERM, and ends between two writes. There is a journal as soon as it can be told."""
    begun, ended = asyncio.Event(), asyncio.Event()

    def end() -> None:
        begun.set()
        ended.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, begun.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    journal = Journal(Path(plan.journal))
    # one connection more than is used at a time: the mutant that releases the head early takes a second one
    database = open_database(plan.url, pool_size=2, max_overflow=0, pool_timeout=PATIENCE, deadline=PATIENCE)
    try:
        pen = Pen(database, journal, scripts)
        pen.begin()
        await begun.wait()
        await _write_on(plan, pen, ended)
    finally:
        database.close()
        journal.close()


class Pen:
    """Makes the next version of a script."""

    def __init__(self, database: SqlDatabase, journal: Journal, scripts: list[Script]) -> None:
        self.scripts = scripts
        self._database = database
        self._journal = journal
        self._numbers = [0] * len(scripts)

    def begin(self) -> None:
        """Notes version 0 of each script, which is there since ever."""
        for script in self.scripts:
            name = script.question.name
            self._journal.note(Begun(name, 0, script.answer(0), 0.0))
            self._journal.note(Acknowledged(name, 0, 0.0))
        self._journal.flush()

    async def next(self, index: int) -> None:
        """Commits one version; nothing when the script is at its end."""
        script = self.scripts[index]
        if self._numbers[index] == script.length:
            return
        self._numbers[index] = number = self._numbers[index] + 1
        name = script.question.name
        self._journal.note(Begun(name, number, script.answer(number), boot_time()))
        self._journal.flush()
        await self._database.write(script.change(number))
        self._journal.note(Acknowledged(name, number, boot_time()))
        self._journal.flush()


async def _write_on(plan: WriterPlan, pen: Pen, ended: asyncio.Event) -> None:
    chance = random.Random(plan.seed)
    while not ended.is_set():
        await pen.next(chance.randrange(len(pen.scripts)))
        await asyncio.sleep(chance.uniform(0.0, plan.pause))
