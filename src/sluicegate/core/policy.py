"""The one decision: may this principal do this with that object, now? Pure, and the same for REST, MCP and lists.

`decide` asks the clauses in order and stops at the first that objects; `explain` asks them all. What a clause of the
first group refuses is *hidden*: the caller is answered exactly as if the object did not exist.

Types are compared by `type(x) is`: `isinstance` of a Struct that is none takes 150 ns, and a decision asks often.
"""

from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from sluicegate.core import errors
from sluicegate.core.catalog import Team, Token, Tool, Upstream, User, VirtualServer, Visibility
from sluicegate.core.directory import Directory
from sluicegate.core.identity import OnlyPermissions, OnlyServers, OnlyTeams, Principal, TeamId, UserId
from sluicegate.core.permissions import (
    ALL_PERMISSIONS,
    EVERYONE_ON_PUBLIC,
    EVERYONE_ON_SELF,
    ROLE_PERMISSIONS,
    USING,
    Permission,
    Role,
)
from sluicegate.core.routing import selection_of


class Platform(Struct, frozen=True, gc=False):
    """The gateway itself: the target of what belongs to no team."""


PLATFORM = Platform()
# On Python 3.11 it takes 150 ns to get a member from its enum.
PUBLIC, TEAM, PRIVATE = Visibility.PUBLIC, Visibility.TEAM, Visibility.PRIVATE
Target = Tool | Upstream | VirtualServer | Team | User | Token | Platform


class Personal(Struct, frozen=True, gc=False):
    """The audience of an account, a token, the platform: the owner, and admins whose token is not narrowed to teams."""


PERSONAL = Personal()
Audience = Visibility | Personal


class Reason(StrEnum):
    """Stable codes: why a decision came out as it did."""

    ALLOWED = "allowed"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_REVOKED = "token_revoked"
    USER_INACTIVE = "user_inactive"
    TARGET_DISABLED = "target_disabled"
    OUTSIDE_TOKEN_SERVERS = "outside_token_servers"
    OUTSIDE_TOKEN_TEAMS = "outside_token_teams"
    TEAM_INACTIVE = "team_inactive"
    NOT_A_MEMBER = "not_a_member"
    NOT_THE_OWNER = "not_the_owner"
    PERMISSION_NOT_IN_TOKEN = "permission_not_in_token"
    PERMISSION_NOT_IN_ROLE = "permission_not_in_role"


ALLOWED = Reason.ALLOWED
UNAUTHENTICATED = frozenset({Reason.TOKEN_EXPIRED, Reason.TOKEN_REVOKED, Reason.USER_INACTIVE})
SEEN_BUT_FORBIDDEN = frozenset({Reason.PERMISSION_NOT_IN_TOKEN, Reason.PERMISSION_NOT_IN_ROLE})


class Decision(Struct, frozen=True, gc=False):
    """The outcome, why, and which permission was asked for."""

    allowed: bool
    reason: Reason
    permission: Permission

    @property
    def hidden(self) -> bool:
        """True when the caller may not even know that the target exists."""
        return not (self.allowed or self.reason in UNAUTHENTICATED or self.reason in SEEN_BUT_FORBIDDEN)


class Question(Struct, frozen=True, gc=False):
    """What a clause looks at: who asks for what on which target, and how that target stands."""

    principal: Principal
    permission: Permission
    target: Target
    directory: Directory
    at: float
    user: User | None
    audience: Audience
    team_id: TeamId | None
    owner_id: UserId | None
    on: bool
    """The target is not switched off, nor what it belongs to."""
    in_reach: bool
    """The token's reach holds the target's team; a target without a team needs a reach that is not narrowed."""
    role: Role | None
    """The user's role in the target's team, if that team is active and in reach."""
    is_admin: bool
    """A platform admin whose reach holds the target's team."""


def decide(principal: Principal, permission: Permission, target: Target, directory: Directory, at: float) -> Decision:
    """May `principal` do `permission` on `target` at `at` (Unix seconds), by the state of `directory`?"""
    question = _question(principal, permission, target, directory, at)
    for clause in CLAUSES:
        reason = clause(question)
        if reason is not None:
            return Decision(False, reason, permission)
    return Decision(True, ALLOWED, permission)


def explain(
    principal: Principal, permission: Permission, target: Target, directory: Directory, at: float
) -> list[tuple[str, Reason | None]]:
    """Every clause in the order in which `decide` asks it, with its objection or None."""
    question = _question(principal, permission, target, directory, at)
    return [(clause.__name__, clause(question)) for clause in CLAUSES]


def enforce(decision: Decision, missing: str) -> None:
    """Returns if allowed; raises what the decision means. `missing` is the sentence of an object that is not there."""
    if decision.allowed:
        return
    if decision.reason in UNAUTHENTICATED:
        raise errors.Unauthenticated(f"the token is not valid: {decision.reason}", code=decision.reason)
    if decision.hidden:
        raise errors.NotFound(missing)
    raise errors.Forbidden(
        f"this needs `{decision.permission}`, which "
        + ("the token leaves out" if decision.reason is Reason.PERMISSION_NOT_IN_TOKEN else "your role does not give"),
        scopes=(decision.permission,),
        reason=decision.reason,
    )


def lends_tools(server: VirtualServer, principal: Principal, directory: Directory, at: float) -> bool:
    """Whether the caller may know the server, which must be enabled, and so reach its tools through it."""
    asked = _question(principal, Permission.SERVERS_USE, server, directory, at)
    return asked.on and within_audience(asked) is None


