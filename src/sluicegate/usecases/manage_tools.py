"""Tools: who may see them, and whether they are on. What a tool is comes from its upstream alone."""

from collections.abc import Iterable

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sluicegate.core.catalog import Tool, Upstream, Visibility, public_name
from sluicegate.core.directory import Directory
from sluicegate.core.errors import InvalidInput
from sluicegate.core.identity import TeamId, ToolId
from sluicegate.core.permissions import Permission
from sluicegate.core.routing import merged_tool
from sluicegate.ports import Database, Transaction, Written
from sluicegate.usecases.calling import Caller, no_such, required
from sluicegate.usecases.list_catalog import tools_in_order
from sluicegate.usecases.paging import Page, PageRequest, beginning, first_page
from sluicegate.usecases.placing import Place, changed_meanwhile, require_owner, target_team


class ToolChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is absent stays as it is; null gives an override up, so that the tool inherits from its upstream again."""

    visibility: Visibility | UnsetType | None = UNSET
    team: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class ToolFilter(Struct, frozen=True):
    """Narrows a list of tools, each by a slug or id; None does not narrow."""

    upstream: str | None
    team: str | None


class ManageTools:
    """Changes of tools."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def change(self, caller: Caller, name: str, change: ToolChange) -> Written[Tool]:
        """The tool as it is now. Raises NotFound, Forbidden, InvalidInput, Conflict when it was moved meanwhile."""
        tool = tool_named(caller, Permission.TOOLS_MANAGE, name)
        team_id = tool.team_id if change.team is UNSET else _overriding_team(caller, tool, change.team)
        visibility = tool.visibility if change.visibility is UNSET else change.visibility
        override = msgspec.structs.replace(tool, team_id=team_id, visibility=visibility)
        _check_place(caller, override)
        enabled = change.enabled
        return await self._database.write(lambda tx: _change(tx, tool, override, enabled))


def place_of(tool: Tool, upstream: Upstream) -> Place:
    """Where the tool stands: by its own override, or else by its upstream."""
    return Place(tool.team_id or upstream.team_id, tool.visibility or upstream.visibility)


def tool_named(caller: Caller, permission: Permission, name: str) -> Tool:
    """The tool with this id or public name, if the caller may do `permission` on it. Raises NotFound, Forbidden."""
    directory = caller.directory
    tool = directory.tools.get(ToolId(name)) or merged_tool(name, directory)
    return caller.permitted(permission, tool, no_such("tool", name))


def list_tools(caller: Caller, narrowed: ToolFilter, wanted: PageRequest) -> Page[Tool]:
    """The tools that the caller may read, by public name, also those that are off or not offered now.

    `team` leaves what belongs to that team and what is public. Raises NotFound for a filter that the caller may not
    see.
    """
    directory = caller.directory
    upstreams: Iterable[Upstream] = directory.upstreams.values()
    if narrowed.upstream is not None:
        upstreams = [_seen_upstream(caller, narrowed.upstream)]
    tools = tools_in_order(caller, Permission.TOOLS_READ, upstreams, beginning(wanted))
    if narrowed.team is not None:
        team_id = _seen_team(caller, narrowed.team)
        tools = ((name, tool) for name, tool in tools if _is_for_team(tool, team_id, directory))
    return first_page(tools, wanted)


def name_of(tool: Tool, directory: Directory) -> str:
    """The tool's public name."""
    return public_name(directory.upstreams[tool.upstream_id].slug, tool.name)


def _is_for_team(tool: Tool, team_id: TeamId, directory: Directory) -> bool:
    place = place_of(tool, directory.upstreams[tool.upstream_id])
    return place.team_id == team_id or place.visibility is Visibility.PUBLIC


def _seen_upstream(caller: Caller, name: str) -> Upstream:
    missing = no_such("upstream", name)
    upstream = required(caller.directory.upstream(name), missing)
    return required(upstream if caller.sees(Permission.UPSTREAMS_READ, upstream) else None, missing)


def _seen_team(caller: Caller, name: str) -> TeamId:
    missing = no_such("team", name)
    team = required(caller.directory.team(name), missing)
    return required(team.id if caller.sees(Permission.TEAMS_READ, team) else None, missing)


def _overriding_team(caller: Caller, tool: Tool, name: str | None) -> TeamId | None:
    """The team of the override; giving it up needs the permission where the tool then stands."""
    if name is not None:
        return target_team(caller, Permission.TOOLS_MANAGE, name)
    if tool.team_id is not None:
        inherited = caller.directory.upstreams[tool.upstream_id].team_id
        target_team(caller, Permission.TOOLS_MANAGE, inherited)
    return None


def _check_place(caller: Caller, tool: Tool) -> None:
    upstream = caller.directory.upstreams[tool.upstream_id]
    place = place_of(tool, upstream)
    if place.team_id is None and place.visibility is not Visibility.PUBLIC:
        raise InvalidInput(f"a tool that is {place.visibility} needs a `team`", code="team_needed")
    if place.visibility is Visibility.PRIVATE:
        require_owner(caller, Permission.TOOLS_MANAGE, upstream.owner_id)


def _change(tx: Transaction, judged: Tool, override: Tool, enabled: bool | UnsetType) -> Tool:
    row = required(tx.get(Tool, judged.id), "the tool was deleted meanwhile")
    if (row.team_id, row.visibility) != (judged.team_id, judged.visibility):
        raise changed_meanwhile()
    changed = msgspec.structs.replace(
        row,
        team_id=override.team_id,
        visibility=override.visibility,
        enabled=row.enabled if enabled is UNSET else enabled,
    )
    tx.update(changed)
    return changed
