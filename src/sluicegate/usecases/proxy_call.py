"""Carry one `tools/call` to the upstream that owns the tool, if the caller may call it.

From route to decision there is no `await`, so one call sees one world.
"""

from sluicegate.core.catalog import Tool, Upstream
from sluicegate.core.directory import Directory
from sluicegate.core.errors import NotFound
from sluicegate.core.identity import Principal
from sluicegate.core.permissions import Permission
from sluicegate.core.policy import decide, enforce
from sluicegate.core.routing import Entrance, tool_at
from sluicegate.ports import AuthzFeed, Clock, ToolCall, UpstreamAnswer, Upstreams


class ProxyCall:
    """The data plane's one verb."""

    def __init__(self, feed: AuthzFeed, upstreams: Upstreams, clock: Clock) -> None:
        self._feed = feed
        self._upstreams = upstreams
        self._clock = clock

    async def __call__(self, principal: Principal, entrance: Entrance, name: str, call: ToolCall) -> UpstreamAnswer:
        """The upstream's answer to `call` under its own name. Raises NotFound, Forbidden, UpstreamFailed."""
        tool, upstream = permitted_tool(principal, entrance, name, self._feed.directory, self._clock.wall())
        return await self._upstreams.call_tool(upstream, call.renamed(tool.name))


def permitted_tool(
    principal: Principal, entrance: Entrance, name: str, directory: Directory, at: float
) -> tuple[Tool, Upstream]:
    """The tool behind `name` and its upstream, if `principal` may call it; else as `policy.enforce` raises."""
    tool = tool_at(entrance, name, directory)
    missing = f"unknown tool: {name[:128]}"
    if tool is None:
        raise NotFound(missing)
    enforce(decide(principal, Permission.TOOLS_CALL, tool, directory, at), missing)
    return tool, directory.upstreams[tool.upstream_id]