# --- the clauses, in the order in which they are asked ------------------------------------------------------------


def token_is_live(q: Question) -> Reason | None:
    """Unexpired, and its id not revoked."""
    if q.principal.expires_at <= q.at:
        return Reason.TOKEN_EXPIRED
    token = q.directory.tokens.get(q.principal.token_id)
    return Reason.TOKEN_REVOKED if token is not None and token.revoked_at is not None else None


def user_is_active(q: Question) -> Reason | None:
    return None if q.user is not None and q.user.active else Reason.USER_INACTIVE


def target_is_enabled(q: Question) -> Reason | None:
    """Asked of uses only: who manages an object must be able to enable it again."""
    return None if q.on or q.permission not in USING else Reason.TARGET_DISABLED


def within_token_servers(q: Question) -> Reason | None:
    """A token with a list of servers reaches those servers and the tools that they select."""
    servers = q.principal.scope.servers
    if type(servers) is not OnlyServers:
        return None
    if type(q.target) is VirtualServer:
        return None if q.target.id in servers.ids else Reason.OUTSIDE_TOKEN_SERVERS
    if type(q.target) is Tool:
        for server_id in servers.ids:
            server = q.directory.servers.get(server_id)
            if server is None or q.target.id not in selection_of(server, q.directory).ids:
                continue
            if _lends_asked_tool(server, q):
                return None
    return Reason.OUTSIDE_TOKEN_SERVERS


def within_audience(q: Question) -> Reason | None:
    """Public: anyone. Team: members within the token's reach. Private: its owner, with the team in reach; no admin."""
    if q.audience is PUBLIC:
        return None
    if q.audience is PERSONAL:
        mine = q.owner_id is not None and q.owner_id == q.principal.user_id
        return None if mine or q.is_admin else Reason.NOT_THE_OWNER
    if q.audience is PRIVATE and q.owner_id != q.principal.user_id:
        return Reason.NOT_THE_OWNER
    return None if q.role is not None else _outside_team(q)


def permission_is_granted(q: Question) -> Reason | None:
    """Token permissions and the user's roles must both hold it."""
    allowance = q.principal.scope.permissions
    if type(allowance) is OnlyPermissions and q.permission not in allowance.items:
        return Reason.PERMISSION_NOT_IN_TOKEN
    if q.audience is PUBLIC and q.permission in EVERYONE_ON_PUBLIC:
        return None
    role = q.role
    if role is not None and q.permission in ROLE_PERMISSIONS[role]:
        return None
    if q.is_admin and q.permission in ALL_PERMISSIONS:
        return None
    if q.audience is PERSONAL and q.owner_id == q.principal.user_id and q.permission in EVERYONE_ON_SELF:
        return None
    return Reason.PERMISSION_NOT_IN_ROLE


Clause = Callable[[Question], Reason | None]
CLAUSES: tuple[Clause, ...] = (
    token_is_live,
    user_is_active,
    target_is_enabled,
    within_token_servers,
    within_audience,
    permission_is_granted,
)


def _outside_team(q: Question) -> Reason | None:
    """Asked of who has no role there: a role is held in a team that is active and in reach."""
    if not q.in_reach:
        return Reason.OUTSIDE_TOKEN_TEAMS
    team = None if q.team_id is None else q.directory.teams.get(q.team_id)
    if team is not None and not team.active and not _manages_team(q):
        return Reason.TEAM_INACTIVE
    return None if q.is_admin else Reason.NOT_A_MEMBER


def _lends_asked_tool(server: VirtualServer, q: Question) -> bool:
    """`lends_tools`, without asking again about the team that the tool itself belongs to, as is usual."""
    if server.visibility is TEAM and server.team_id == q.team_id:
        return server.enabled and (q.role is not None or _outside_team(q) is None)
    return lends_tools(server, q.principal, q.directory, q.at)


def _manages_team(q: Question) -> bool:
    """A deactivated team grants nothing, but a platform admin must be able to see it and activate it again."""
    return type(q.target) is Team and q.is_admin


def _question(
    principal: Principal, permission: Permission, target: Target, directory: Directory, at: float
) -> Question:
    audience, team_id, owner_id, on = _standing(target, directory)
    user = directory.users.get(principal.user_id)
    reach = principal.scope.teams
    in_reach = team_id in reach.ids if type(reach) is OnlyTeams else True
    role = directory.role_in(principal.user_id, team_id) if in_reach and team_id is not None else None
    is_admin = in_reach and user is not None and user.platform_admin
    return Question(
        principal, permission, target, directory, at, user, audience, team_id, owner_id, on, in_reach, role, is_admin
    )


def _standing(target: Target, directory: Directory) -> tuple[Audience, TeamId | None, UserId | None, bool]:
    """To whom the target is open (a tool by its own visibility and team, or else its upstream's), and if it is on."""
    if type(target) is Tool:
        upstream = directory.upstreams.get(target.upstream_id)
        if upstream is None:
            return PRIVATE, None, None, False
        visibility, team_id = target.visibility or upstream.visibility, target.team_id or upstream.team_id
        return visibility, team_id, upstream.owner_id, target.enabled and target.offered and upstream.enabled
    if type(target) is VirtualServer or type(target) is Upstream:
        return target.visibility, target.team_id, target.owner_id, target.enabled
    if type(target) is Team:
        return TEAM, target.id, None, True
    if type(target) is User:
        return PERSONAL, None, target.id, True
    if type(target) is Token:
        return PERSONAL, None, target.user_id, True
    return PERSONAL, None, None, True
