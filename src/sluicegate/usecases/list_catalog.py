"""What a caller sees on an MCP endpoint: exactly the tools that it may call there, page by page."""

import base64
import binascii

from msgspec import Struct

from sluicegate.core.catalog import Tool
from sluicegate.core.errors import InvalidInput
from sluicegate.core.permissions import Permission
from sluicegate.core.routing import Entrance, tools_at
from sluicegate.usecases.calling import Caller

PAGE = 1000
"""Tools in one page."""


class ToolPage(Struct, frozen=True):
    """Tools under their names on the endpoint, in the order of those names, and where the next page begins."""

    tools: list[tuple[str, Tool]]
    next_cursor: str | None


def list_tools(caller: Caller, permission: Permission, entrance: Entrance, cursor: str | None) -> ToolPage:
    """One page of the tools on which the caller has `permission`. Raises InvalidInput for a cursor not of ours."""
    after = "" if cursor is None else decode_cursor(cursor)
    offered = {name: tool for name, tool in tools_at(entrance, caller.directory) if name > after}
    allowed = {tool.id for tool in caller.visible(permission, offered.values())}
    usable = sorted(name for name, tool in offered.items() if tool.id in allowed)
    page = [(name, offered[name]) for name in usable[:PAGE]]
    return ToolPage(page, encode_cursor(page[-1][0]) if len(usable) > PAGE else None)


def encode_cursor(last: str) -> str:
    """An opaque cursor for the page after the item `last`."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def decode_cursor(cursor: str) -> str:
    """The item after which the page begins. Raises InvalidInput."""
    try:
        return base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        raise InvalidInput("the cursor is not one that a list gave out", code="invalid_cursor") from None
