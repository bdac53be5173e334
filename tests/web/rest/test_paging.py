import pytest

from sluicegate.core.catalog import Tool, User, Visibility
from sluicegate.core.identity import UpstreamId, UserId
from tests.support.world import CLOCK, tool, upstream
from tests.web.rest.api import Api, alice, root


async def pages(api: Api, path: str, limit: int, field: str) -> list[list[str]]:
    """The names on each page, following the cursors to the end."""
    found: list[list[str]] = []
    cursor = ""
    for _ in range(100):
        page = await api.get(alice if "tools" in path else root, f"{path}?limit={limit}{cursor}")
        found.append([item[field] for item in page["items"]])
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"
    raise AssertionError("the list does not end")


def many_tools(count: int) -> list[Tool]:
    return [tool(CLOCK, f"t{number:03}") for number in range(count)]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
async def test_pages_hold_everything_once_and_in_order(limit: int) -> None:
    api = Api(*many_tools(9))
    found = await pages(api, "/v1/tools", limit, "public_name")
    names = [name for page in found for name in page]
    assert names == sorted(names)
    assert len(names) == len(set(names)) == 12  # 9, now, sleep, fetch
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1]


async def test_the_hidden_neither_fills_a_page_nor_ends_the_list() -> None:
    hidden = [upstream(UpstreamId(f"ups_b{n}"), team=None, visibility=Visibility.PRIVATE) for n in range(5)]
    api = Api(*hidden, *(tool(each.id, "x") for each in hidden))
    assert await pages(api, "/v1/tools", 1, "public_name") == [["clock__now"], ["clock__sleep"], ["web__fetch"]]


async def test_a_page_has_a_hundred_items_unless_another_limit_is_given() -> None:
    api = Api(*many_tools(150))
    page = await api.get(alice, "/v1/tools")
    assert len(page["items"]) == 100
    assert page["next_cursor"] is not None


async def test_a_list_goes_on_where_it_stopped_when_the_last_item_is_gone() -> None:
    api = Api(*(User(UserId(f"usr_{name}"), f"{name}@x.org", True, False) for name in "abc"))
    first = await api.get(root, "/v1/users?limit=2")
    assert [item["email"] for item in first["items"]] == ["a@x.org", "alice@example.com"]
    del api.directory.users[UserId("usr_alice")]
    second = await api.get(root, f"/v1/users?limit=1&cursor={first['next_cursor']}")
    assert [item["email"] for item in second["items"]] == ["b@x.org"]
