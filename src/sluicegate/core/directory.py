"""The whole authorization and routing state in memory, changed only by `apply`, one revision at a time.

Plain dictionaries, mutated synchronously: whoever reads it without an `await` in between sees one consistent world.
There may be a million memberships, so what many entities hold in common they share: an id is one string, and a role in
a team one pair. Types are compared by `type(x) is`: `isinstance` of a Struct that is none takes five times as long.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sized
from operator import itemgetter
from typing import TypeVar

from msgspec import Struct, msgpack

from sluicegate.core.catalog import (
    Entity,
    Kind,
    Membership,
    Selection,
    Team,
    Terms,
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
NO_TERMS: Mapping[Terms, int] = {}
DIGEST = (1 << 64) - 1
TABLES = {
    Kind.TEAM: "teams",
    Kind.USER: "users",
    Kind.UPSTREAM: "upstreams",
    Kind.TOOL: "tools",
    Kind.SERVER: "servers",
    Kind.TOKEN: "tokens",
}
NOT_LISTED = (Kind.USER, Kind.MEMBERSHIP, Kind.TOKEN)
"""Kinds that no MCP list shows."""

WITHIN = "\x1f"
"""Between a team's id and a role in `role_text`: no id holds it, and it sorts before what ids hold."""

RoleIn = tuple[TeamId, Role]
IndexedT = TypeVar("IndexedT", bound=Entity)
team_of = itemgetter(0)
_ENCODER = msgpack.Encoder()


class Roles(Struct, frozen=True):
    """All memberships of one user, in the order of the teams' ids: so they are kept, and best loaded."""

    user_id: UserId
    held: tuple[RoleIn, ...]
    weight: int
    """The sum of the hashes of `role_text` of each."""


def role_text(team_id: TeamId, role: Role) -> str:
    """A role in a team as one text; texts are in the order of the teams' ids."""
    return team_id + WITHIN + role


def fingerprint(entity: Entity | Roles) -> int:
    """What the entity adds to a digest; good within this process. `Roles` adds what its memberships would.

    It is made of hashes of texts: those of tuples are too regular to be added, and a swap would often go unnoticed.
    """
    if type(entity) is Roles:
        return hash(entity.user_id) * entity.weight
    if type(entity) is Membership:
        return hash(entity.user_id) * hash(role_text(entity.team_id, entity.role))
    if type(entity) is Tool:
        definition = entity.definition
        described = hash(definition) if isinstance(definition, str) else definition.hash_of(entity.name)
        return hash(_ENCODER.encode((entity.id, entity.upstream_id, entity.name, described, entity.terms)))
    return hash(_ENCODER.encode(entity))


def digest_of(entities: Iterable[Entity | Roles]) -> int:
    """The sum of the fingerprints, in whatever order; good within this process."""
    return sum(map(fingerprint, entities)) & DIGEST


class RevisionGap(Exception):
    """The change is not the next one: the directory must be loaded anew."""


