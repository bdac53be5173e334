"""The whole authorization and routing state in memory, changed only by `apply`, one revision at a time.

Plain dictionaries, mutated synchronously: whoever reads it without an `await` in between sees one consistent world.
"""

from collections.abc import Iterable, Mapping

from sluicegate.core.catalog import (
    Entity,
    Kind,
    Membership,
    Selection,
    Team,
    Token,
    Tool,
    Upstream,
    User,
    VirtualServer,
)
from sluicegate.core.events import Change
from sluicegate.core.identity import ServerId, TeamId, TokenId, ToolId, UpstreamId, UserId
from sluicegate.core.permissions import Role

NO_TOOLS: Mapping[str, Tool] = {}


class RevisionGap(Exception):
    """The change is not the next one: the directory must be loaded anew."""


class Directory:
    """All entities by id, the indexes that decisions need, and the revision they stand at."""

    def __init__(self, epoch: str, revision: int, entities: Iterable[Entity]) -> None:
        self.epoch = epoch
        self.revision = revision
        self.selections: dict[ServerId, Selection] = {}
        """What `routing.selection_of` has worked out; emptied by each change of an upstream, tool or server."""
        self.teams: dict[TeamId, Team] = {}
        self.users: dict[UserId, User] = {}
        self.upstreams: dict[UpstreamId, Upstream] = {}
        self.tools: dict[ToolId, Tool] = {}
        self.servers: dict[ServerId, VirtualServer] = {}
        self.tokens: dict[TokenId, Token] = {}
        self._roles: dict[UserId, tuple[tuple[TeamId, Role], ...]] = {}
        self._team_by_slug: dict[str, Team] = {}
        self._user_by_email: dict[str, User] = {}
        self._upstream_by_slug: dict[str, Upstream] = {}
        self._server_by_slug: dict[str, VirtualServer] = {}
        self._tools_by_upstream: dict[UpstreamId, dict[str, Tool]] = {}
        for entity in entities:
            self._put(entity)

    def apply(self, change: Change) -> None:
        """Move to the next revision. Raises RevisionGap, with nothing changed, unless `change` is exactly that."""
        if change.rev != self.revision + 1:
            raise RevisionGap(f"at revision {self.revision}, got {change.rev}")
        self._remove(change.kind, change.key)
        if change.entity is not None:
            self._put(change.entity)
        self.revision = change.rev
        if change.kind in (Kind.UPSTREAM, Kind.TOOL, Kind.SERVER):
            self.selections.clear()

    def team(self, name: str) -> Team | None:
        """The team with this slug or id."""
        return self._team_by_slug.get(name) or self.teams.get(TeamId(name))

    def user(self, name: str) -> User | None:
        """The user with this email address (in any case) or id."""
        return self.users.get(UserId(name)) or self._user_by_email.get(name.lower())

    def upstream(self, name: str) -> Upstream | None:
        """The upstream with this slug or id."""
        return self._upstream_by_slug.get(name) or self.upstreams.get(UpstreamId(name))

    def upstream_by_slug(self, slug: str) -> Upstream | None:
        """The upstream with this slug; an id is not accepted, as public names hold slugs."""
        return self._upstream_by_slug.get(slug)

    def server(self, name: str) -> VirtualServer | None:
        """The virtual server with this slug or id."""
        return self._server_by_slug.get(name) or self.servers.get(ServerId(name))

    def tools_of(self, upstream_id: UpstreamId) -> Mapping[str, Tool]:
        """The upstream's tools by their own names, also those that it does not offer now."""
        return self._tools_by_upstream.get(upstream_id, NO_TOOLS)

    def roles_of(self, user_id: UserId) -> tuple[tuple[TeamId, Role], ...]:
        """The user's memberships; teams that are not active are among them."""
        return self._roles.get(user_id, ())

    def role_in(self, user_id: UserId, team_id: TeamId) -> Role | None:
        """The user's role in the team, if both are there and the team is active."""
        team = self.teams.get(team_id)
        if team is None or not team.active:
            return None
        for member_of, role in self._roles.get(user_id, ()):
            if member_of == team_id:
                return role
        return None

    def members_of(self, team_id: TeamId) -> list[tuple[UserId, Role]]:
        """Who is in the team; walks all users, for administration only."""
        return [(user, role) for user, roles in self._roles.items() for team, role in roles if team == team_id]

    def _put(self, entity: Entity) -> None:
        if isinstance(entity, Tool):
            self.tools[entity.id] = entity
            self._tools_by_upstream.setdefault(entity.upstream_id, {})[entity.name] = entity
        elif isinstance(entity, Membership):
            self._roles[entity.user_id] = (*self._roles.get(entity.user_id, ()), (entity.team_id, entity.role))
        elif isinstance(entity, User):
            self.users[entity.id] = entity
            self._user_by_email[entity.email.lower()] = entity
        elif isinstance(entity, Team):
            self.teams[entity.id] = entity
            self._team_by_slug[entity.slug] = entity
        elif isinstance(entity, Upstream):
            self.upstreams[entity.id] = entity
            self._upstream_by_slug[entity.slug] = entity
        elif isinstance(entity, VirtualServer):
            self.servers[entity.id] = entity
            self._server_by_slug[entity.slug] = entity
        elif isinstance(entity, Token):
            self.tokens[entity.id] = entity

    def _remove(self, kind: Kind, key: str) -> None:
        if kind is Kind.TOOL:
            if tool := self.tools.pop(ToolId(key), None):
                del self._tools_by_upstream[tool.upstream_id][tool.name]
        elif kind is Kind.MEMBERSHIP:
            user_id, _, team_id = key.partition("/")
            roles = tuple(pair for pair in self._roles.pop(UserId(user_id), ()) if pair[0] != team_id)
            if roles:
                self._roles[UserId(user_id)] = roles
        elif kind is Kind.USER:
            if user := self.users.pop(UserId(key), None):
                del self._user_by_email[user.email.lower()]
        elif kind is Kind.TEAM:
            if team := self.teams.pop(TeamId(key), None):
                del self._team_by_slug[team.slug]
        elif kind is Kind.UPSTREAM:
            if upstream := self.upstreams.pop(UpstreamId(key), None):
                del self._upstream_by_slug[upstream.slug]
        elif kind is Kind.SERVER:
            if server := self.servers.pop(ServerId(key), None):
                del self._server_by_slug[server.slug]
        else:
            self.tokens.pop(TokenId(key), None)
