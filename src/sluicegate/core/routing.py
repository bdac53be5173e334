"""From the name a client uses to the tool it means. Pure; no regular expression on a path ever decides about access.

On the merged endpoint a tool is `upstream__tool`. On a virtual server's endpoint it has its explicit alias; else its
own name, where that is unique in the selection; else `upstream__tool`. Both maps are injective.
"""

import re
from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from sluicegate.core.catalog import SEPARATOR, SLUG, Selection, Tool, ToolSelector, VirtualServer, public_name
from sluicegate.core.directory import Directory
from sluicegate.core.errors import InvalidInput

OWN_NAME_PATTERN = re.compile(r"[A-Za-z0-9_.*-]{1,128}")
ALIAS = re.compile(r"[A-Za-z0-9_.-]{1,128}")
MAX_SELECTORS = 1000
"""Selectors of one virtual server."""


class Merged(Struct, frozen=True, gc=False):
    """The endpoint where all tools stand under their public names."""


MERGED = Merged()
Entrance = Merged | VirtualServer


def tool_at(entrance: Entrance, name: str, directory: Directory) -> Tool | None:
    """The tool that a client of this endpoint means by `name`."""
    if isinstance(entrance, VirtualServer):
        return selection_of(entrance, directory).by_name.get(name)
    return merged_tool(name, directory)


def tools_at(entrance: Entrance, directory: Directory) -> Iterator[tuple[str, Tool]]:
    """All tools of this endpoint with the names that its clients use, in no particular order."""
    if isinstance(entrance, VirtualServer):
        return iter(selection_of(entrance, directory).by_name.items())
    return merged_tools(directory)


def merged_tool(name: str, directory: Directory) -> Tool | None:
    """The tool with this public name."""
    slug, separator, own_name = name.partition(SEPARATOR)
    upstream = directory.upstream_by_slug(slug) if separator else None
    return None if upstream is None else directory.tools_of(upstream.id).get(own_name)


def merged_tools(directory: Directory) -> Iterator[tuple[str, Tool]]:
    """All tools with their public names, upstream by upstream."""
    for upstream in directory.upstreams.values():
        for own_name, tool in directory.tools_of(upstream.id).items():
            yield public_name(upstream.slug, own_name), tool


def selection_of(server: VirtualServer, directory: Directory) -> Selection:
    """The server's tools by name; kept by the directory until the catalog changes."""
    known = directory.selections.get(server.id)
    if known is None:
        known = directory.selections[server.id] = _select(server, directory)
    return known


def _select(server: VirtualServer, directory: Directory) -> Selection:
    aliases: dict[str, Tool] = {}
    others: dict[str, Tool] = {}
    for selector in server.tools:
        for name, tool in _matches(selector, directory):
            if selector.alias is not None:
                aliases[selector.alias] = tool
            else:
                others[name] = tool
    aliased = {tool.id for tool in aliases.values()}
    others = {name: tool for name, tool in others.items() if tool.id not in aliased}
    uses = Counter(tool.name for tool in others.values())
    by_name = dict(aliases)
    for name, tool in others.items():
        plain = uses[tool.name] == 1 and tool.name not in aliases and tool.name not in others
        if plain or name not in aliases:
            by_name[tool.name if plain else name] = tool
    return Selection(by_name, frozenset(tool.id for tool in by_name.values()))


def _matches(selector: ToolSelector, directory: Directory) -> Iterator[tuple[str, Tool]]:
    slug, _, pattern = selector.tool.partition(SEPARATOR)
    upstream = directory.upstream_by_slug(slug)
    if upstream is None:
        return
    tools = directory.tools_of(upstream.id)
    if "*" not in pattern:
        if tool := tools.get(pattern):
            yield selector.tool, tool
        return
    for own_name, tool in tools.items():
        if matches_pattern(own_name, pattern):
            yield public_name(slug, own_name), tool


def matches_pattern(name: str, pattern: str) -> bool:
    """True when `name` fits `pattern`, in which each `*` stands for any run of characters. Linear, not a regex."""
    first, *middle, last = pattern.split("*")
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    position, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def checked_selector(tool: str, alias: str | None = None) -> ToolSelector:
    """The selector that `upstream__name` means, or `upstream__pattern` with `*`; an alias only for an exact name.

    For everything that stores virtual servers: the REST API and the command line's `apply`. The upstream and the tool
    need not exist yet. Raises InvalidInput that says how a selector looks. See `checked_selectors` for a whole list.
    """
    slug, separator, pattern = tool.partition(SEPARATOR)
    if not separator or not SLUG.fullmatch(slug) or not OWN_NAME_PATTERN.fullmatch(pattern):
        raise InvalidInput(
            f"`{tool[:80]}` is not a selector: write upstream__tool, where the tool's name may hold `*`",
            code="invalid_selector",
        )
    if alias is not None and not ALIAS.fullmatch(alias):
        raise InvalidInput(
            f"`{alias[:80]}` is not an alias: use 1 to 128 of A-Z a-z 0-9 _ . -", code="invalid_selector"
        )
    if alias is not None and "*" in pattern:
        raise InvalidInput(f"`{tool[:80]}` may select several tools, so it can have no alias", code="invalid_selector")
    return ToolSelector(tool, alias)


def checked_selectors(selectors: list[tuple[str, str | None]]) -> tuple[ToolSelector, ...]:
    """A virtual server's selectors, each a tool and its alias. Raises InvalidInput as `checked_selector` does, for an
    alias that is used twice, and for too many.
    """
    if len(selectors) > MAX_SELECTORS:
        raise InvalidInput(f"a virtual server has at most {MAX_SELECTORS} selectors", code="invalid_selector")
    checked = tuple(checked_selector(tool, alias) for tool, alias in selectors)
    aliases = Counter(selector.alias for selector in checked if selector.alias is not None)
    for alias, uses in aliases.items():
        if uses > 1:
            raise InvalidInput(f"the alias `{alias}` is used {uses} times: choose others", code="invalid_selector")
    return checked
