"""Find the tool that a client means and the upstream that owns it, if the caller may call it. No await, no I/O."""

from sluicegate.core.catalog import Tool, Upstream
from sluicegate.core.permissions import Permission
from sluicegate.core.routing import Entrance, tool_at
from sluicegate.usecases.calling import Caller

SHOWN = 128
"""Characters of a name that an error message repeats: as many as a name may have."""


def permitted_tool(caller: Caller, permission: Permission, entrance: Entrance, name: str) -> tuple[Tool, Upstream]:
    """The tool behind `name` and its upstream. Raises NotFound, Forbidden, Unauthenticated."""
    tool = caller.permitted(permission, tool_at(entrance, name, caller.directory), f"unknown tool: {name[:SHOWN]}")
    return tool, caller.directory.upstreams[tool.upstream_id]
