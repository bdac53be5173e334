"""Who a request acts for, and how far the token lets it reach.

Every claim follows one rule: absent inherits, a list narrows, an empty list gives nothing. "Absent" is a value of its
own (`AllTeams`, `AllServers`, `AllPermissions`), so that power is always spelled out and never a `None`.
"""

from typing import NewType

from msgspec import Struct

from sluicegate.core.permissions import Permission

UserId = NewType("UserId", str)
TeamId = NewType("TeamId", str)
UpstreamId = NewType("UpstreamId", str)
ToolId = NewType("ToolId", str)
ServerId = NewType("ServerId", str)
TokenId = NewType("TokenId", str)
InstanceId = NewType("InstanceId", str)
"""One worker process of the gateway, from its start to its end."""


class AllTeams(Struct, frozen=True, gc=False):
    """Every team the user is a member of at the moment of the decision."""


class OnlyTeams(Struct, frozen=True, gc=False):
    """These teams, as far as the user is a member of them at the moment of the decision."""

    ids: frozenset[TeamId]


class AllServers(Struct, frozen=True, gc=False):
    """Any virtual server the user may reach, and the merged endpoint."""


class OnlyServers(Struct, frozen=True, gc=False):
    """These virtual servers and the tools that they select, nothing else."""

    ids: frozenset[ServerId]


class AllPermissions(Struct, frozen=True, gc=False):
    """All that the user's roles give."""


class OnlyPermissions(Struct, frozen=True, gc=False):
    """These permissions, as far as the user's roles give them."""

    items: frozenset[Permission]


Reach = AllTeams | OnlyTeams
ServerReach = AllServers | OnlyServers
Allowance = AllPermissions | OnlyPermissions


class TokenScope(Struct, frozen=True, gc=False):
    """How far a token narrows its user. It never widens."""

    teams: Reach
    servers: ServerReach
    permissions: Allowance

    def within(self, wider: "TokenScope") -> bool:
        """True when this scope gives nothing that `wider` does not give: the rule for minting a token with a token."""
        teams = isinstance(wider.teams, AllTeams) or (
            isinstance(self.teams, OnlyTeams) and self.teams.ids <= wider.teams.ids
        )
        servers = isinstance(wider.servers, AllServers) or (
            isinstance(self.servers, OnlyServers) and self.servers.ids <= wider.servers.ids
        )
        permissions = isinstance(wider.permissions, AllPermissions) or (
            isinstance(self.permissions, OnlyPermissions) and self.permissions.items <= wider.permissions.items
        )
        return teams and servers and permissions


UNNARROWED = TokenScope(AllTeams(), AllServers(), AllPermissions())


class Principal(Struct, frozen=True, gc=False):
    """Who a request acts for. Made once per request by the authenticator; nothing after it reads the token again."""

    user_id: UserId
    token_id: TokenId
    scope: TokenScope
    expires_at: float
    """Unix seconds."""
