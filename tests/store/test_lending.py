"""How connections are lent: to plain functions, one to a task, never to a request, and never for longer than said."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial

import pytest
from sqlalchemy import Connection, text

from sluicegate.core.catalog import Team
from sluicegate.core.errors import DatabaseBusy
from sluicegate.ledger import Leak, LedgerViolation, Owner, data_plane, new_leaks, refuse_if_holding
from sluicegate.ports import Transaction
from sluicegate.store import SqlDatabase
from sluicegate.store.lending import Access
from sluicegate.store.revision_log import UnrecordedWrite
from sluicegate.store.schema import VERSIONS
from tests.store.writing import checked_out, checkouts, inserting, until_free
from tests.support import world
from tests.support.world import PAYMENTS, SEARCH

Open = Callable[..., SqlDatabase]
LIMIT = 10
request_id: ContextVar[str] = ContextVar("request_id", default="")


class Blocked:
    """Work that inserts a team, reports that it has begun, and waits until it is let go."""

    def __init__(self) -> None:
        self._begun, self._go_on = threading.Event(), threading.Event()

    def __call__(self, tx: Transaction) -> None:
        tx.insert(world.team(PAYMENTS, "payments"))
        self.wait()

    def wait(self) -> None:
        self._begun.set()
        assert self._go_on.wait(LIMIT)

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, LIMIT)

    def let_go(self) -> None:
        self._go_on.set()


@pytest.fixture
def blocked():
    work = Blocked()
    yield work
    work.let_go()


async def asynchronous(tx: Transaction) -> int:
    return 1


async def test_an_async_def_is_refused(database: SqlDatabase) -> None:
    with pytest.raises(TypeError, match="`async def`"):
        await database.write(asynchronous)
    with pytest.raises(TypeError, match="`async def`"):
        await database.read(asynchronous)  # type: ignore[arg-type]


async def test_the_type_checker_knows_that_an_async_def_gives_nothing(database: SqlDatabase) -> None:
    with pytest.raises(TypeError):
        nothing = await database.write(asynchronous)  # type: ignore[var-annotated]  # noqa: F841


@pytest.mark.parametrize("hidden", [asynchronous, partial(asynchronous)], ids=["call", "partial"])
async def test_a_hidden_async_def_is_refused_and_undone(database: SqlDatabase, hidden: Callable[..., object]) -> None:
    def work(tx: Transaction) -> object:
        tx.insert(world.team(PAYMENTS, "payments"))
        return hidden(tx)

    with pytest.raises(TypeError, match="coroutine"):
        await database.write(work)
    assert (await database.write(lambda tx: tx.all(Team))).value == []


async def test_work_cannot_take_a_second_connection_in_its_thread(database: SqlDatabase) -> None:
    with pytest.raises(LedgerViolation, match="second database connection"):
        await database.write(lambda tx: asyncio.run(database.write(inserting())))


async def test_work_cannot_take_a_second_connection_over_the_event_loop(database: SqlDatabase) -> None:
    loop = asyncio.get_running_loop()

    def work(tx: Transaction) -> None:
        asyncio.run_coroutine_threadsafe(database.write(inserting()), loop).result(LIMIT)

    with pytest.raises(LedgerViolation, match="second database connection"):
        await database.write(work)


async def test_work_cannot_poll_the_feed(database: SqlDatabase) -> None:
    with pytest.raises(LedgerViolation, match="held for `admin`"):
        await database.write(lambda tx: asyncio.run(database.feed_source().load()))


async def test_work_cannot_call_an_upstream(database: SqlDatabase) -> None:
    with pytest.raises(LedgerViolation, match="upstream"):
        await database.write(lambda tx: refuse_if_holding())
    refuse_if_holding()


async def test_work_sees_the_context_of_its_task_and_leaves_it_alone(database: SqlDatabase) -> None:
    def work(tx: Transaction) -> str:
        seen = request_id.get()
        request_id.set("of the work")
        return seen

    request_id.set("of the task")
    assert (await database.write(work)).value == "of the task"
    assert request_id.get() == "of the task"


async def test_a_data_plane_request_gets_no_connection_and_is_counted(database: SqlDatabase) -> None:
    before = checkouts("request")
    with data_plane(), pytest.raises(LedgerViolation, match="data-plane"):
        await database.write(inserting(world.team(PAYMENTS, "payments")))
    with data_plane(), pytest.raises(LedgerViolation, match="data-plane"):
        await database.feed_source().poll(0)
    with data_plane(), pytest.raises(LedgerViolation, match="data-plane"):
        await database.upkeep(lambda connection: None, LIMIT)
    assert checkouts("request") == before + 3
    assert (await database.write(lambda tx: tx.all(Team))).value == []


async def test_every_checkout_is_counted_for_its_owner_and_given_back(database: SqlDatabase) -> None:
    admin, feed = checkouts("admin"), checkouts("feed")
    await database.write(inserting(world.team(PAYMENTS, "payments")))
    await database.read(lambda connection: None)
    await database.feed_source().poll(0)
    assert (checkouts("admin"), checkouts("feed")) == (admin + 2, feed + 1)
    assert (checked_out("admin"), checked_out("feed")) == (0, 0)


async def test_a_full_bulkhead_answers_at_once(open_with: Open, blocked: Blocked) -> None:
    database = open_with(pool_size=1, pool_timeout=0)
    async with asyncio.timeout(LIMIT):
        running = asyncio.ensure_future(database.write(blocked))
        await blocked.begun()
        assert checked_out("admin") == 1
        refused = database.write(inserting())
        with pytest.raises(DatabaseBusy, match="all 1 database connections for `admin` are in use"):
            refused.send(None)  # the first step of the coroutine, not even a turn of the event loop
        blocked.let_go()
        await running


async def test_a_full_bulkhead_leaves_the_feed_its_own_connection(open_with: Open, blocked: Blocked) -> None:
    database = open_with(pool_size=1)
    async with asyncio.timeout(LIMIT):
        running = asyncio.ensure_future(database.write(blocked))
        await blocked.begun()
        assert (await database.feed_source().poll(0)).revision == 0
        blocked.let_go()
        await running


async def test_work_that_takes_too_long_is_abandoned_and_keeps_its_slot_until_it_ends(
    open_with: Open, blocked: Blocked
) -> None:
    database = open_with(pool_size=1, pool_timeout=0, deadline=0.5)
    with pytest.raises(DatabaseBusy, match=r"did not answer within 0\.5 s"):
        await database.write(blocked)
    with pytest.raises(DatabaseBusy, match="are in use"):
        await database.write(inserting())
    blocked.let_go()
    await until_free(database)
    assert (await database.write(lambda tx: tx.all(Team))).value == [world.team(PAYMENTS, "payments")]
    assert checked_out("admin") == 0


async def test_a_caller_who_goes_away_leaves_the_work_to_end_by_itself(open_with: Open, blocked: Blocked) -> None:
    database = open_with(pool_size=1, pool_timeout=0)
    caller = asyncio.ensure_future(database.write(blocked))
    await blocked.begun()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    with pytest.raises(DatabaseBusy, match="are in use"):
        await database.write(inserting())
    blocked.let_go()
    await until_free(database)
    assert (await database.write(lambda tx: tx.all(Team))).value == [world.team(PAYMENTS, "payments")]


async def test_a_connection_that_is_held_for_more_than_a_second_is_a_leak_with_both_stacks(
    open_with: Open, blocked: Blocked
) -> None:
    database = open_with()
    new_leaks()
    caller = asyncio.ensure_future(database.write(blocked))
    await blocked.begun()
    assert new_leaks() == []
    leak = await asyncio.to_thread(first_leak)
    assert (leak.owner, leak.seconds > 1) == (Owner.ADMIN, True)
    assert any(line.endswith("in SqlDatabase.write") for line in leak.asked)
    assert any(line.endswith("in Blocked.__call__") for line in leak.now)
    assert new_leaks() == [], "each is reported once"
    blocked.let_go()
    await caller


async def test_work_that_stated_that_it_takes_longer_is_no_leak_before(open_with: Open, blocked: Blocked) -> None:
    database = open_with()
    new_leaks()
    stated = asyncio.ensure_future(database.upkeep(lambda connection: blocked.wait(), LIMIT, Access.READ))
    await blocked.begun()
    admin = Blocked()
    caller = asyncio.ensure_future(database.write(admin))
    await admin.begun()
    assert (await asyncio.to_thread(first_leak)).owner is Owner.ADMIN
    assert new_leaks() == [], "the one that is held for longer, as it said, is none"
    admin.let_go()
    blocked.let_go()
    await asyncio.gather(caller, stated)


def first_leak() -> Leak:
    end = time.monotonic() + LIMIT
    while not (found := new_leaks()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found[0]


async def test_a_slot_is_free_again_after_an_error(open_with: Open) -> None:
    database = open_with(pool_size=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await database.write(lambda tx: 1 / 0)
    assert (await database.write(inserting(world.team(SEARCH, "search")))).revision == 1


async def test_a_closed_database_refuses(open_with: Open) -> None:
    database = open_with()
    database.close()
    with pytest.raises(DatabaseBusy, match="closed"):
        await database.write(inserting())
    with pytest.raises(DatabaseBusy, match="closed"):
        await database.feed_source().poll(0)


async def test_upkeep_has_a_connection_of_its_own_and_owner(open_with: Open, blocked: Blocked) -> None:
    database = open_with(pool_size=1)
    before = checkouts("upkeep")
    running = asyncio.ensure_future(database.write(blocked))
    await blocked.begun()
    assert await database.upkeep(lambda connection: checked_out("upkeep"), LIMIT, Access.READ) == 1
    assert (checkouts("upkeep"), checked_out("upkeep")) == (before + 1, 0)
    blocked.let_go()
    await running


async def test_upkeep_is_a_transaction_that_commits_unless_it_only_reads(database: SqlDatabase) -> None:
    def mark(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = 'marked'"))

    def version(connection: Connection) -> object:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()

    def fail(connection: Connection) -> None:
        mark(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.upkeep(fail, LIMIT)
    assert await database.read(version) == VERSIONS[-1]
    await database.upkeep(mark, LIMIT)
    assert await database.read(version) == "marked"


async def test_upkeep_refuses_what_all_lending_refuses(database: SqlDatabase) -> None:
    async def asynchronous_upkeep(connection: Connection) -> int:
        return 1

    def hidden(connection: Connection) -> object:
        return asynchronous_upkeep(connection)

    def unrecorded(connection: Connection) -> None:
        connection.execute(text("DELETE FROM users"))

    def nested(connection: Connection) -> None:
        asyncio.run(database.upkeep(lambda connection: None, LIMIT))

    with pytest.raises(TypeError, match="`async def`"):
        await database.upkeep(asynchronous_upkeep, LIMIT)
    with pytest.raises(TypeError, match="coroutine"):
        await database.upkeep(hidden, LIMIT)
    with pytest.raises(UnrecordedWrite):
        await database.upkeep(unrecorded, LIMIT)
    with pytest.raises(LedgerViolation, match="held for `upkeep`"):
        await database.upkeep(nested, LIMIT)
    with pytest.raises(LedgerViolation, match="held for `upkeep`"):
        await database.upkeep(lambda connection: refuse_if_holding(), LIMIT)


async def test_works_of_upkeep_wait_for_each_other(open_with: Open, blocked: Blocked) -> None:
    database = open_with()
    first = asyncio.ensure_future(database.upkeep(lambda connection: blocked.wait(), LIMIT))
    await blocked.begun()
    second = asyncio.ensure_future(database.upkeep(lambda connection: "second", LIMIT))
    await asyncio.sleep(0)
    assert not second.done()
    blocked.let_go()
    assert await second == "second"
    await first


async def test_upkeep_that_takes_too_long_is_abandoned_without_the_name_of_a_setting(
    open_with: Open, blocked: Blocked
) -> None:
    database = open_with()
    with pytest.raises(DatabaseBusy, match=r"did not answer within 0\.2 s: what was asked for may still happen"):
        await database.upkeep(lambda connection: blocked.wait(), 0.2)
    blocked.let_go()
    assert await database.upkeep(lambda connection: 1, LIMIT) == 1
