"""What the API shows of each object to one caller: nothing of others that this caller may not see, and no credential.

Teams, owners and selectors stand in an object's answer only for those who may see what they name.
"""

from msgspec import Raw
from msgspec.structs import asdict

from sluicegate.core.catalog import BearerAuth, Team, Token, Tool, ToolSelector, Upstream, User, VirtualServer
from sluicegate.core.identity import TeamId, UserId
from sluicegate.core.permissions import Permission
from sluicegate.core.routing import selection_of
from sluicegate.protocol.tools import rendered
from sluicegate.usecases.applied import Applied
from sluicegate.usecases.calling import Caller
from sluicegate.usecases.manage_teams import Member
from sluicegate.usecases.manage_tokens import IssuedToken
from sluicegate.usecases.manage_tools import name_of, place_of
from sluicegate.usecases.manage_upstreams import Registered, SyncFailure
from sluicegate.usecases.sync_upstream import SyncReport
from sluicegate.web.rest.answers import (
    AuthView,
    IssuedTokenView,
    MembershipView,
    MemberView,
    RegisteredView,
    RevokedTokenView,
    SelectedToolView,
    SelectorView,
    ServerDetailView,
    ServerView,
    SyncErrorView,
    SyncView,
    TeamView,
    TokenView,
    ToolView,
    UpstreamView,
    UserView,
)
from sluicegate.web.rest.applied import instances_view


def team_view(team: Team) -> TeamView:
    """The team, to whom may read it."""
    return TeamView(team.id, team.slug, team.name, team.active)


def member_view(member: Member) -> MemberView:
    """The member, to whom may read the team."""
    return MemberView(member.user.id, member.user.email, member.role)


def user_view(user: User, caller: Caller) -> UserView:
    """The account with its memberships in teams that the caller may see."""
    directory = caller.directory
    teams = [(directory.teams[team_id], role) for team_id, role in directory.roles_of(user.id)]
    seen = [MembershipView(team.slug, role) for team, role in teams if caller.sees(Permission.TEAMS_READ, team)]
    return UserView(user.id, user.email, user.active, user.platform_admin, seen)


def upstream_view(upstream: Upstream, caller: Caller) -> UpstreamView:
    """The upstream, to whom may read it."""
    manages = caller.may(Permission.UPSTREAMS_MANAGE, upstream)
    return UpstreamView(
        id=upstream.id,
        slug=upstream.slug,
        url=upstream.url if manages else upstream.url.partition("?")[0],
        team=_team(upstream.team_id, caller),
        owner=_owner(upstream.owner_id, caller),
        visibility=upstream.visibility,
        enabled=upstream.enabled,
        auth=AuthView("bearer" if isinstance(upstream.auth, BearerAuth) else "none"),
        era=upstream.era,
        protocol_version=upstream.protocol_version,
        sync_warnings=list(upstream.sync_warnings),
    )


def registered_view(registered: Registered, caller: Caller) -> RegisteredView:
    """The upstream as the directory knows it since it was synchronised, and what that brought."""
    upstream = caller.directory.upstreams.get(registered.upstream.id, registered.upstream)
    sync = registered.sync
    shown: SyncView | None = None
    if isinstance(sync, SyncFailure):
        shown = SyncView(ok=False, error=SyncErrorView(sync.code, sync.detail))
    elif isinstance(sync, SyncReport):
        shown = sync_view(sync)
    return RegisteredView(upstream_view(upstream, caller), shown)


def sync_view(report: SyncReport) -> SyncView:
    """A synchronisation that went through."""
    return SyncView(True, report.offered, report.added, report.changed, report.withdrawn, list(report.warnings))


def tool_view(tool: Tool, caller: Caller) -> ToolView:
    """The tool, to whom may read it."""
    directory = caller.directory
    upstream = directory.upstreams[tool.upstream_id]
    place = place_of(tool, upstream)
    return ToolView(
        id=tool.id,
        public_name=name_of(tool, directory),
        upstream=upstream.slug,
        visibility=place.visibility,
        visibility_override=tool.visibility,
        team=_team(place.team_id, caller),
        team_override=_team(tool.team_id, caller),
        enabled=tool.enabled,
        offered=tool.offered,
        definition=Raw(rendered(tool.name, tool.described)),
    )


def server_view(server: VirtualServer, caller: Caller) -> ServerView:
    """The virtual server, to whom may read it."""
    return ServerView(
        id=server.id,
        slug=server.slug,
        team=_team(server.team_id, caller),
        owner=_owner(server.owner_id, caller),
        visibility=server.visibility,
        enabled=server.enabled,
        selectors=_selectors(server.tools) if caller.may(Permission.SERVERS_MANAGE, server) else None,
    )


def server_detail_view(server: VirtualServer, caller: Caller) -> ServerDetailView:
    """The virtual server with those of its tools that the caller may read, by name."""
    plain = server_view(server, caller)
    selected = sorted(selection_of(server, caller.directory).by_name.items())
    tools = [
        SelectedToolView(name, name_of(tool, caller.directory), tool.id)
        for name, tool in selected
        if caller.may(Permission.TOOLS_READ, tool)
    ]
    return ServerDetailView(**asdict(plain), tools=tools)


def token_view(token: Token) -> TokenView:
    """The token's row, to whom may read it."""
    return TokenView(
        id=token.id,
        name=token.name,
        user=token.user_id,
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
        teams=_claim(token.teams),
        servers=_claim(token.servers),
        permissions=_claim(token.permissions),
    )


def revoked_token_view(token: Token, applied: Applied | None) -> RevokedTokenView:
    """The token's row, and which instances refuse the token already."""
    return RevokedTokenView(**asdict(token_view(token)), instances=instances_view(applied))


def issued_token_view(issued: IssuedToken) -> IssuedTokenView:
    """The token's row and its secret, to whom it was issued."""
    return IssuedTokenView(**asdict(token_view(issued.row)), token=issued.secret)


def _team(team_id: TeamId | None, caller: Caller) -> str | None:
    team = None if team_id is None else caller.directory.teams.get(team_id)
    return team.slug if team is not None and caller.sees(Permission.TEAMS_READ, team) else None


def _owner(owner_id: UserId | None, caller: Caller) -> str | None:
    owner = None if owner_id is None else caller.directory.users.get(owner_id)
    return owner.id if owner is not None and caller.sees(Permission.USERS_READ, owner) else None


def _selectors(tools: tuple[ToolSelector, ...]) -> list[SelectorView]:
    return [SelectorView(selector.tool, selector.alias) for selector in tools]


def _claim(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)
