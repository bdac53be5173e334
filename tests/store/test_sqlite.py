"""What is particular to the embedded default."""

import asyncio
from pathlib import Path

import pytest

from sluicegate.core.errors import DatabaseBusy
from sluicegate.store import linked_version, migrate, open_database, wal_reset_warning
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import engine_for, located
from sluicegate.store.sqlite import driver
from tests.store.writing import inserting
from tests.support import world
from tests.support.world import PAYMENTS


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
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    other = driver.connect(str(sqlite_path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with asyncio.timeout(10):
        with pytest.raises(DatabaseBusy):
            await database.write(inserting(world.team(PAYMENTS, "payments")))
    assert (await database.feed_source().poll(0)).revision == 0  # readers do not wait for a writer
    other.close()
    database.close()


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
