"""A writer is killed at random instants, again and again: fault 34 of the list, as far as the database is concerned.

After each kill the next process finds head, log and tables in agreement, every change whole or not at all, and all that
was acknowledged.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from msgspec import Struct

from sluicegate.store import migrate, open_database
from tests.e2e.running import ROOT, wait_until
from tests.killing.agreement import Contents, disagreements, loaded_as_stored
from tests.killing.model import COUNTER, counter_at, world_after, written
from tests.store.writing import inserting
from tests.support.servers import fresh_database, postgresql

SEED = 20_261
KILLS = 15
MANY_KILLS = 300
"""Of a soak."""
STEPS = 14
"""Lines of the journal that a writer writes at most before it is killed: an epoch begins every twentieth or so."""
ONE_WRITE = 0.015
"""Seconds, about; a writer is killed at any instant within one."""
PATIENCE = 60.0


class Killed(Struct, frozen=True):
    """What the journal says: the last change that was begun, and that was acknowledged; all its lines by their word."""

    begun: int
    acknowledged: int
    words: Mapping[str, int]


class Writers:
    """Writers on one database, one after the other, each killed."""

    def __init__(self, process: "subprocess.Popen[str]", journal: Path) -> None:
        self._process = process
        self._journal = journal

    def killed(self, steps: int, seconds: float) -> None:
        """A writer begins, and is killed so many steps and seconds later."""
        enough = self._lines() + steps
        pid = int(self._said("go"))
        try:
            wait_until(lambda: self._lines() >= enough, PATIENCE, "the writer writes")
            Event().wait(seconds)
        finally:
            os.kill(pid, signal.SIGKILL)
        assert int(self._heard()) == signal.SIGKILL, "it wrote until it was killed"

    def journal(self) -> Killed:
        last, words = {"begun": 0, "acknowledged": 0}, dict[str, int]()
        for line in self._journal.read_text().splitlines():
            word, number = line.split()
            last[word] = int(number)
            words[word] = words.get(word, 0) + 1
        return Killed(last["begun"], last["acknowledged"], words)

    def _lines(self) -> int:
        return self._journal.read_bytes().count(b"\n")

    def _said(self, line: str) -> str:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
        return self._heard()

    def _heard(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def writers(url: str, journal: Path) -> Iterator[Writers]:
    journal.touch()
    command = [sys.executable, "-m", "tests.killing.writer", url, str(journal)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield Writers(process, journal)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated database."""
    if request.param == "sqlite":
        path = f"sqlite:///{tmp_path / 'sluicegate.db'}"
        migrate(path)
        yield path
    else:
        with postgresql() as cluster, fresh_database(cluster) as name:
            migrate(cluster.url(name))
            yield cluster.url(name)


async def counting(url: str) -> None:
    """Puts the counter there."""
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=PATIENCE)
    try:
        await database.write(inserting(counter_at(0)))
    finally:
        database.close()


async def found_by_the_next_process(url: str) -> Contents:
    """Opened anew, as a process does that starts after the kill: on SQLite it recovers the write-ahead log."""
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=PATIENCE)
    try:
        await database.write(written)  # what the killed one has sent, PostgreSQL still carries out: that has ended now
        return await loaded_as_stored(database)
    finally:
        database.close()


def number_in(contents: Contents) -> int:
    """How many changes were committed."""
    [counter] = (entity for (_, key), entity in contents.rows.items() if key == COUNTER)
    return int(counter.name)  # type: ignore[attr-defined]


def kill_again_and_again(url: str, journal: Path, kills: int) -> None:
    asyncio.run(counting(url))
    chance = random.Random(SEED)
    before = first = asyncio.run(found_by_the_next_process(url))
    in_the_middle = 0
    with writers(url, journal) as writing:
        for _ in range(kills):
            writing.killed(chance.randint(0, STEPS), chance.uniform(0.0, ONE_WRITE))
            found = asyncio.run(found_by_the_next_process(url))
            assert disagreements(found, before) == []
            killed, number = writing.journal(), number_in(found)
            assert killed.acknowledged <= number <= killed.begun
            assert found.rows == world_after(number)
            in_the_middle += killed.begun > killed.acknowledged
            before = found
    print(f"killed {kills} times, {in_the_middle} times in a transaction: {writing.journal()}")
    assert in_the_middle, "or nothing was proven"
    assert before.epoch != first.epoch, "an epoch began"
    assert before.floor > first.floor


def test_whenever_a_writer_is_killed_head_log_and_tables_agree(url: str, tmp_path: Path) -> None:
    kill_again_and_again(url, tmp_path / "journal", KILLS)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_however_often_writers_are_killed_head_log_and_tables_agree(url: str, tmp_path: Path) -> None:
    kill_again_and_again(url, tmp_path / "journal", MANY_KILLS)
