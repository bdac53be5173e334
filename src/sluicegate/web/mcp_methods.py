"""Every MCP method that we serve, in which eras, and the permission that it needs. What is not here does not exist."""

from enum import Enum

from sluicegate.core.permissions import Permission


class Access(Enum):
    """For methods that no permission guards: they show nothing of the catalog, but that it may have changed."""

    AUTHENTICATED = "authenticated"


LEGACY: dict[str, Permission | Access] = {
    "initialize": Access.AUTHENTICATED,
    "ping": Access.AUTHENTICATED,
    "tools/list": Permission.TOOLS_CALL,
    "tools/call": Permission.TOOLS_CALL,
}
MODERN: dict[str, Permission | Access] = {
    "server/discover": Access.AUTHENTICATED,
    "subscriptions/listen": Access.AUTHENTICATED,
    "tools/list": Permission.TOOLS_CALL,
    "tools/call": Permission.TOOLS_CALL,
}
"""The permission is asked at each tool. On a virtual server's endpoint `servers:use` on the server comes first."""
