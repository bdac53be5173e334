"""Teams and who is in them. Nobody gives a role that holds more than their own token may do in the team."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sluicegate.core.catalog import (
    Membership,
    Team,
    Tool,
    Upstream,
    User,
    VirtualServer,
    checked_slug,
    membership_id,
    new_id,
)
from sluicegate.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from sluicegate.core.identity import TeamId
from sluicegate.core.permissions import ROLE_PERMISSIONS, Permission, Role
from sluicegate.ports import Database, Transaction, Written
from sluicegate.usecases.calling import Caller, no_such, required
from sluicegate.usecases.paging import Page, PageRequest, page_of

MAX_NAME = 100
TeamName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, examples=["Payments"])]


class NewTeam(Struct, frozen=True, forbid_unknown_fields=True):
    """A team to be made; its name is its slug unless given."""

    slug: Annotated[str, Meta(description="1 to 63 of a-z, 0-9 and -", examples=["payments"])]
    name: TeamName | None = None


class TeamChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is absent stays as it is. A team that is not active grants nothing to its members."""

    name: TeamName | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class Member(Struct, frozen=True):
    """A user with the role in one team."""

    user: User
    role: Role


class ManageTeams:
    """Changes of teams and memberships."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, caller: Caller, wanted: NewTeam) -> Written[Team]:
        """A new team, without members. Raises Forbidden, InvalidInput, Conflict when the slug is taken."""
        caller.require_platform(Permission.TEAMS_MANAGE)
        slug = checked_slug(wanted.slug)
        team = Team(TeamId(new_id("team")), slug, checked_name(wanted.name or slug), active=True)
        written = await self._database.write(lambda tx: tx.insert(team))
        return Written(team, written.revision)

    async def change(self, caller: Caller, name: str, change: TeamChange) -> Written[Team]:
        """The team as it is now. Raises NotFound, Forbidden."""
        team = team_named(caller, Permission.TEAMS_MANAGE, name)
        if change.name is not UNSET:
            checked_name(change.name)
        missing = no_such("team", name)
        return await self._database.write(lambda tx: _change(tx, team.id, change, missing))

    async def delete(self, caller: Caller, name: str) -> Written[None]:
        """Deletes the team and its memberships. Raises NotFound, Forbidden, Conflict while it still has objects."""
        team = team_named(caller, Permission.TEAMS_MANAGE, name)
        missing = no_such("team", name)
        return await self._database.write(lambda tx: _delete(tx, team.id, missing))

    async def put_member(self, caller: Caller, name: str, user_name: str, role: Role) -> Written[Member]:
        """The user, in the team with exactly this role. Raises NotFound, Forbidden for a role wider than one's own."""
        team = team_named(caller, Permission.TEAMS_MANAGE, name)
        _check_not_wider(caller, team, role)
        user = caller.directory.user(user_name)
        if user is None:
            raise NotFound(no_such("user", user_name))
        row = Membership(membership_id(user.id, team.id), user.id, team.id, role)
        written = await self._database.write(lambda tx: _put(tx, row))
        return Written(Member(user, role), written.revision)

    async def remove_member(self, caller: Caller, name: str, user_name: str) -> Written[None]:
        """Ends the membership. Raises NotFound, also when there is none, and Forbidden."""
        team = team_named(caller, Permission.TEAMS_MANAGE, name)
        user = caller.directory.user(user_name)
        missing = no_such("member", user_name)
        if user is None:
            raise NotFound(missing)
        key = membership_id(user.id, team.id)
        return await self._database.write(lambda tx: tx.delete(required(tx.get(Membership, key), missing)))


def checked_name(name: str) -> str:
    """The name of a team itself, or InvalidInput that says how it looks."""
    if not (0 < len(name) <= MAX_NAME and name.isprintable()):
        raise InvalidInput(f"a team's name has 1 to {MAX_NAME} printable characters")
    return name


def team_named(caller: Caller, permission: Permission, name: str) -> Team:
    """The team with this slug or id, if the caller may do `permission` on it. Raises NotFound, Forbidden."""
    return caller.permitted(permission, caller.directory.team(name), no_such("team", name))


def list_teams(caller: Caller, wanted: PageRequest) -> Page[Team]:
    """The teams that the caller may read, by slug."""
    teams = caller.directory.teams.values()
    return page_of(teams, lambda team: team.slug, wanted, lambda team: caller.may(Permission.TEAMS_READ, team))


def list_members(caller: Caller, name: str, wanted: PageRequest) -> Page[Member]:
    """Who is in the team, by email address. Raises NotFound, Forbidden."""
    directory = caller.directory
    team = team_named(caller, Permission.TEAMS_READ, name)
    members = [Member(directory.users[user_id], role) for user_id, role in directory.members_of(team.id)]
    return page_of(members, lambda member: member.user.email, wanted, _every_member)


def _every_member(_: Member) -> bool:
    """Whoever may read the team may read who is in it."""
    return True


def _check_not_wider(caller: Caller, team: Team, role: Role) -> None:
    lacking = sorted(permission for permission in ROLE_PERMISSIONS[role] if not caller.may(permission, team))
    if lacking:
        raise Forbidden(
            f"the role `{role}` gives more than you have in this team", scopes=lacking, reason="wider_than_own_role"
        )


def _change(tx: Transaction, team_id: TeamId, change: TeamChange, missing: str) -> Team:
    team = required(tx.get(Team, team_id), missing)
    team = msgspec.structs.replace(
        team,
        name=team.name if change.name is UNSET else change.name,
        active=team.active if change.active is UNSET else change.active,
    )
    tx.update(team)
    return team


def _delete(tx: Transaction, team_id: TeamId, missing: str) -> None:
    team = required(tx.get(Team, team_id), missing)
    for kind in (Upstream, VirtualServer, Tool):
        if tx.find(kind, team_id=team_id):
            # without naming them: some may be private, and so not the caller's to know
            raise Conflict("the team still has upstreams, servers or tools: move or delete them first", code="in_use")
    tx.delete(team)


def _put(tx: Transaction, row: Membership) -> None:
    if tx.get(Membership, row.id) is None:
        tx.insert(row)
    else:
        tx.update(row)
