"""Virtual servers: make, change, delete. Selecting a tool gives no right to it: each call is decided at the tool."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sluicegate.core.catalog import ToolSelector, VirtualServer, Visibility, checked_slug, new_id
from sluicegate.core.identity import ServerId
from sluicegate.core.permissions import Permission
from sluicegate.core.routing import checked_selectors
from sluicegate.ports import Database, Transaction, Written
from sluicegate.usecases.calling import Caller, no_such
from sluicegate.usecases.paging import Page, PageRequest, page_of
from sluicegate.usecases.placing import Place, place_after, place_for_new, unmoved


class AliasedTool(Struct, frozen=True, forbid_unknown_fields=True):
    """`upstream__tool` under a name of the server's own."""

    tool: str
    alias: str | None = None


Selector = str | AliasedTool
"""`upstream__tool`, or `upstream__pattern` in which `*` stands for any run of characters; or one tool with an alias."""


class NewServer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A virtual server to be made. See `placing.place_for_new` for an absent `team`."""

    slug: Annotated[str, Meta(description="1 to 63 of a-z, 0-9 and -", examples=["support"])]
    visibility: Visibility
    tools: Annotated[list[Selector], Meta(examples=[["clock__*", {"tool": "web__fetch", "alias": "get"}]])]
    team: Annotated[str, Meta(description="a slug or id", examples=["payments"])] | None = None


class ServerChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is absent stays as it is; a `team` of null moves it to the platform."""

    visibility: Visibility | UnsetType = UNSET
    team: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    tools: list[Selector] | UnsetType = UNSET


class ManageServers:
    """Changes of virtual servers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, caller: Caller, wanted: NewServer) -> Written[VirtualServer]:
        """A new server of the caller's. Raises NotFound, Forbidden, InvalidInput, Conflict when the slug is taken."""
        place = place_for_new(caller, Permission.SERVERS_MANAGE, wanted.team, wanted.visibility)
        server = VirtualServer(
            id=ServerId(new_id("srv")),
            slug=checked_slug(wanted.slug),
            team_id=place.team_id,
            owner_id=caller.principal.user_id,
            visibility=place.visibility,
            enabled=True,
            tools=_selectors(wanted.tools),
        )
        written = await self._database.write(lambda tx: tx.insert(server))
        return Written(server, written.revision)

    async def change(self, caller: Caller, name: str, change: ServerChange) -> Written[VirtualServer]:
        """The server as it is now. Raises NotFound, Forbidden, InvalidInput, Conflict when it was moved meanwhile."""
        server = server_named(caller, Permission.SERVERS_MANAGE, name)
        place = place_after(caller, Permission.SERVERS_MANAGE, server, change.team, change.visibility)
        tools = UNSET if change.tools is UNSET else _selectors(change.tools)
        enabled = change.enabled
        return await self._database.write(lambda tx: _change(tx, server, place, enabled, tools))

    async def delete(self, caller: Caller, name: str) -> Written[None]:
        """Deletes the server, not the tools. Raises NotFound, Forbidden, Conflict when it was moved meanwhile."""
        server = server_named(caller, Permission.SERVERS_MANAGE, name)
        missing = no_such("server", name)
        return await self._database.write(lambda tx: tx.delete(unmoved(tx, server, missing)))


def server_named(caller: Caller, permission: Permission, name: str) -> VirtualServer:
    """The server with this slug or id, if the caller may do `permission` on it. Raises NotFound, Forbidden."""
    return caller.permitted(permission, caller.directory.server(name), no_such("server", name))


def list_servers(caller: Caller, wanted: PageRequest) -> Page[VirtualServer]:
    """The virtual servers that the caller may read, by slug."""
    servers = caller.directory.servers.values()
    return page_of(servers, lambda each: each.slug, wanted, lambda each: caller.may(Permission.SERVERS_READ, each))


def _selectors(wanted: list[Selector]) -> tuple[ToolSelector, ...]:
    return checked_selectors([(each, None) if isinstance(each, str) else (each.tool, each.alias) for each in wanted])


def _change(
    tx: Transaction,
    judged: VirtualServer,
    place: Place,
    enabled: bool | UnsetType,
    tools: tuple[ToolSelector, ...] | UnsetType,
) -> VirtualServer:
    row = unmoved(tx, judged, no_such("server", judged.slug))
    changed = msgspec.structs.replace(
        row,
        team_id=place.team_id,
        visibility=place.visibility,
        enabled=row.enabled if enabled is UNSET else enabled,
        tools=row.tools if tools is UNSET else tools,
    )
    tx.update(changed)
    return changed
