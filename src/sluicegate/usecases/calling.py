"""One caller in one world: who asks, by which directory, at which instant. What administration decides through."""

from typing import TypeVar

from msgspec import Struct

from sluicegate.core.catalog import Team, Token, Tool, Upstream, User, VirtualServer
from sluicegate.core.directory import Directory
from sluicegate.core.errors import Forbidden, NotFound
from sluicegate.core.identity import OnlyPermissions, OnlyTeams, Principal
from sluicegate.core.permissions import Permission
from sluicegate.core.policy import PLATFORM, UNAUTHENTICATED, Reason, Target, decide, enforce
from sluicegate.core.sieve import Sieve

T = TypeVar("T", Team, Token, Tool, Upstream, User, VirtualServer)
R = TypeVar("R")
SHOWN = 80
"""Characters of what a caller sent that an error message repeats."""


class Caller(Struct, frozen=True):
    """Who asks, by the state of `directory`, at `at` (Unix seconds). Good until the next `await`."""

    principal: Principal
    directory: Directory
    at: float

    def may(self, permission: Permission, target: Target) -> bool:
        """Whether the caller may do `permission` on `target`."""
        return decide(self.principal, permission, target, self.directory, self.at).allowed

    def sieve(self, permission: Permission) -> Sieve:
        """What asks `may` of very many targets."""
        return Sieve(self.principal, permission, self.directory, self.at)

    def sees(self, permission: Permission, target: Target) -> bool:
        """Whether the caller may know that `target` exists."""
        return not decide(self.principal, permission, target, self.directory, self.at).hidden

    def teams(self) -> list[Team]:
        """The teams that the token names, or else those that the user is in."""
        reach = self.principal.scope.teams
        named = reach.ids if isinstance(reach, OnlyTeams) else dict(self.directory.roles_of(self.principal.user_id))
        return [self.directory.teams[team_id] for team_id in sorted(named) if team_id in self.directory.teams]

    def permitted(self, permission: Permission, target: T | None, missing: str) -> T:
        """`target`, if the caller may do `permission` on it; else as `policy.enforce` raises."""
        if target is None:
            raise NotFound(missing)
        enforce(decide(self.principal, permission, target, self.directory, self.at), missing)
        return target

    def require_platform(self, permission: Permission) -> None:
        """Raises Forbidden unless the caller may do `permission` on the platform, whose existence is no secret."""
        decision = decide(self.principal, permission, PLATFORM, self.directory, self.at)
        if decision.hidden:
            raise Forbidden(f"this needs `{permission}` on the platform", scopes=(permission,), reason=decision.reason)
        enforce(decision, "")

    def require_live(self) -> None:
        """Raises Unauthenticated when the token or its user is not good any more, whatever is asked for."""
        decision = decide(self.principal, Permission.TOOLS_READ, PLATFORM, self.directory, self.at)
        if decision.reason in UNAUTHENTICATED:
            enforce(decision, "")

    def require_token(self, permission: Permission) -> None:
        """Raises Unauthenticated when the token is not live, Forbidden when it leaves `permission` out. Grants nothing.

        For what is not asked of one object, so that a list of nothing is never the answer to a token worth nothing.
        """
        self.require_live()
        allowance = self.principal.scope.permissions
        if isinstance(allowance, OnlyPermissions) and permission not in allowance.items:
            raise Forbidden(
                f"this needs `{permission}`, which the token leaves out",
                scopes=(permission,),
                reason=Reason.PERMISSION_NOT_IN_TOKEN,
            )


def no_such(noun: str, name: str) -> str:
    """The sentence for an object that is missing or may not be seen: made of what the caller sent, nothing else."""
    return f"there is no {noun} `{name[:SHOWN]}`"


def required(row: R | None, missing: str) -> R:
    """The row that a transaction looked up. Raises NotFound when it was deleted meanwhile."""
    if row is None:
        raise NotFound(missing)
    return row
