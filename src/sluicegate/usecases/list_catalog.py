"""What a caller sees on an MCP endpoint: exactly the tools that it may call there, page by page."""

import base64
import binascii
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter

from msgspec import Struct

from sluicegate.core.catalog import Tool, Upstream, VirtualServer, public_name
from sluicegate.core.errors import InvalidInput
from sluicegate.core.permissions import Permission
from sluicegate.core.routing import Entrance, selection_of
from sluicegate.core.sieve import Sieve
from sluicegate.usecases.calling import Caller

PAGE = 1000
"""Tools in one page."""

Named = tuple[str, Tool]


class ToolPage(Struct, frozen=True):
    """Tools under their names on the endpoint, in the order of those names, and where the next page begins."""

    tools: list[Named]
    next_cursor: str | None


def list_tools(caller: Caller, permission: Permission, entrance: Entrance, cursor: str | None) -> ToolPage:
    """One page of the tools on which the caller has `permission`. Raises InvalidInput for a cursor not of ours."""
    after = "" if cursor is None else decode_cursor(cursor)
    if isinstance(entrance, VirtualServer):
        by_name = selection_of(entrance, caller.directory).by_name
        usable = _in_order(by_name.items(), caller.sieve(permission), after)
    else:
        usable = tools_in_order(caller, permission, caller.directory.upstreams.values(), after)
    tools = list(islice(usable, PAGE + 1))
    return ToolPage(tools[:PAGE], encode_cursor(tools[PAGE - 1][0]) if len(tools) > PAGE else None)


def tools_in_order(
    caller: Caller, permission: Permission, upstreams: Iterable[Upstream], after: str
) -> Iterator[Named]:
    """The tools of these upstreams on which the caller has `permission`, by public name, from the one after `after`.

    Passes over an upstream of which it may use nothing without looking at its tools.
    """
    sieve = caller.sieve(permission)
    # Slugs hold no underscore: sorted by their prefix, upstreams are in the order of their tools' public names.
    for prefix, upstream in sorted(((public_name(each.slug, ""), each) for each in upstreams), key=itemgetter(0)):
        if (after < prefix or after.startswith(prefix)) and sieve.may_let_some(upstream.id):
            own = caller.directory.tools_of(upstream.id).items()
            yield from _in_order(((prefix + name, tool) for name, tool in own), sieve, after)


def _in_order(tools: Iterable[Named], sieve: Sieve, after: str) -> Iterator[Named]:
    return iter(sorted(((name, tool) for name, tool in tools if name > after and sieve.lets(tool)), key=itemgetter(0)))


def encode_cursor(last: str) -> str:
    """An opaque cursor for the page after the item `last`."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def decode_cursor(cursor: str) -> str:
    """The item after which the page begins. Raises InvalidInput."""
    try:
        return base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        raise InvalidInput("the cursor is not one that a list gave out", code="invalid_cursor") from None
