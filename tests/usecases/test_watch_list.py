"""When a watch has news, and when its caller has lost the right: with a feed and a clock that are moved by hand."""

import asyncio
import gc
import weakref

import pytest

from sluicegate.core.catalog import Kind, Team, Token, membership_id
from sluicegate.core.errors import AuthorizationStale, Forbidden, NotFound, SluicegateError, Unauthenticated
from sluicegate.core.identity import TokenId
from sluicegate.core.permissions import Permission, Role
from sluicegate.core.routing import MERGED
from sluicegate.usecases.calling import Caller
from sluicegate.usecases.watch_list import QUIET, ListWatch
from sluicegate.web.mcp_endpoint import usable_server
from tests.support.memory import FakeClock
from tests.support.stepped import SteppedFeed
from tests.support.world import ALICE, BOB, CLOCK, NOW, PAYMENTS, SEARCH, member, principal, server, tool, user, world

EVERY = 2.0
WHO = principal(ALICE)


class Watched:
    """Alice's watch, and the world that she watches."""

    def __init__(self, *, on_server: bool = False) -> None:
        self.feed = SteppedFeed(world())
        self.clock = FakeClock(NOW)
        caller = Caller(WHO, self.feed.directory, NOW)
        self.watch = ListWatch(
            self.feed, self.clock, caller, lambda who: usable_server(who, "support") if on_server else MERGED, EVERY
        )

    async def look(self) -> bool:
        """What the watch says after one wait."""
        looking = asyncio.create_task(self.watch.next())
        await self.feed.step()
        return await looking

    async def patience(self) -> float:
        """How long the next wait is at most."""
        looking = asyncio.create_task(self.watch.next())
        wait = await self.feed.step()
        await looking
        return wait.at_most


@pytest.fixture
def watched() -> Watched:
    return Watched()


def token(*, revoked: bool = False, of: object = ALICE) -> Token:
    return Token(TokenId(f"tok_{of}"), ALICE, "t", 0, 0, int(NOW) if revoked else None, None, None, None)


async def test_without_a_change_there_is_no_news(watched):
    assert [await watched.look() for _ in range(3)] == [False] * 3


@pytest.mark.parametrize(
    "changed",
    [tool(CLOCK, "new"), tool(CLOCK, "now", enabled=False), server("web__fetch"), Team(SEARCH, "search", "S", False)],
    ids=["added", "disabled", "selection", "team"],
)
async def test_each_change_of_the_catalog_is_news_once(watched, changed):
    watched.feed.put(changed)
    assert [await watched.look() for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    "changed", [member(ALICE, SEARCH, Role.VIEWER), user(ALICE, admin=True)], ids=["role", "admin"]
)
async def test_what_the_user_may_is_news_when_it_changes(watched, changed):
    watched.feed.put(changed)
    assert [await watched.look(), await watched.look()] == [True, False]


@pytest.mark.parametrize(
    "changed",
    [member(BOB, PAYMENTS, Role.OWNER), user(BOB, active=False), token(revoked=True, of=BOB)],
    ids=["membership", "user", "token"],
)
async def test_what_concerns_others_alone_is_none(watched, changed):
    watched.feed.put(changed)
    assert not await watched.look()


async def test_a_directory_that_was_loaded_anew_is_news_even_at_the_same_revision(watched):
    watched.feed.directory = world()
    assert [await watched.look(), await watched.look()] == [True, False]


async def test_a_watch_does_not_keep_a_directory_that_was_given_up(watched):
    given_up = weakref.ref(watched.feed.directory)
    watched.feed.directory = world()
    gc.collect()
    assert given_up() is None


async def test_many_changes_are_news_once_a_second_and_the_last_one_is_not_lost(watched):
    watched.feed.put(tool(CLOCK, "a"))
    told = [await watched.look()]
    watched.feed.put(tool(CLOCK, "b"))
    told.append(await watched.look())
    watched.feed.put(tool(CLOCK, "c"))
    told.append(await watched.look())
    watched.clock.now += QUIET
    told += [await watched.look(), await watched.look()]
    assert told == [True, False, False, True, False]


async def test_what_is_held_back_is_told_as_soon_as_the_second_is_over(watched):
    watched.feed.put(tool(CLOCK, "a"))
    await watched.look()
    assert await watched.patience() == EVERY
    watched.feed.put(tool(CLOCK, "b"))
    await watched.look()
    watched.clock.now += QUIET / 4
    assert await watched.patience() == pytest.approx(QUIET * 3 / 4)


async def test_no_wait_is_longer_than_the_bound_and_each_asks_for_what_is_above_the_last_look(watched):
    looking = asyncio.create_task(watched.watch.next())
    watched.feed.put(tool(CLOCK, "a"))
    first = await watched.feed.step()
    await looking
    looking = asyncio.create_task(watched.watch.next())
    second = await watched.feed.step()
    await looking
    assert (first.above, first.at_most) == (1, EVERY)
    assert (second.above, second.at_most) == (2, EVERY)


@pytest.mark.parametrize("changed", [token(revoked=True), user(ALICE, active=False)], ids=["revoked", "inactive"])
async def test_who_is_no_longer_let_in_is_told_so_and_no_news(watched, changed):
    watched.feed.put(tool(CLOCK, "a"), changed)
    with pytest.raises(Unauthenticated):
        await watched.look()


async def test_a_token_expires_although_nothing_changes(watched):
    watched.clock.now = WHO.expires_at
    with pytest.raises(Unauthenticated, match="token_expired"):
        await watched.look()


@pytest.mark.parametrize(
    ("kind", "key", "error"),
    [(Kind.MEMBERSHIP, membership_id(ALICE, PAYMENTS), NotFound), (Kind.SERVER, "srv_support", NotFound)],
    ids=["left the team", "server deleted"],
)
async def test_on_a_server_the_right_to_use_it_is_asked_again(kind, key, error):
    watched = Watched(on_server=True)
    assert not await watched.look()
    watched.feed.change(kind, key, None)
    with pytest.raises(error):
        await watched.look()


async def test_a_role_that_may_no_longer_use_the_server_is_forbidden_to(watched):
    watched = Watched(on_server=True)
    watched.feed.put(member(ALICE, PAYMENTS, Role.VIEWER))
    watched.feed.change(Kind.MEMBERSHIP, membership_id(ALICE, PAYMENTS), None)
    watched.feed.put(member(ALICE, PAYMENTS, Role.VIEWER))
    with pytest.raises(Forbidden) as refused:
        await watched.look()
    assert refused.value.scopes == (Permission.SERVERS_USE,)


@pytest.mark.parametrize("error", [AuthorizationStale("too old"), None], ids=["closed", "outage"])
async def test_a_lease_that_is_not_fresh_ends_the_watch_only_when_nothing_may_be_decided(watched, error):
    watched.feed.fresh, watched.feed.stale = False, error
    found: SluicegateError | None = None
    try:
        await watched.look()
    except SluicegateError as raised:
        found = raised
    assert found is error
