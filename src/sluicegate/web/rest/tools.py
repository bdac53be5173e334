"""`/v1/tools`"""

from typing import Annotated

from litestar import Response, Router, get, patch
from litestar.params import FromPath, JSONBody, QueryParameter

from sluicegate.core.permissions import Permission
from sluicegate.usecases.calling import no_such, required
from sluicegate.usecases.manage_tools import ToolChange, ToolFilter, list_tools, tool_named
from sluicegate.usecases.paging import Page, PageRequest
from sluicegate.web.rest.answers import ToolView
from sluicegate.web.rest.context import RestRequest
from sluicegate.web.rest.paging import DEFAULT_LIMIT, Cursor, Limit
from sluicegate.web.rest.views import tool_view

OfUpstream = Annotated[str | None, QueryParameter(description="only the tools of this upstream: a slug or id")]
OfTeam = Annotated[
    str | None, QueryParameter(description="only what belongs to this team, a slug or id, and what is public")
]


@get("/")
async def list_of_tools(
    request: RestRequest,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    upstream: OfUpstream = None,
    team: OfTeam = None,
) -> Page[ToolView]:
    """The tools that you may read, by public name, also those that are off or not offered now."""
    caller = await request.caller()
    page = list_tools(caller, ToolFilter(upstream, team), PageRequest(limit, cursor))
    return page.map(lambda tool: tool_view(tool, caller))


@get("/{tool:str}")
async def get_tool(request: RestRequest, tool: FromPath[str]) -> ToolView:
    """One tool, by id or public name."""
    caller = await request.caller()
    return tool_view(tool_named(caller, Permission.TOOLS_READ, tool), caller)


@patch("/{tool:str}")
async def change_tool(request: RestRequest, tool: FromPath[str], data: JSONBody[ToolChange]) -> Response[ToolView]:
    """Overrides a tool's visibility or team, or gives that up with null; turns it on or off."""
    written = await request.uses.tools.change(await request.caller(), tool, data)
    caller = await request.settled(written.revision)
    required(caller.directory.upstreams.get(written.value.upstream_id), no_such("tool", tool))
    return await request.changed(tool_view(written.value, caller), written.revision)


tools = Router("/tools", route_handlers=[list_of_tools, get_tool, change_tool], tags=["tools"])
