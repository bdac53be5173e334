"""`/v1/teams`"""

from litestar import Response, Router, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from sluicegate.core.permissions import Permission, Role
from sluicegate.usecases.manage_teams import NewTeam, TeamChange, list_members, list_teams, team_named
from sluicegate.usecases.paging import Page, PageRequest
from sluicegate.web.rest.answers import MemberView, TeamView
from sluicegate.web.rest.context import RestRequest
from sluicegate.web.rest.paging import DEFAULT_LIMIT, Cursor, Limit
from sluicegate.web.rest.views import member_view, team_view


class NewMembership(Struct, frozen=True, forbid_unknown_fields=True):
    """What the user is in the team from now on."""

    role: Role


@get("/")
async def list_of_teams(request: RestRequest, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[TeamView]:
    """The teams that you may read, by slug."""
    return list_teams(await request.caller(), PageRequest(limit, cursor)).map(team_view)


@post("/")
async def create_team(request: RestRequest, data: JSONBody[NewTeam]) -> Response[TeamView]:
    """Makes a team without members. Asked of the platform."""
    written = await request.uses.teams.create(await request.caller(), data)
    await request.reached(written.revision)
    return await request.changed(team_view(written.value), written.revision)


@get("/{team:str}")
async def get_team(request: RestRequest, team: FromPath[str]) -> TeamView:
    """One team, by slug or id."""
    return team_view(team_named(await request.caller(), Permission.TEAMS_READ, team))


@patch("/{team:str}")
async def change_team(request: RestRequest, team: FromPath[str], data: JSONBody[TeamChange]) -> Response[TeamView]:
    """Renames, deactivates or activates a team. The slug stays what it is."""
    written = await request.uses.teams.change(await request.caller(), team, data)
    await request.reached(written.revision)
    return await request.changed(team_view(written.value), written.revision)


@delete("/{team:str}")
async def delete_team(request: RestRequest, team: FromPath[str]) -> Response[None]:
    """Deletes a team and its memberships; refused while it has upstreams, tools or servers."""
    written = await request.uses.teams.delete(await request.caller(), team)
    await request.reached(written.revision)
    return await request.changed(None, written.revision)


@get("/{team:str}/members")
async def list_of_members(
    request: RestRequest, team: FromPath[str], limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[MemberView]:
    """Who is in the team, by email address."""
    return list_members(await request.caller(), team, PageRequest(limit, cursor)).map(member_view)


@put("/{team:str}/members/{user:str}")
async def put_member(
    request: RestRequest, team: FromPath[str], user: FromPath[str], data: JSONBody[NewMembership]
) -> Response[MemberView]:
    """Puts a user, by email address or id, into the team, or changes the role. No role wider than your own."""
    written = await request.uses.teams.put_member(await request.caller(), team, user, data.role)
    await request.reached(written.revision)
    return await request.changed(member_view(written.value), written.revision)


@delete("/{team:str}/members/{user:str}")
async def remove_member(request: RestRequest, team: FromPath[str], user: FromPath[str]) -> Response[None]:
    """Takes a user out of the team."""
    written = await request.uses.teams.remove_member(await request.caller(), team, user)
    await request.reached(written.revision)
    return await request.changed(None, written.revision)


teams = Router(
    "/teams",
    route_handlers=[
        list_of_teams,
        create_team,
        get_team,
        change_team,
        delete_team,
        list_of_members,
        put_member,
        remove_member,
    ],
    tags=["teams"],
)
