"""The wall clock jumps, or a bug blocks the event loop: faults 22 and 23 of the list, in one process.

That each is said is shown in `tests/test_watchdog.py`.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluicegate.auth.authenticator import DirectoryAuthenticator
from sluicegate.bootstrap.adapters import SystemClock
from sluicegate.core.errors import Unauthenticated
from sluicegate.core.lease import Lease, LeaseState
from sluicegate.store import SqlDatabase, migrate, open_database
from sluicegate.usecases.follow_feed import DirectoryFeed
from tests.auth import forge
from tests.faults.directly import revision_of
from tests.store.writing import inserting
from tests.support import world
from tests.support.memory import FakeUpstreams
from tests.support.world import ALICE
from tests.usecases.following import LEASE, ScriptedSource, alice_is_active, running, until

HOUR = 3600.0
SHORT = Lease(revocation=0.3, outage=300.0)
"""A bound that a test can wait for."""
PATIENCE = 30.0


class TwoClocks:
    """Set by hand, each for itself."""

    def __init__(self) -> None:
        self.wall_time, self.boot_time = float(forge.NOW), 5000.0

    def wall(self) -> float:
        return self.wall_time

    def boot(self) -> float:
        return self.boot_time


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_the_lease_does_not_mind_a_jump_of_the_wall_clock(jump: float) -> None:
    """Neither is it renewed by one, nor does it end."""
    clock, source = TwoClocks(), ScriptedSource()
    feed = DirectoryFeed(source, clock, LEASE, source.forget)
    async with running(feed):
        await until(lambda: feed.fresh)
        clock.wall_time += jump
        assert (feed.state, feed.age) == (LeaseState.FRESH, 0.0)
        source.commit(False)
        await until(lambda: feed.directory.revision == source.revision)
        source.gate.clear()
        clock.boot_time += LEASE.revocation + 0.1
        clock.wall_time -= jump
        assert feed.state is LeaseState.LATE


def test_a_token_expires_by_the_wall_clock_and_by_nothing_else() -> None:
    clock = TwoClocks()
    source = ScriptedSource()
    authenticate = DirectoryAuthenticator(forge.VERIFIER, source.directory, clock).authenticate
    token = forge.token(forge.claims(exp=forge.NOW + 1800))
    clock.boot_time += HOUR
    assert authenticate(token).user_id == ALICE
    clock.wall_time -= HOUR
    assert authenticate(token).user_id == ALICE, "a token that was good once is not refused because time went back"
    with pytest.raises(Unauthenticated, match="yet"):
        authenticate(forge.token(forge.claims(jti="tok_2")))
    clock.wall_time += 2 * HOUR
    with pytest.raises(Unauthenticated, match="expired"):
        authenticate(token)


@pytest.fixture
def url(tmp_path: Path) -> str:
    found = f"sqlite:///{tmp_path / 'sluicegate.db'}"
    migrate(found)
    return found


@pytest.fixture
def database(url: str) -> Iterator[SqlDatabase]:
    opened = open_database(url, pool_size=1, max_overflow=0, pool_timeout=PATIENCE)
    yield opened
    opened.close()


async def test_after_a_block_of_the_event_loop_the_first_decision_waits_for_a_poll(
    url: str, database: SqlDatabase
) -> None:
    """A change was committed while the loop was blocked, for longer than the bound."""
    await database.write(inserting(world.user(ALICE)))
    feed = DirectoryFeed(database.feed_source(), SystemClock(), SHORT, FakeUpstreams().forget)
    async with running(feed):
        await until(lambda: feed.fresh)
        changing = threading.Thread(
            target=revision_of, args=(url, lambda transaction: transaction.update(world.user(ALICE, active=False)))
        )
        changing.start()
        changing.join(PATIENCE)  # as a bug does it: the loop does not run meanwhile
        time.sleep(SHORT.revocation + 0.1)  # noqa: ASYNC251
        assert alice_is_active(feed)
        assert feed.state is LeaseState.LATE
        async with asyncio.timeout(PATIENCE):
            while not feed.fresh:
                await feed.ensure_current()
        assert not alice_is_active(feed)
