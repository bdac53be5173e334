"""The shapes of what the API answers; `views` fills them."""

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct

from sluicegate.core.catalog import Era, Visibility
from sluicegate.core.permissions import Role


class TeamView(Struct, frozen=True):
    id: str
    slug: str
    name: str
    active: bool


class MemberView(Struct, frozen=True):
    user: Annotated[str, Meta(description="The user's id")]
    email: str
    role: Role


class MembershipView(Struct, frozen=True):
    team: Annotated[str, Meta(description="The team's slug")]
    role: Role


class UserView(Struct, frozen=True):
    id: str
    email: str
    active: bool
    platform_admin: bool
    teams: list[MembershipView]


class AuthView(Struct, frozen=True):
    """How we authenticate to the upstream; the credential itself is never shown."""

    type: Literal["none", "bearer"]


class UpstreamView(Struct, frozen=True):
    id: str
    slug: str
    url: Annotated[
        str, Meta(description="Without its query, in which some keep a key, for those who may not manage the upstream")
    ]
    team: Annotated[str | None, Meta(description="The team's slug; null when it has none, or one that you may not see")]
    owner: Annotated[
        str | None, Meta(description="The owner's user id; null when there is none, or one that you may not see")
    ]
    visibility: Visibility
    enabled: bool
    auth: AuthView
    era: Annotated[Era | None, Meta(description="How the upstream speaks, as the last synchronisation found it")]
    protocol_version: str | None
    sync_warnings: list[str]


class SyncErrorView(Struct, frozen=True):
    code: str
    detail: str


class SyncView(Struct, frozen=True):
    """What came of listing the upstream's tools; when `ok` is false nothing was changed, and `error` says why."""

    ok: bool
    offered: int = 0
    added: int = 0
    changed: int = 0
    withdrawn: int = 0
    warnings: list[str] = []
    error: SyncErrorView | None = None


class RegisteredView(Struct, frozen=True):
    upstream: UpstreamView
    sync: Annotated[SyncView | None, Meta(description="Null when there was no reason to list the tools")]


class ToolView(Struct, frozen=True):
    id: str
    public_name: Annotated[str, Meta(description="The tool's name on the merged endpoint")]
    upstream: Annotated[str, Meta(description="The upstream's slug")]
    visibility: Annotated[Visibility, Meta(description="What holds: the override, or else the upstream's")]
    visibility_override: Visibility | None
    team: Annotated[
        str | None,
        Meta(description="The slug of the team that holds; null when there is none, or one that you may not see"),
    ]
    team_override: str | None
    enabled: bool
    offered: Annotated[bool, Meta(description="Whether the upstream listed the tool when it was last asked")]
    definition: Annotated[
        Raw, Meta(description="The tool as its upstream described it, byte for byte, under its own name")
    ]


class SelectorView(Struct, frozen=True):
    tool: str
    alias: str | None


class SelectedToolView(Struct, frozen=True):
    name: Annotated[str, Meta(description="The tool's name on this server's endpoint")]
    public_name: str
    id: str


class ServerView(Struct, frozen=True):
    id: str
    slug: str
    team: str | None
    owner: str | None
    visibility: Visibility
    enabled: bool
    selectors: Annotated[
        list[SelectorView] | None, Meta(description="What the server selects; shown to those who may manage it")
    ]


class ServerDetailView(ServerView, frozen=True, kw_only=True):
    tools: Annotated[list[SelectedToolView], Meta(description="The tools that are selected now and that you may see")]


class TokenView(Struct, frozen=True):
    """Times are Unix seconds; the lists are the claims as issued, null for a claim that the token does not have."""

    id: str
    name: str
    user: Annotated[str, Meta(description="The user's id")]
    created_at: int
    expires_at: int
    revoked_at: int | None
    teams: list[str] | None
    servers: list[str] | None
    permissions: list[str] | None


class AwayView(Struct, frozen=True):
    """An instance that has not applied the change: it may be cut off, or have ended without saying so."""

    name: str
    revision: Annotated[int, Meta(description="Where it stood when it last reported")]
    trusted_until: Annotated[
        int,
        Meta(description="Unix seconds: it decides nothing without the change after this, whatever has become of it"),
    ]


class InstancesView(Struct, frozen=True):
    """Which of the instances that are known decide by the change."""

    applied: int
    known: int
    away: list[AwayView]


class RevokedTokenView(TokenView, frozen=True, kw_only=True):
    instances: Annotated[
        InstancesView | None,
        Meta(description="Null when it could not be learned in time; the token is revoked all the same"),
    ]


class IssuedTokenView(TokenView, frozen=True, kw_only=True):
    token: Annotated[str, Meta(description="The secret. It is shown this once")]
