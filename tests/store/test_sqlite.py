"""What is particular to the embedded default."""

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import Connection

from sluicegate.core.errors import DatabaseBusy
from sluicegate.core.identity import TeamId
from sluicegate.store import linked_version, migrate, open_database, wal_reset_warning
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import engine_for, located
from sluicegate.store.sqlite import driver
from tests.store.writing import inserting
from tests.support import world
from tests.support.world import PAYMENTS

FULL, NORMAL = 2, 1
"""Values of `PRAGMA synchronous` (sqlite.org/pragma.html)."""


@pytest.fixture
def url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.mark.parametrize("version", [(3, 7, 0), (3, 40, 1), (3, 51, 2)])
def test_a_version_with_the_wal_reset_bug_is_warned_of(version: tuple[int, int, int]) -> None:
    warning = wal_reset_warning(version)
    assert warning is not None
    assert f"SQLite {'.'.join(map(str, version))} has the WAL-reset bug" in warning


@pytest.mark.parametrize("version", [(3, 6, 23), (3, 51, 3), (3, 53, 4), (4, 0, 0)])
def test_a_version_without_the_wal_reset_bug_is_not(version: tuple[int, int, int]) -> None:
    assert wal_reset_warning(version) is None


def test_the_version_is_that_of_the_library_in_use(sqlite_path: Path) -> None:
    connection = driver.connect(str(sqlite_path))
    (stated,) = connection.execute("SELECT sqlite_version()").fetchone()
    connection.close()
    assert ".".join(map(str, linked_version())) == stated


@pytest.mark.parametrize(
    "pragma, value", [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 7000)]
)
def test_every_connection_is_safe(url: str, pragma: str, value: object) -> None:
    engine = engine_for(located(url), ONE, 7.0)
    with transaction(engine, Access.READ, 5.0) as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value
    engine.dispose()


async def test_a_writer_that_waits_too_long_for_another_process_is_told_so(sqlite_path: Path, url: str) -> None:
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0, deadline=2.0)
    other = driver.connect(str(sqlite_path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with asyncio.timeout(10):
        with pytest.raises(DatabaseBusy, match="locked by another process or writer: nothing was changed"):
            await database.write(inserting(world.team(PAYMENTS, "payments")))
    assert (await database.feed_source().poll(0)).revision == 0  # readers do not wait for a writer
    other.close()
    database.close()


def set_to(connection: Connection, pragma: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one())


async def test_upkeep_does_not_wait_for_the_disk_and_changes_do(url: str) -> None:
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    assert await database.read(lambda connection: set_to(connection, "synchronous")) == FULL
    assert await database.upkeep(lambda connection: set_to(connection, "synchronous"), 5.0) == NORMAL
    database.close()


async def test_upkeep_never_makes_a_change_fail(url: str) -> None:
    """Each change and each upkeep wants the one lock of the file."""
    database = open_database(url, pool_size=2, max_overflow=0, pool_timeout=20.0, deadline=20.0)

    def report(connection: Connection) -> None:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")

    async def report_on() -> None:
        for _ in range(50):
            await database.upkeep(report, 20.0)

    reporting = asyncio.ensure_future(report_on())
    changes = [database.write(inserting(world.team(TeamId(f"team_{n}"), f"team-{n}"))) for n in range(50)]
    assert sorted(written.revision for written in await asyncio.gather(*changes)) == list(range(1, 51))
    await reporting
    database.close()


@pytest.mark.parametrize("limit, waits", [(5.0, 4000), (0.5, 400)])
async def test_a_lock_is_waited_for_less_long_than_its_caller_waits(url: str, limit: float, waits: int) -> None:
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0, deadline=limit)
    assert await database.read(lambda connection: set_to(connection, "busy_timeout")) == waits
    assert await database.upkeep(lambda connection: set_to(connection, "busy_timeout"), 5.0) < waits + 1
    database.close()


async def test_a_missing_file_is_unavailable_is_not_made_and_is_used_when_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "a name, 100%41 odd #?.db"
    url = f"sqlite:///{quote(str(path))}"
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    for attempt in (database.feed_source().poll(0), database.write(inserting())):
        with pytest.raises(DatabaseBusy):
            await attempt
    assert not exists(path)
    migrate(url)
    assert exists(path)
    assert (await database.write(inserting(world.team(PAYMENTS, "payments")))).revision == 1
    database.close()


def exists(path: Path) -> bool:
    return path.exists()


def remove(path: Path) -> None:
    path.unlink()


async def test_a_file_that_takes_the_place_of_the_database_is_followed_from_the_next_use(tmp_path: Path) -> None:
    """Or a restored backup would go unseen, and with it every revocation."""
    path, other = tmp_path / "gate.db", tmp_path / "other.db"
    for file in (path, other):
        migrate(f"sqlite:///{file}")
    database = open_database(f"sqlite:///{path}", pool_size=1, max_overflow=0, pool_timeout=5.0)
    before = await database.feed_source().poll(0)
    replace_database(path, other)
    after = await database.feed_source().poll(0)
    assert after.epoch != before.epoch
    database.close()


async def test_while_the_file_is_gone_nothing_is_read_from_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "gate.db"
    migrate(f"sqlite:///{path}")
    database = open_database(f"sqlite:///{path}", pool_size=1, max_overflow=0, pool_timeout=5.0)
    await database.feed_source().poll(0)
    remove(path)
    with pytest.raises(DatabaseBusy, match="is gone"):
        await database.feed_source().poll(0)
    database.close()


def replace_database(path: Path, other: Path) -> None:
    """As an operator does who restores a backup: the journal of the old file goes too."""
    for leftover in path.parent.glob(f"{path.name}-*"):
        leftover.unlink()
    other.replace(path)
