import pytest

from sluicegate.core.catalog import ToolSelector
from sluicegate.core.errors import InvalidInput
from sluicegate.core.routing import MAX_SELECTORS, checked_selector, checked_selectors


@pytest.mark.parametrize("text", ["clock__now", "clock__*", "a-1__x.y-Z_0", "web__a__b", "web___x", "c__*s*p*"])
def test_a_selector_is_an_upstream_and_a_name_or_pattern(text: str) -> None:
    assert checked_selector(text) == ToolSelector(text, None)


@pytest.mark.parametrize(
    "text", ["", "clock", "__now", "clock__", "Clock__now", "c_k__now", "*__now", "clock__n w", "c__x\n"]
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a selector"):
        checked_selector(text)


def test_an_alias_is_for_one_tool() -> None:
    assert checked_selector("clock__now", "time") == ToolSelector("clock__now", "time")
    with pytest.raises(InvalidInput, match="no alias"):
        checked_selector("clock__*", "time")


@pytest.mark.parametrize("alias", ["", "a b", "a" * 129, "x\n", "ü"])
def test_an_alias_is_a_name_that_clients_accept(alias: str) -> None:
    with pytest.raises(InvalidInput, match="is not an alias"):
        checked_selector("clock__now", alias)


def test_no_alias_stands_twice_in_a_server() -> None:
    with pytest.raises(InvalidInput, match="`x` is used 2 times"):
        checked_selectors([("clock__now", "x"), ("web__fetch", "x")])
    assert len(checked_selectors([("clock__now", "x"), ("web__fetch", None), ("web__fetch", None)])) == 3


def test_a_server_has_a_bounded_number_of_selectors() -> None:
    with pytest.raises(InvalidInput, match="at most"):
        checked_selectors([("clock__now", None)] * (MAX_SELECTORS + 1))