class Directory:
    """All entities by id, the indexes that decisions need, and the revision they stand at."""

    def __init__(self, epoch: str, revision: int, entities: Iterable[Entity | Roles], tokens_from: int = 0) -> None:
        self.epoch = epoch
        self.revision = revision
        self.catalog_revision = revision
        """The last change of what lists show: of anything but users, memberships and tokens."""
        self.tokens_from = tokens_from
        """Unix seconds: tokens that expired before are left out, also when a change brings one."""
        self.digest = 0
        """An order-independent hash of all entities, good within this process: the sum of their fingerprints."""
        self.selections: dict[ServerId, Selection] = {}
        """What `routing.selection_of` has worked out; emptied by each change of an upstream, tool or server."""
        self.teams: dict[TeamId, Team] = {}
        self.users: dict[UserId, User] = {}
        self.upstreams: dict[UpstreamId, Upstream] = {}
        self.tools: dict[ToolId, Tool] = {}
        self.servers: dict[ServerId, VirtualServer] = {}
        self.tokens: dict[TokenId, Token] = {}
        self._roles: dict[UserId, tuple[RoleIn, ...]] = {}
        self._shared_roles: dict[RoleIn, RoleIn] = {}
        self._team_by_slug: dict[str, Team] = {}
        self._user_by_email: dict[str, User] = {}
        self._upstream_by_slug: dict[str, Upstream] = {}
        self._server_by_slug: dict[str, VirtualServer] = {}
        self._tools_by_upstream: dict[UpstreamId, dict[str, Tool]] = {}
        self._terms_by_upstream: dict[UpstreamId, dict[Terms, int]] = {}
        for entity in entities:
            self._put(entity)

    def __len__(self) -> int:
        """How many entities it holds."""
        tables: list[Sized] = [getattr(self, name) for name in TABLES.values()]
        return sum(map(len, tables)) + sum(map(len, self._roles.values()))

    def apply(self, change: Change) -> None:
        """Move to the next revision. Raises RevisionGap, with nothing changed, unless `change` is exactly that."""
        if change.rev != self.revision + 1:
            raise RevisionGap(f"at revision {self.revision}, got {change.rev}")
        self._remove(change.kind, change.key)
        if change.entity is not None:
            self._put(change.entity)
        self.revision = change.rev
        if change.kind not in NOT_LISTED:
            self.catalog_revision = change.rev
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

    def terms_of(self, upstream_id: UpstreamId) -> Mapping[Terms, int]:
        """The terms on which the upstream's tools stand, and how many stand on each: mostly all on the same."""
        return self._terms_by_upstream.get(upstream_id, NO_TERMS)

    def roles_of(self, user_id: UserId) -> tuple[RoleIn, ...]:
        """The user's memberships; teams that are not active are among them."""
        return self._roles.get(user_id, ())

    def role_in(self, user_id: UserId, team_id: TeamId) -> Role | None:
        """The user's role in the team, if both are there and the team is active."""
        team = self.teams.get(team_id)
        if team is None or not team.active:
            return None
        roles = self._roles.get(user_id, ())
        place = bisect_left(roles, team_id, key=team_of)  # a user may be in thousands
        return roles[place][1] if place < len(roles) and roles[place][0] == team_id else None

    def members_of(self, team_id: TeamId) -> list[tuple[UserId, Role]]:
        """Who is in the team; walks all users, for administration only."""
        found = ((user_id, _role(roles, team_id)) for user_id, roles in self._roles.items())
        return [(user_id, role) for user_id, role in found if role is not None]

    def _put(self, entity: Entity | Roles) -> None:
        if type(entity) is Token:
            if entity.expires_at < self.tokens_from:
                return
            self.tokens[entity.id] = entity
        elif type(entity) is User:
            self.users[entity.id] = entity
            self._user_by_email[_address(entity)] = entity
        elif type(entity) is Tool:
            self._put_tool(entity)
        elif type(entity) is Roles:
            self._roles[entity.user_id] = entity.held
        elif type(entity) is Membership:
            self._put_membership(entity)
        elif type(entity) is Team:
            self.teams[entity.id] = entity
            self._team_by_slug[entity.slug] = entity
        elif type(entity) is Upstream:
            self.upstreams[entity.id] = entity
            self._upstream_by_slug[entity.slug] = entity
        elif type(entity) is VirtualServer:
            self.servers[entity.id] = entity
            self._server_by_slug[entity.slug] = entity
        self.digest = (self.digest + fingerprint(entity)) & DIGEST

    def _put_tool(self, tool: Tool) -> None:
        self.tools[tool.id] = tool
        self._tools_by_upstream.setdefault(tool.upstream_id, {})[tool.name] = tool
        counts, terms = self._terms_by_upstream.setdefault(tool.upstream_id, {}), tool.terms
        counts[terms] = counts.get(terms, 0) + 1

    def _put_membership(self, membership: Membership) -> None:
        team, user = self.teams.get(membership.team_id), self.users.get(membership.user_id)
        held = (membership.team_id if team is None else team.id, membership.role)
        user_id = membership.user_id if user is None else user.id
        shared = self._shared_roles.setdefault(held, held)
        self._roles[user_id] = tuple(sorted((*self._roles.get(user_id, ()), shared), key=team_of))

    def _remove(self, kind: Kind, key: str) -> None:
        if kind is Kind.MEMBERSHIP:
            self._remove_membership(key)
            return
        table: dict[str, Entity] = getattr(self, TABLES[kind])
        gone = table.pop(key, None)
        if gone is None:
            return
        self.digest = (self.digest - fingerprint(gone)) & DIGEST
        if type(gone) is Tool:
            self._forget_tool(gone)
        elif type(gone) is User:
            _forget(self._user_by_email, _address(gone), gone)
        elif type(gone) is Team:
            _forget(self._team_by_slug, gone.slug, gone)
        elif type(gone) is Upstream:
            _forget(self._upstream_by_slug, gone.slug, gone)
        elif type(gone) is VirtualServer:
            _forget(self._server_by_slug, gone.slug, gone)

    def _forget_tool(self, tool: Tool) -> None:
        _forget(self._tools_by_upstream[tool.upstream_id], tool.name, tool)
        counts, terms = self._terms_by_upstream[tool.upstream_id], tool.terms
        counts[terms] -= 1
        if not counts[terms]:
            del counts[terms]

    def _remove_membership(self, key: str) -> None:
        user_id, _, team_id = key.partition("/")
        roles = self._roles.get(UserId(user_id), ())
        role = _role(roles, TeamId(team_id))
        if role is None:
            return
        gone = Membership(key, UserId(user_id), TeamId(team_id), role)
        self.digest = (self.digest - fingerprint(gone)) & DIGEST
        kept = tuple(held for held in roles if held[0] != team_id)
        if kept:
            self._roles[UserId(user_id)] = kept
        else:
            del self._roles[UserId(user_id)]


def _role(roles: tuple[RoleIn, ...], team_id: TeamId) -> Role | None:
    place = bisect_left(roles, team_id, key=team_of)
    return roles[place][1] if place < len(roles) and roles[place][0] == team_id else None


def _address(user: User) -> str:
    """The key of the user's address: its own string where that is in lower case already."""
    lowered = user.email.lower()
    return user.email if user.email == lowered else lowered


def _forget(index: dict[str, IndexedT], name: str, entity: IndexedT) -> None:
    """Removes the entity from the index, unless another one of the same transaction has taken the name over."""
    if index.get(name) is entity:
        del index[name]
