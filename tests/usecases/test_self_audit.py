"""The directory is compared with the database at exactly one revision, while changes go on."""

import asyncio

import pytest

from sluicegate.core.errors import AuthorizationStale, DatabaseBusy
from sluicegate.core.permissions import Role
from sluicegate.usecases.follow_feed import DirectoryFeed
from sluicegate.usecases.self_audit import AuditOutcome
from tests.support.memory import FakeClock
from tests.support.world import PAYMENTS, ZOE, member
from tests.usecases.following import LEASE, ScriptedSource, metric, running, until


@pytest.fixture
async def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1000.0)


@pytest.fixture
def feed(source: ScriptedSource, clock: FakeClock) -> DirectoryFeed:
    return DirectoryFeed(source, clock, LEASE, source.forget)


def alarms() -> float:
    return metric("authz_alarms_total", kind="audit_difference")


async def test_a_directory_that_is_what_the_database_holds_passes(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.commit(False, True)
        await feed.reach(3)
        assert await feed.audit() is AuditOutcome.SAME
    assert source.loads == 1


async def test_changes_that_the_audit_saw_before_the_directory_are_waited_for(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.commit(False)
        assert feed.directory.revision == 1
        assert await feed.audit() is AuditOutcome.SAME


async def test_changes_that_came_after_the_audit_read_the_database_do_not_disturb_it(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.commit(False)
        source.on_audit = lambda: source.commit(True, False)
        assert await feed.audit() is AuditOutcome.SAME
        assert feed.directory.revision == 4


async def test_a_difference_is_an_alarm_and_loads_everything_anew(feed, source):
    before = alarms()
    async with running(feed):
        await until(lambda: feed.fresh)
        source.unlogged = [member(ZOE, PAYMENTS, Role.OWNER)]
        assert await feed.audit() is AuditOutcome.DIFFERENT
        await until(lambda: source.loads == 2 and feed.directory.role_in(ZOE, PAYMENTS) is Role.OWNER)
        assert alarms() == before + 1
        assert await feed.audit() is AuditOutcome.SAME


async def test_a_directory_that_was_found_wrong_is_not_kept_for_an_outage(feed, source, clock):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.unlogged = [member(ZOE, PAYMENTS, Role.OWNER)]
        source.load_down = DatabaseBusy("away")
        await feed.audit()
        await until(lambda: source.failed_loads > 0)
        clock.now += 2.5
        with pytest.raises(AuthorizationStale):
            await feed.ensure_current()


async def test_an_audit_across_a_new_load_says_that_it_knows_nothing(feed, source):
    def other_epoch() -> None:
        source.epoch = "two"

    before = alarms()
    async with running(feed):
        await until(lambda: feed.fresh)
        source.unlogged = [member(ZOE, PAYMENTS, Role.OWNER)]
        source.on_audit = other_epoch
        source.audit_gate.clear()
        auditing = asyncio.create_task(feed.audit())
        await until(lambda: source.loads == 2)
        source.audit_gate.set()
        assert await auditing is AuditOutcome.UNMATCHED
        assert await feed.audit() is AuditOutcome.SAME
    assert alarms() == before


async def test_a_database_that_was_read_in_another_epoch_is_not_compared(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.gate.clear()  # the feed does not know yet
        polls = source.polls
        await until(lambda: source.polls > polls)
        source.epoch = "two"
        source.unlogged = [member(ZOE, PAYMENTS, Role.OWNER)]
        assert await feed.audit() is AuditOutcome.UNMATCHED


async def test_an_audit_of_a_database_that_is_away_fails_and_changes_nothing(feed, source):
    async with running(feed):
        await until(lambda: feed.fresh)
        source.down = DatabaseBusy("away")
        with pytest.raises(DatabaseBusy):
            await feed.audit()
        source.down = None
        assert await feed.audit() is AuditOutcome.SAME
    assert source.loads == 1
