"""Names lead to one tool each, on both kinds of endpoint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.core.catalog import ToolSelector, Visibility, public_name
from sluicegate.core.directory import Directory
from sluicegate.core.identity import UpstreamId
from sluicegate.core.routing import MERGED, matches_pattern, merged_tool, selection_of, tool_at, tools_at
from tests.support.world import server, tool, upstream

A, B = UpstreamId("ups_a"), UpstreamId("ups_b")


def directory_of(*tools, selects=("a__*", "b__*")):
    ups = [upstream(id, team=None, visibility=Visibility.PUBLIC) for id in (A, B)]
    return Directory("e", 1, [*ups, *tools, server(*selects)])


def names(directory):
    (only,) = directory.servers.values()
    return {name: each.id for name, each in selection_of(only, directory).by_name.items()}


def test_the_first_separator_splits_so_a_tool_name_may_hold_more():
    directory = directory_of(tool(A, "b__c"))
    found = merged_tool("a__b__c", directory)
    assert found is not None
    assert found.name == "b__c"


@pytest.mark.parametrize("name", ["a", "__b", "a__", "a__unknown", "A__x", "ups_a__x", ""])
def test_what_is_no_public_name_leads_nowhere(name):
    assert tool_at(MERGED, name, directory_of(tool(A, "x"))) is None


def test_on_a_server_unique_names_are_the_original_ones():
    assert names(directory_of(tool(A, "x"), tool(B, "y"))) == {"x": "tool_a_x", "y": "tool_b_y"}


def test_on_a_server_names_that_collide_are_public_names():
    assert names(directory_of(tool(A, "x"), tool(B, "x"))) == {"a__x": "tool_a_x", "b__x": "tool_b_x"}


def test_an_alias_names_its_tool_and_frees_the_name_for_the_other():
    selects = (ToolSelector("a__x", "other"), "a__*", "b__*")
    assert names(directory_of(tool(A, "x"), tool(B, "x"), selects=selects)) == {"other": "tool_a_x", "x": "tool_b_x"}


def test_an_alias_that_is_another_tools_own_name_wins_it():
    selects = (ToolSelector("a__y", "x"), "b__x")
    assert names(directory_of(tool(A, "y"), tool(B, "x"), selects=selects)) == {"x": "tool_a_y", "b__x": "tool_b_x"}


def test_an_own_name_that_looks_like_a_public_name_does_not_shadow_it():
    tools = [tool(A, "b__x"), tool(A, "x"), tool(B, "x")]
    assert names(directory_of(*tools)) == {"a__b__x": "tool_a_b__x", "a__x": "tool_a_x", "b__x": "tool_b_x"}


def test_a_selector_takes_only_what_it_names():
    tools = [tool(A, "get_x"), tool(A, "set_x"), tool(B, "get_x")]
    assert set(names(directory_of(*tools, selects=("a__get_*",)))) == {"get_x"}


own_names = st.text("ab_", min_size=1, max_size=6)


@given(st.sets(own_names, max_size=6), st.sets(own_names, max_size=6))
def test_every_selected_tool_has_exactly_one_name_and_every_name_one_tool(of_a, of_b):
    directory = directory_of(*(tool(A, name) for name in of_a), *(tool(B, name) for name in of_b))
    found = names(directory)
    assert sorted(found.values()) == sorted(set(directory.tools))


@given(st.sets(own_names, max_size=6), st.sets(own_names, max_size=6))
def test_public_names_lead_back_to_their_tools(of_a, of_b):
    directory = directory_of(*(tool(A, name) for name in of_a), *(tool(B, name) for name in of_b))
    for name, each in tools_at(MERGED, directory):
        assert merged_tool(name, directory) is each
        assert name == public_name(directory.upstreams[each.upstream_id].slug, each.name)


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("fetch", "*", True),
        ("fetch", "f*h", True),
        ("fetch", "f*t*h", True),
        ("fetch", "x*", False),
        ("fetch", "*x*", False),
        ("aba", "ab*ba", False),
        ("a", "a*a", False),
        ("aa", "a*a", True),
        ("a.c", "a.*", True),
        ("abc", "a.*", False),
    ],
)
def test_a_star_stands_for_any_run_and_everything_else_for_itself(name, pattern, fits):
    assert matches_pattern(name, pattern) is fits
