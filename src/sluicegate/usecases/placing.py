"""Where upstreams and virtual servers stand: their team and visibility, who may put them there, who may move them."""

from typing import TypeVar

from msgspec import UNSET, Struct, UnsetType

from sluicegate.core.catalog import Team, Upstream, VirtualServer, Visibility
from sluicegate.core.errors import Conflict, Forbidden, InvalidInput
from sluicegate.core.identity import TeamId, UserId
from sluicegate.core.permissions import Permission
from sluicegate.core.policy import PLATFORM, Reason
from sluicegate.ports import Transaction
from sluicegate.usecases.calling import Caller, no_such, required

Placed = TypeVar("Placed", Upstream, VirtualServer)


class Place(Struct, frozen=True):
    """What decides, together with the owner, who may see an object."""

    team_id: TeamId | None
    visibility: Visibility


def place_for_new(caller: Caller, permission: Permission, team: str | None, visibility: Visibility) -> Place:
    """Where the caller's new object stands.

    Without a `team`, what is public belongs to the platform if the caller may do `permission` there; else the object
    lands in the one team in the token's reach where the caller may. Raises NotFound, Forbidden, InvalidInput.
    """
    if team is not None:
        return Place(team_for(caller, permission, team).id, visibility)
    if visibility is Visibility.PUBLIC and caller.may(permission, PLATFORM):
        return Place(None, visibility)
    teams = [each for each in caller.teams() if caller.may(permission, each)]
    if len(teams) == 1:
        return Place(teams[0].id, visibility)
    if not teams:
        caller.require_platform(permission)
    raise _team_needed("name the `team` that it belongs to")


def place_after(
    caller: Caller,
    permission: Permission,
    current: Upstream | VirtualServer,
    team: str | UnsetType | None,
    visibility: Visibility | UnsetType,
) -> Place:
    """Where the caller moves the object, on which `permission` was granted: it is needed on the new team too.

    A `team` of None moves it to the platform. Raises NotFound, Forbidden, InvalidInput.
    """
    place = Place(
        current.team_id if team is UNSET else target_team(caller, permission, team),
        current.visibility if visibility is UNSET else visibility,
    )
    if place.team_id is None and place.visibility is not Visibility.PUBLIC:
        raise _team_needed(f"what is {place.visibility} needs a `team`")
    if place.visibility is Visibility.PRIVATE:
        require_owner(caller, permission, current.owner_id)
    return place


def team_for(caller: Caller, permission: Permission, name: str) -> Team:
    """The team with this slug or id, if the caller may do `permission` there. Raises NotFound or Forbidden."""
    return caller.permitted(permission, caller.directory.team(name), no_such("team", name))


def target_team(caller: Caller, permission: Permission, name: str | None) -> TeamId | None:
    """The id of the team that something is moved to, None for the platform. Raises NotFound or Forbidden."""
    if name is not None:
        return team_for(caller, permission, name).id
    caller.require_platform(permission)
    return None


def require_owner(caller: Caller, permission: Permission, owner_id: UserId | None) -> None:
    """Raises Forbidden unless the caller is the owner, who alone could see the object once it is private."""
    if owner_id is None or owner_id != caller.principal.user_id:
        raise Forbidden("only its owner can make it private", scopes=(permission,), reason=Reason.NOT_THE_OWNER)


def unmoved(tx: Transaction, judged: Placed, missing: str) -> Placed:
    """The object's row, if it still stands where it stood when the decision was made. Raises NotFound or Conflict."""
    row = required(tx.get(type(judged), judged.id), missing)
    if (row.team_id, row.visibility, row.owner_id) != (judged.team_id, judged.visibility, judged.owner_id):
        raise changed_meanwhile()
    return row


def changed_meanwhile() -> Conflict:
    """The error for an object that is no longer what the decision was made about."""
    return Conflict("it was changed meanwhile: look at it again, then retry", code="changed_meanwhile")


def _team_needed(message: str) -> InvalidInput:
    return InvalidInput(message, code="team_needed")
