"""`/v1/servers`"""

from litestar import Response, Router, delete, get, patch, post
from litestar.params import FromPath, JSONBody

from sluicegate.core.permissions import Permission
from sluicegate.usecases.manage_servers import NewServer, ServerChange, list_servers, server_named
from sluicegate.usecases.paging import Page, PageRequest
from sluicegate.web.rest.answers import ServerDetailView, ServerView
from sluicegate.web.rest.context import RestRequest
from sluicegate.web.rest.paging import DEFAULT_LIMIT, Cursor, Limit
from sluicegate.web.rest.views import server_detail_view, server_view


@get("/")
async def list_of_servers(
    request: RestRequest, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[ServerView]:
    """The virtual servers that you may read, by slug."""
    caller = await request.caller()
    return list_servers(caller, PageRequest(limit, cursor)).map(lambda server: server_view(server, caller))


@post("/")
async def create_server(request: RestRequest, data: JSONBody[NewServer]) -> Response[ServerView]:
    """Makes a virtual server of your own.

    `tools` holds `upstream__tool`, or `upstream__pattern` where `*` stands for any run of characters, or one tool with
    an alias. Without a `team` it lands as an upstream does. Selecting a tool gives nobody a right to it.
    """
    written = await request.uses.servers.create(await request.caller(), data)
    caller = await request.settled(written.revision)
    return await request.changed(server_view(written.value, caller), written.revision)


@get("/{server:str}")
async def get_server(request: RestRequest, server: FromPath[str]) -> ServerDetailView:
    """One virtual server, by slug or id, with the tools that it selects now and that you may see."""
    caller = await request.caller()
    return server_detail_view(server_named(caller, Permission.SERVERS_READ, server), caller)


@patch("/{server:str}")
async def change_server(
    request: RestRequest, server: FromPath[str], data: JSONBody[ServerChange]
) -> Response[ServerView]:
    """Changes a virtual server. Another `team` needs the permission there too."""
    written = await request.uses.servers.change(await request.caller(), server, data)
    caller = await request.settled(written.revision)
    return await request.changed(server_view(written.value, caller), written.revision)


@delete("/{server:str}")
async def delete_server(request: RestRequest, server: FromPath[str]) -> Response[None]:
    """Deletes a virtual server; the tools stay."""
    written = await request.uses.servers.delete(await request.caller(), server)
    await request.reached(written.revision)
    return await request.changed(None, written.revision)


servers = Router(
    "/servers",
    route_handlers=[list_of_servers, create_server, get_server, change_server, delete_server],
    tags=["servers"],
)
