"""One whole worker, joined as `serve` joins it: what is only wired is done, too. On SQLite, in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from sqlalchemy import Connection, select
from structlog.testing import capture_logs

from sluicegate import bootstrap
from sluicegate.bootstrap.adapters import Adapters, adapters_of
from sluicegate.bootstrap.gateway import gateway
from sluicegate.settings import Settings
from sluicegate.store.schema import authz_head, instances
from sluicegate.usecases.upkeep import HOUR
from sluicegate.web.asgi import Message
from tests.store.conftest import run
from tests.store.writing import inserting
from tests.support import world
from tests.support.world import ALICE, BOB, ZOE

WITHIN = 30.0


class Hours:
    """Hours pass when a test says so, and everything shorter as it does."""

    def __init__(self) -> None:
        self._passing = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        if seconds < 1:
            await asyncio.sleep(seconds)
            return
        assert seconds <= 1.1 * HOUR
        self._passing.clear()
        await self._passing.wait()

    def pass_(self) -> None:
        self._passing.set()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sluicegate.db'}"


@pytest.fixture
def adapters(url: str, tmp_path: Path) -> Adapters:
    """Given back by the worker when it ends."""
    settings = Settings(data_dir=tmp_path / "data", database_url=SecretStr(url))
    bootstrap.prepare(settings)
    return adapters_of(settings)


@asynccontextmanager
async def living(adapters: Adapters, hours: Hours) -> AsyncIterator[None]:
    """The lifespan of one worker, which gives the database back at its end."""
    said: asyncio.Queue[Message] = asyncio.Queue()
    heard: asyncio.Queue[Message] = asyncio.Queue()
    worker = asyncio.create_task(gateway(adapters, hours)({"type": "lifespan"}, said.get, heard.put))
    async with asyncio.timeout(WITHIN):
        await said.put({"type": "lifespan.startup"})
        assert (await heard.get())["type"] == "lifespan.startup.complete"
        yield
        await said.put({"type": "lifespan.shutdown"})
        assert (await heard.get())["type"] == "lifespan.shutdown.complete"
        await worker


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def until(condition: Callable[[], bool], hours: Hours) -> None:
    """Lets hours pass until then."""
    while not condition():
        hours.pass_()
        await asyncio.sleep(0.01)


def number_of_instances(connection: Connection) -> int:
    return len(connection.execute(select(instances.c.id)).all())


def floor(connection: Connection) -> int:
    found: int = connection.execute(select(authz_head.c.floor)).scalar_one()
    return found


async def test_every_hour_the_directory_is_compared_with_the_database_and_a_difference_is_mended(
    adapters: Adapters, url: str
) -> None:
    hours = Hours()
    same, different = ({"outcome": outcome} for outcome in ("same", "different"))
    await adapters.database.write(inserting(world.user(ALICE), world.user(ZOE)))
    with capture_logs():
        async with living(adapters, hours):
            before = sample("authz_audits_total", **same), sample("authz_audits_total", **different)
            await until(lambda: sample("authz_audits_total", **same) > before[0], hours)
            assert sample("authz_audits_total", **different) == before[1]
            run(url, f"UPDATE users SET active = false WHERE id = '{ZOE}'")  # behind the back of the triggers, too
            await until(lambda: sample("authz_audits_total", **different) > before[1], hours)
            before = sample("authz_audits_total", **same), sample("authz_audits_total", **different)
            await until(lambda: sample("authz_audits_total", **same) > before[0], hours)


async def test_every_hour_the_log_is_trimmed(adapters: Adapters, url: str) -> None:
    hours = Hours()
    await adapters.database.write(inserting(*(world.user(each) for each in (ALICE, BOB, ZOE))))
    run(url, "UPDATE authz_log SET at = datetime('now', '-2 days')")
    with capture_logs():
        async with living(adapters, hours):
            while await adapters.database.read(floor) < 3:
                hours.pass_()
                await asyncio.sleep(0.01)


async def test_a_worker_reports_while_it_lives_leaves_when_it_ends_and_is_watched_over(adapters: Adapters) -> None:
    hours, beats = Hours(), sample("event_loop_lag_seconds_count")
    with capture_logs():
        async with living(adapters, hours):
            while not await adapters.database.read(number_of_instances):  # noqa: ASYNC110 - only the database knows
                await asyncio.sleep(0.01)
            await until(lambda: sample("event_loop_lag_seconds_count") > beats, hours)
        again = adapters_of(adapters.settings)
        assert await again.database.read(number_of_instances) == 0
        await again.close()
