"""Lists in random worlds hold what may be used or read, decided one by one: all of it, once, in order, page by page."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.core.catalog import Tool, public_name
from sluicegate.core.directory import Directory
from sluicegate.core.errors import InvalidInput
from sluicegate.core.identity import UpstreamId
from sluicegate.core.permissions import Permission
from sluicegate.core.routing import MERGED, Entrance, tools_at
from sluicegate.usecases import list_catalog
from sluicegate.usecases.calling import Caller
from sluicegate.usecases.list_catalog import list_tools
from sluicegate.usecases.manage_tools import ToolFilter
from sluicegate.usecases.manage_tools import list_tools as list_readable
from sluicegate.usecases.paging import Page, PageRequest, first_page, page_of
from tests.core.worlds import NOW, World, worlds
from tests.support.world import ALICE, CLOCK, WEB, ZOE, entities, principal, tool, world

T = TypeVar("T")
limits = st.integers(1, 4)


def all_pages(limit: int, page: Callable[[PageRequest], Page[T]]) -> list[T]:
    """The items of all pages; each page but the last is full, and none is empty but an only one."""
    found: list[T] = []
    cursor: str | None = None
    while True:
        got = page(PageRequest(limit, cursor))
        found.extend(got.items)
        if got.next_cursor is None:
            assert len(got.items) <= limit
            assert got.items or cursor is None
            return found
        assert len(got.items) == limit
        cursor = got.next_cursor


def caller_in(world: World) -> Caller:
    return Caller(world.principal, world.directory, NOW)


@settings(deadline=None)
@given(worlds())
def test_tools_list_is_what_each_decision_allows_by_name(world: World) -> None:
    caller = caller_in(world)
    entrances: list[Entrance] = [MERGED, *world.directory.servers.values()]
    for entrance in entrances:
        named = sorted(tools_at(entrance, world.directory), key=lambda each: each[0])
        usable = [(name, tool) for name, tool in named if caller.may(world.permission, tool)]
        assert list_tools(caller, world.permission, entrance, None).tools == usable


@settings(deadline=None)
@given(worlds())
def test_tools_list_goes_on_after_any_name(world: World) -> None:
    caller = caller_in(world)
    everything = list_tools(caller, world.permission, MERGED, None).tools
    for name, _ in [*everything, ("s", None), ("s-t__", None), ("s__y", None), ("~", None)]:
        later = list_tools(caller, world.permission, MERGED, list_catalog.encode_cursor(name)).tools
        assert later == [each for each in everything if each[0] > name]


@settings(deadline=None)
@given(worlds(), limits)
def test_pages_of_readable_tools_hold_each_once_in_the_order_of_public_names(world: World, limit: int) -> None:
    caller = caller_in(world)
    slugs = {each.id: each.slug for each in world.directory.upstreams.values()}

    def name(tool: Tool) -> str:
        return public_name(slugs[tool.upstream_id], tool.name)

    readable = [tool for tool in world.directory.tools.values() if caller.may(Permission.TOOLS_READ, tool)]
    found = all_pages(limit, lambda wanted: list_readable(caller, ToolFilter(None, None), wanted))
    assert found == sorted(readable, key=name)


class Watched(Directory):
    """Notes the upstreams whose tools were looked at."""

    def __init__(self, *arguments: object) -> None:
        self.looked: list[UpstreamId] = []
        super().__init__(*arguments)  # type: ignore[arg-type]

    def tools_of(self, upstream_id: UpstreamId) -> Mapping[str, Tool]:
        self.looked.append(upstream_id)
        return super().tools_of(upstream_id)


def test_the_tools_of_an_upstream_that_is_closed_to_the_caller_are_not_even_looked_at() -> None:
    directory = Watched("epoch", 1, entities())
    shown = list_tools(Caller(principal(ZOE), directory, NOW), Permission.TOOLS_CALL, MERGED, None)
    assert [name for name, _ in shown.tools] == ["web__fetch"]
    assert directory.looked == [WEB]


@settings(deadline=None)
@given(st.sets(st.text("abc", min_size=1, max_size=3)), st.sets(st.text("abc", min_size=1, max_size=3)), limits)
def test_pages_hold_what_is_allowed_once_and_in_order(names: set[str], allowed: set[str], limit: int) -> None:
    found = all_pages(limit, lambda wanted: page_of(names, str, wanted, allowed.__contains__))
    assert found == sorted(names & allowed)


def test_a_page_asks_for_no_candidate_that_lies_behind_it() -> None:
    asked: list[str] = []

    def allowed(name: str) -> bool:
        asked.append(name)
        return True

    names = [f"{number:05}" for number in range(1000)]
    assert page_of(names, str, PageRequest(2, None), allowed).items == names[:2]
    assert asked == names[:3]


def test_a_first_page_takes_no_more_than_it_shows_and_one() -> None:
    numbers = iter(range(10))
    ordered = ((f"{number:05}", number) for number in numbers)
    assert first_page(ordered, PageRequest(3, None)).items == [0, 1, 2]
    assert next(numbers) == 4


@pytest.fixture(scope="module")
def world_of_many() -> tuple[Caller, list[str]]:
    """Alice, and the names of the many tools that she may call."""
    many = [tool(CLOCK, f"t{number:04}") for number in range(list_catalog.PAGE)]
    caller = Caller(principal(ALICE), world(*many), NOW)
    return caller, sorted(["clock__now", "clock__sleep", "web__fetch", *(f"clock__{each.name}" for each in many)])


def test_a_long_tools_list_comes_in_pages(world_of_many: tuple[Caller, list[str]]) -> None:
    caller, names = world_of_many
    first = list_tools(caller, Permission.TOOLS_CALL, MERGED, None)
    second = list_tools(caller, Permission.TOOLS_CALL, MERGED, first.next_cursor)
    assert [name for name, _ in first.tools] == names[: list_catalog.PAGE]
    assert [name for name, _ in second.tools] == names[list_catalog.PAGE :]
    assert second.next_cursor is None


@pytest.mark.parametrize("cursor", ["%", "Zg", "_w=="])
def test_a_cursor_that_no_list_gave_out_is_refused(cursor: str, world_of_many: tuple[Caller, list[str]]) -> None:
    with pytest.raises(InvalidInput):
        list_tools(world_of_many[0], Permission.TOOLS_CALL, MERGED, cursor)
