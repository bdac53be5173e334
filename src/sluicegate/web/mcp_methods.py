"""Every MCP method that we serve, in which eras, and the permission that it needs. What is not here does not exist."""

from enum import Enum

from sluicegate.core.permissions import Permission


class Access(Enum):
    """For methods that no permission guards."""

    AUTHENTICATED = "authenticated"


PERMISSION_OF: dict[str, Permission | Access] = {
    "initialize": Access.AUTHENTICATED,
    "ping": Access.AUTHENTICATED,
    "server/discover": Access.AUTHENTICATED,
    "tools/list": Permission.TOOLS_CALL,
    "tools/call": Permission.TOOLS_CALL,
}
"""On a virtual server's endpoint each of them needs `servers:use` on the server as well."""

LEGACY_METHODS = frozenset(PERMISSION_OF) - {"server/discover"}
MODERN_METHODS = frozenset(PERMISSION_OF) - {"initialize", "ping"}
