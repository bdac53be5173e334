"""Permissions, and what each role gives. A role is held in one team; `platform_admin` is held on the platform."""

from enum import StrEnum


class Permission(StrEnum):
    """`noun:verb`. Used in token scopes, in the route tables and in the `scope` of a 403."""

    TOOLS_READ = "tools:read"
    TOOLS_CALL = "tools:call"
    TOOLS_MANAGE = "tools:manage"
    RESOURCES_READ = "resources:read"
    PROMPTS_GET = "prompts:get"
    SERVERS_READ = "servers:read"
    SERVERS_USE = "servers:use"
    SERVERS_MANAGE = "servers:manage"
    UPSTREAMS_READ = "upstreams:read"
    UPSTREAMS_MANAGE = "upstreams:manage"
    TEAMS_READ = "teams:read"
    TEAMS_MANAGE = "teams:manage"
    USERS_READ = "users:read"
    USERS_MANAGE = "users:manage"
    TOKENS_READ = "tokens:read"
    TOKENS_CREATE = "tokens:create"
    TOKENS_REVOKE = "tokens:revoke"
    PLATFORM_MANAGE = "platform:manage"


class Role(StrEnum):
    """What a member is in a team."""

    VIEWER = "viewer"
    DEVELOPER = "developer"
    OWNER = "owner"


_P = Permission

READING = frozenset({_P.TOOLS_READ, _P.SERVERS_READ, _P.UPSTREAMS_READ, _P.TEAMS_READ})
USING = frozenset({_P.TOOLS_CALL, _P.RESOURCES_READ, _P.PROMPTS_GET, _P.SERVERS_USE})
MANAGING = frozenset({_P.TOOLS_MANAGE, _P.UPSTREAMS_MANAGE, _P.SERVERS_MANAGE, _P.TEAMS_MANAGE})

ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: READING,
    Role.DEVELOPER: READING | USING,
    Role.OWNER: READING | USING | MANAGING,
}

EVERYONE_ON_PUBLIC = (READING | USING) - {_P.TEAMS_READ}
"""What any authenticated caller may do with a public object, whatever their teams."""

EVERYONE_ON_SELF = frozenset({_P.USERS_READ, _P.TOKENS_READ, _P.TOKENS_CREATE, _P.TOKENS_REVOKE})
"""What a user may do with their own account and tokens."""

ALL_PERMISSIONS = frozenset(Permission)
