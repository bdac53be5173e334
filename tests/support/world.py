"""A small world that many tests share: two teams, their people, three upstreams, one virtual server.

alice develops in payments, vera views it, olga owns it; bob develops in search; root is platform admin; zoe is nobody.
`clock` is payments' own (team), `diary` is olga's (private, payments), `web` is public.
"""

from sluicegate.core.catalog import (
    Entity,
    Membership,
    NoAuth,
    Team,
    Tool,
    ToolSelector,
    Upstream,
    User,
    VirtualServer,
    Visibility,
    membership_id,
)
from sluicegate.core.directory import Directory
from sluicegate.core.identity import (
    AllPermissions,
    AllServers,
    AllTeams,
    OnlyPermissions,
    OnlyServers,
    OnlyTeams,
    Principal,
    ServerId,
    TeamId,
    TokenId,
    TokenScope,
    ToolId,
    UpstreamId,
    UserId,
)
from sluicegate.core.permissions import Permission, Role

NOW = 1_800_000_000.0
PAYMENTS, SEARCH = TeamId("team_payments"), TeamId("team_search")
ALICE, VERA, OLGA, BOB, ROOT, ZOE = (UserId(f"usr_{name}") for name in ("alice", "vera", "olga", "bob", "root", "zoe"))
CLOCK, DIARY, WEB = (UpstreamId(f"ups_{slug}") for slug in ("clock", "diary", "web"))
SUPPORT = ServerId("srv_support")


def team(id: TeamId, slug: str, *, active: bool = True) -> Team:
    return Team(id, slug, slug.capitalize(), active)


def user(id: UserId, *, active: bool = True, admin: bool = False) -> User:
    return User(id, f"{id.removeprefix('usr_')}@example.com", active, admin)


def member(user_id: UserId, team_id: TeamId, role: Role) -> Membership:
    return Membership(membership_id(user_id, team_id), user_id, team_id, role)


def upstream(
    id: UpstreamId, *, team: TeamId | None, visibility: Visibility, owner: UserId | None = None, enabled: bool = True
) -> Upstream:
    slug = id.removeprefix("ups_")
    url = f"http://127.0.0.1:9/{slug}"
    return Upstream(id, slug, url, team, owner, visibility, enabled, NoAuth(), None, None, ())


def tool(
    upstream_id: UpstreamId,
    name: str,
    *,
    visibility: Visibility | None = None,
    team: TeamId | None = None,
    enabled: bool = True,
    offered: bool = True,
) -> Tool:
    id = ToolId(f"tool_{upstream_id.removeprefix('ups_')}_{name}")
    definition = '{"description":"does ' + name + '","inputSchema":{"type":"object"}}'
    return Tool(id, upstream_id, name, definition, visibility, team, enabled, offered)


def server(*selectors: str | ToolSelector, visibility: Visibility = Visibility.TEAM) -> VirtualServer:
    tools = tuple(ToolSelector(each) if isinstance(each, str) else each for each in selectors)
    return VirtualServer(SUPPORT, "support", PAYMENTS, None, visibility, True, tools)


def entities() -> list[Entity]:
    return [
        team(PAYMENTS, "payments"),
        team(SEARCH, "search"),
        *(user(id) for id in (ALICE, VERA, OLGA, BOB, ZOE)),
        user(ROOT, admin=True),
        member(ALICE, PAYMENTS, Role.DEVELOPER),
        member(VERA, PAYMENTS, Role.VIEWER),
        member(OLGA, PAYMENTS, Role.OWNER),
        member(BOB, SEARCH, Role.DEVELOPER),
        upstream(CLOCK, team=PAYMENTS, visibility=Visibility.TEAM),
        upstream(DIARY, team=PAYMENTS, visibility=Visibility.PRIVATE, owner=OLGA),
        upstream(WEB, team=None, visibility=Visibility.PUBLIC),
        tool(CLOCK, "now"),
        tool(CLOCK, "sleep"),
        tool(DIARY, "write"),
        tool(WEB, "fetch"),
        server("clock__*", "web__fetch"),
    ]


def world(*changed: Entity) -> Directory:
    """The world, with each of `changed` in the place of the entity that has its id."""
    replaced = {entity.id: entity for entity in changed}  # type: ignore[attr-defined]
    kept = [entity for entity in entities() if entity.id not in replaced]  # type: ignore[attr-defined]
    return Directory("epoch", 1, [*kept, *changed])


def principal(
    user_id: UserId,
    *,
    teams: list[TeamId] | None = None,
    servers: list[ServerId] | None = None,
    permissions: list[Permission] | None = None,
    expires_at: float = NOW + 3600,
) -> Principal:
    """A principal whose claims are absent unless given."""
    scope = TokenScope(
        AllTeams() if teams is None else OnlyTeams(frozenset(teams)),
        AllServers() if servers is None else OnlyServers(frozenset(servers)),
        AllPermissions() if permissions is None else OnlyPermissions(frozenset(permissions)),
    )
    return Principal(user_id, TokenId(f"tok_{user_id}"), scope, expires_at)
