"""`/v1/upstreams`"""

from litestar import Response, Router, delete, get, patch, post
from litestar.params import FromPath, JSONBody

from sluicegate.core.permissions import Permission
from sluicegate.usecases.manage_upstreams import NewUpstream, UpstreamChange, list_upstreams, upstream_named
from sluicegate.usecases.paging import Page, PageRequest
from sluicegate.web.rest.answers import RegisteredView, SyncView, UpstreamView
from sluicegate.web.rest.context import RestRequest
from sluicegate.web.rest.paging import DEFAULT_LIMIT, Cursor, Limit
from sluicegate.web.rest.views import registered_view, sync_view, upstream_view


@get("/")
async def list_of_upstreams(
    request: RestRequest, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[UpstreamView]:
    """The upstreams that you may read, by slug."""
    caller = await request.caller()
    return list_upstreams(caller, PageRequest(limit, cursor)).map(lambda upstream: upstream_view(upstream, caller))


@post("/")
async def create_upstream(request: RestRequest, data: JSONBody[NewUpstream]) -> Response[RegisteredView]:
    """Registers an upstream of your own and lists its tools; it is kept if that fails, and `sync` says why.

    Without a `team` it lands in the one team that your token reaches and where you may do this; what is public and
    without a team is the platform's.
    """
    written = await request.uses.upstreams.create(await request.caller(), data)
    caller = await request.settled(written.revision)
    return await request.changed(registered_view(written.value, caller), written.revision)


@get("/{upstream:str}")
async def get_upstream(request: RestRequest, upstream: FromPath[str]) -> UpstreamView:
    """One upstream, by slug or id."""
    caller = await request.caller()
    return upstream_view(upstream_named(caller, Permission.UPSTREAMS_READ, upstream), caller)


@patch("/{upstream:str}")
async def change_upstream(
    request: RestRequest, upstream: FromPath[str], data: JSONBody[UpstreamChange]
) -> Response[RegisteredView]:
    """Changes an upstream; its tools are listed anew after a new `url` or `auth`.

    Another `team` needs the permission there too. A new `url` needs the credential again, if there is one.
    """
    written = await request.uses.upstreams.change(await request.caller(), upstream, data)
    caller = await request.settled(written.revision)
    return await request.changed(registered_view(written.value, caller), written.revision)


@delete("/{upstream:str}")
async def delete_upstream(request: RestRequest, upstream: FromPath[str]) -> Response[None]:
    """Deletes an upstream and its tools."""
    written = await request.uses.upstreams.delete(await request.caller(), upstream)
    await request.reached(written.revision)
    return await request.changed(None, written.revision)


@post("/{upstream:str}/sync", status_code=200)
async def synchronise_upstream(request: RestRequest, upstream: FromPath[str]) -> Response[SyncView]:
    """Lists the upstream's tools anew. Overrides of visibility and team stay."""
    written = await request.uses.upstreams.synchronise(await request.caller(), upstream)
    await request.reached(written.revision)
    return await request.changed(sync_view(written.value), written.revision)


upstreams = Router(
    "/upstreams",
    route_handlers=[
        list_of_upstreams,
        create_upstream,
        get_upstream,
        change_upstream,
        delete_upstream,
        synchronise_upstream,
    ],
    tags=["upstreams"],
)
