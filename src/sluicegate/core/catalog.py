"""The things that are known: teams and their members, upstreams, their tools, virtual servers, tokens.

Each Struct is one entity: its fields are the columns of its table, and its JSON is the payload of its row in the
revision log. Slugs are `[a-z0-9-]`; ids carry a prefix with an underscore, so no id can be mistaken for a slug.
"""

import re
import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from sluicegate.core.definitions import Sealed
from sluicegate.core.errors import InvalidInput
from sluicegate.core.identity import ServerId, TeamId, TokenId, ToolId, UpstreamId, UserId
from sluicegate.core.permissions import Role

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
SEPARATOR = "__"
"""Between an upstream's slug and the tool's own name. Slugs hold no underscore: the first one splits without doubt."""


class Visibility(StrEnum):
    """Who may see an object: its owner, its team, or anyone authenticated."""

    PRIVATE = "private"
    TEAM = "team"
    PUBLIC = "public"


class Era(StrEnum):
    """How an MCP peer speaks: with `_meta` in each request (2026-07-28 on), or after an `initialize`."""

    MODERN = "modern"
    LEGACY = "legacy"


class Entity(Struct, frozen=True, gc=False):
    """A row that decides about access or routing; every change of one goes through the revision log."""


class Team(Entity, frozen=True, gc=False):
    id: TeamId
    slug: str
    name: str
    active: bool


class User(Entity, frozen=True, gc=False):
    id: UserId
    email: str
    active: bool
    platform_admin: bool


class Membership(Entity, frozen=True, gc=False):
    """`id` is `membership_id(user_id, team_id)`: one role per user and team."""

    id: str
    user_id: UserId
    team_id: TeamId
    role: Role


class BearerAuth(Struct, frozen=True, gc=False, tag="bearer"):
    """`Authorization: Bearer` with a secret that is sealed by `upstream.credentials`; never shown again."""

    sealed: str


class NoAuth(Struct, frozen=True, gc=False, tag="none"):
    """The upstream asks for no credential."""


UpstreamAuth = NoAuth | BearerAuth


class Upstream(Entity, frozen=True, gc=False):
    """An MCP server that we proxy to, over streamable HTTP. `era` is what the last probe found, if there was one."""

    id: UpstreamId
    slug: str
    url: str
    team_id: TeamId | None
    owner_id: UserId | None
    visibility: Visibility
    enabled: bool
    auth: UpstreamAuth
    era: Era | None
    protocol_version: str | None
    sync_warnings: tuple[str, ...]


Terms = tuple[Visibility | None, TeamId | None, bool, bool]
"""A tool's `visibility`, `team_id`, `enabled` and `offered`."""


class Tool(Entity, frozen=True, gc=False):
    """A tool as its upstream described it. `definition` is that JSON object without `name`, otherwise byte for byte;
    in a directory it may be sealed together with others, so read it as `described`.

    `visibility` and `team_id` override the upstream's, and survive a refresh; `None` inherits. `offered` is false while
    the upstream does not list the tool: the row stays, so that its override is there when the tool returns.
    """

    id: ToolId
    upstream_id: UpstreamId
    name: str
    definition: str | Sealed
    visibility: Visibility | None
    team_id: TeamId | None
    enabled: bool
    offered: bool

    @property
    def described(self) -> str:
        """The definition as text."""
        return self.definition if isinstance(self.definition, str) else self.definition.text(self.name)

    @property
    def terms(self) -> Terms:
        """What decisions look at besides the upstream: tools of one upstream on equal terms are open to the same."""
        return self.visibility, self.team_id, self.enabled, self.offered


class ToolSelector(Struct, frozen=True, gc=False):
    """`tool` is a public name whose part after the first `__` may hold `*`; `alias` is its name on the endpoint."""

    tool: str
    alias: str | None = None


class VirtualServer(Entity, frozen=True, gc=False):
    """A named selection of tools that a client connects to."""

    id: ServerId
    slug: str
    team_id: TeamId | None
    owner_id: UserId | None
    visibility: Visibility
    enabled: bool
    tools: tuple[ToolSelector, ...]


class Selection(Struct, frozen=True, gc=False):
    """What a virtual server selects, by the names on its endpoint."""

    by_name: Mapping[str, Tool]
    ids: frozenset[ToolId]


class Token(Entity, frozen=True, gc=False):
    """What is known of an issued token; never its secret. Times are Unix seconds; lists are the claims as issued."""

    id: TokenId
    user_id: UserId
    name: str
    created_at: int
    expires_at: int
    revoked_at: int | None
    teams: tuple[str, ...] | None
    servers: tuple[str, ...] | None
    permissions: tuple[str, ...] | None


class Kind(StrEnum):
    """The kinds of entity, as the revision log names them."""

    TEAM = "team"
    USER = "user"
    MEMBERSHIP = "membership"
    UPSTREAM = "upstream"
    TOOL = "tool"
    SERVER = "server"
    TOKEN = "token"


ENTITIES: dict[Kind, type[Entity]] = {
    Kind.TEAM: Team,
    Kind.USER: User,
    Kind.MEMBERSHIP: Membership,
    Kind.UPSTREAM: Upstream,
    Kind.TOOL: Tool,
    Kind.SERVER: VirtualServer,
    Kind.TOKEN: Token,
}
"""In an order in which a referenced kind comes before the kinds that refer to it."""

KIND_OF: dict[type[Entity], Kind] = {entity: kind for kind, entity in ENTITIES.items()}

IdPrefix = Literal["team", "usr", "ups", "tool", "srv", "tok"]


def new_id(prefix: IdPrefix) -> str:
    """A fresh id with 128 random bits, for example `usr_4f…`. The underscore keeps ids and slugs apart."""
    return f"{prefix}_{secrets.token_hex(16)}"


def membership_id(user_id: UserId, team_id: TeamId) -> str:
    """The id of the one membership that `user_id` can have in `team_id`."""
    return f"{user_id}/{team_id}"


def checked_slug(slug: str) -> str:
    """`slug` itself, or InvalidInput that says how a slug looks."""
    if not SLUG.fullmatch(slug):
        raise InvalidInput(
            f"`{slug[:80]}` is not a slug: use 1 to 63 of a-z, 0-9 and -, starting and ending with a letter or digit",
            code="invalid_slug",
        )
    return slug


def public_name(upstream_slug: str, tool_name: str) -> str:
    """The name of a tool on the merged endpoint."""
    return f"{upstream_slug}{SEPARATOR}{tool_name}"
